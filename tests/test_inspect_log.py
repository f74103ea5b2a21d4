"""The importer of Inspect's logs on real ones in both forms, and on what it must refuse."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.outcomes.importers import upstream
from satjax.outcomes.importers.inspect_log import import_inspect
from satjax.outcomes.splits import split_of

DATA = Path(__file__).parent / "data" / "inspect"
EVAL = {"task": "sums", "model": "org/m", "dataset": {"name": "arithmetic"}}


def sample(number: int | str = 1, value: object = "C", **changes) -> dict:
    value = {"id": number, "epoch": 1, "input": f"Q {number}?", "target": "4", "scores": {"match": {"value": value}}}
    return value | changes


def write(folder: Path, *samples: object, form: str = "eval", name: str = "log", header: object = EVAL) -> Path:
    path = folder / f"{name}.{form}"
    if form == "json":
        path.write_text(json.dumps({"version": 2, "status": "success", "eval": header, "samples": samples}))
        return path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n, value in enumerate(samples):
            archive.writestr(f"samples/{n}_epoch_1.json", json.dumps(value))
        archive.writestr("header.json", json.dumps({"version": 2, "eval": header}))
    return path


def test_real_archives_with_two_scorers_and_two_epochs():
    logs = sorted(DATA.glob("*_garden.eval"))
    table = import_inspect(logs, "match")
    assert table.candidate_ids == ("mock/garden-1", "mock/garden-2")
    assert table.item_ids == ("inspect/garden/tulips", "inspect/garden/rain", "inspect/garden/half")
    # The means of the epochs, as the reductions in the logs have them.
    np.testing.assert_array_equal(table.scores_MN, [[1, 0.5, 0.5], [0.5, 1, 0.5]])
    item = table.items[0]
    assert item.text == "A gardener plants 3 rows of 4 tulips. How many tulips is that?"
    assert (item.task, item.category, item.answer, item.split) == ("garden", "garden", "12", split_of(item.text))
    closeness = import_inspect(logs, "closeness").scores_MN
    np.testing.assert_allclose(closeness, [[0.1, 0.525, 0.1], [0.075, 0.5, 0.1]], rtol=1e-6)
    with pytest.raises(SatjaxError, match="has the scores 'match', 'closeness'; choose one with --metric"):
        import_inspect(logs)
    with pytest.raises(SatjaxError, match="has no score 'exact'; choose one with --metric: 'match', 'closeness'"):
        import_inspect(logs, "exact")


def test_what_an_eval_set_says_of_itself_is_no_log(tmp_path):
    write(tmp_path, sample(1), sample(2, "I"))
    for name in ("logs.json", "eval-set.json"):
        (tmp_path / name).write_text(json.dumps({"log.eval": {"status": "success"}}))
    np.testing.assert_array_equal(import_inspect([tmp_path]).scores_MN, [[1, 0]])
    with pytest.raises(SatjaxError, match=r"logs.json is no Inspect log"):
        import_inspect([tmp_path / "logs.json"])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SatjaxError, match=r"other.json is no Inspect log"):
        import_inspect([tmp_path])


def test_a_real_archive_and_a_real_json_file_of_multiple_choice():
    table = import_inspect(sorted(DATA.glob("*_garden-choice.*")))
    np.testing.assert_array_equal(table.scores_MN, [[1, 0], [1, 1]])
    assert table.items[0].text == "Ice left in a warm kitchen turns into what?\nA. steam\nB. sand\nC. water"
    assert table.items[0].answer == "C"


@pytest.mark.parametrize("form", ["eval", "json"])
def test_values_of_scores(tmp_path, form):
    values = ["C", "I", "P", "N", True, 0.25, "0.75", "yes", "False", None]
    path = write(tmp_path, *(sample(n, value) for n, value in enumerate(values)), form=form)
    expected = [1, 0, 0.5, 0, 1, 0.25, 0.75, 1, 0, np.nan]
    np.testing.assert_array_equal(import_inspect([path]).scores_MN, [np.float32(expected)])
    path = write(tmp_path, sample(1, {"form": 1, "style": 0.5}), form=form)
    assert import_inspect([path], "match.style").scores_MN.tolist() == [[0.5]]


@pytest.mark.parametrize("form", ["eval", "json"])
def test_numbers_as_python_writes_them(tmp_path, form):
    """Of a sample that was not scored Inspect writes NaN."""
    header = EVAL | {"model_generate_config": {"seed": 2**63}, "limit": float("inf")}
    samples = [sample(2**64, 1, epoch=2**63), sample(2, float("nan"), total_time=-float("inf"))]
    table = import_inspect([write(tmp_path, *samples, form=form, header=header)])
    np.testing.assert_array_equal(table.scores_MN, [[1, np.nan]])
    assert table.item_ids[0] == f"inspect/sums/{2**64}"
    with pytest.raises(SatjaxError, match=r"score inf of 'org/m' is outside \[0, 1\]"):
        import_inspect([write(tmp_path, sample(1, float("inf")), form=form)])


def test_epochs_that_failed_count_nowhere(tmp_path):
    epochs = [sample(1, "C"), sample(1, epoch=2, scores={}), sample(2, scores=None), sample(1, "I", epoch=3)]
    np.testing.assert_array_equal(import_inspect([write(tmp_path, *epochs)]).scores_MN, [[0.5, np.nan]])


def test_costs_are_those_of_all_model_calls(tmp_path):
    usage = {"org/m": {"total_cost": 0.25}, "org/grader": {"total_cost": 0.5}, "other": {"input_tokens": 3}}
    table = import_inspect([write(tmp_path, sample(1, model_usage=usage), sample(2, model_usage={"m": {}}))])
    np.testing.assert_array_equal(table.cost_usd_MN, [[0.75, np.nan]])


def test_texts_of_messages_and_attachments(tmp_path):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image", "image": "…"}]},
    ]
    attached = sample(2, input="attachment://abc", attachments={"abc": "A long text."})
    table = import_inspect([write(tmp_path, sample(1, input=messages), attached)])
    assert [item.text for item in table.items] == ["Be brief.\n\nWhat is it?", "A long text."]


def test_choices_after_z_are_numbered_as_inspect_does(tmp_path):
    log = write(tmp_path, sample(1, choices=[f"choice {n}" for n in range(28)]))
    [item] = import_inspect([log]).items
    assert item.text.splitlines() == [
        "Q 1?",
        *(f"{letter}. choice {n}" for n, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
        "1. choice 26",
        "2. choice 27",
    ]


def test_an_interrupted_log_and_a_sample_written_twice(tmp_path):
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", json.dumps({"eval": EVAL}))
        archive.writestr("samples/1_epoch_1.json", json.dumps(sample(1, "I")))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("samples/1_epoch_1.json", json.dumps(sample(1, "C")))
    assert import_inspect([tmp_path]).scores_MN.tolist() == [[1]]


@pytest.mark.parametrize("form", ["eval", "json"])
def test_candidates_of_a_task_are_scored_by_one_scorer(tmp_path, form, caplog):
    caplog.set_level("INFO", "satjax")
    graded = {"model_graded_qa": {"value": "C"}}
    of_a = write(tmp_path, sample(1, "I"), sample(2, "I"), name="a", form=form, header=EVAL | {"model": "A"})
    of_b = write(tmp_path, sample(1, scores=graded), name="b", form=form, header=EVAL | {"model": "B"})
    other = write(tmp_path, sample(1, scores=graded), name="c", form=form, header=EVAL | {"task": "texts"})
    with pytest.raises(SatjaxError) as caught:
        import_inspect([of_a, of_b])
    for words in ("the scorer of task 'sums' is 'model_graded_qa', and 'match' in", str(of_a), str(of_b)):
        assert words in str(caught.value)
    assert "choose one with --metric" in str(caught.value)
    assert import_inspect([of_a, other]).scores_MN.shape == (2, 3)
    assert caplog.messages == ["the score is match, of sums", "the score is model_graded_qa, of texts"]
    mixed = write(tmp_path, sample(1), sample(2, scores=graded), form=form)
    with pytest.raises(SatjaxError, match="is 'model_graded_qa', and 'match' in"):
        import_inspect([mixed])


def test_a_sample_that_the_scorer_left_out_is_unobserved(tmp_path):
    both = {"match": {"value": "I"}, "includes": {"value": "C"}}
    path = write(tmp_path, sample(1, "C"), sample(2, scores=both), sample(2, "I", epoch=2))
    np.testing.assert_array_equal(import_inspect([path], "includes").scores_MN, [[np.nan, 1]])
    np.testing.assert_array_equal(import_inspect([path], "match").scores_MN, [[1, 0]])
    with pytest.raises(SatjaxError, match=r"log.eval has no score 'exact'; choose .* --metric: 'match', 'includes'"):
        import_inspect([path], "exact")
    unscored = write(tmp_path, sample(1, {"form": 1}), sample(2, None))
    np.testing.assert_array_equal(import_inspect([unscored]).scores_MN, [[1, np.nan]])


def test_logs_of_other_versions_and_arguments_of_a_task(tmp_path, caplog):
    caplog.set_level("WARNING", "satjax")
    headers = {name: EVAL | {"model": name, "task_version": 1, "task_args": {"fewshot": 0}} for name in "AB"}
    first = write(tmp_path, sample(), name="a", header=headers["A"])
    same = write(tmp_path, sample(), name="b", header=headers["B"])
    assert import_inspect([first, same]).scores_MN.shape == (2, 1)
    assert caplog.messages == []
    shots = write(tmp_path, sample(), name="c", header=headers["B"] | {"task_args": {"fewshot": 5, "seed": 1}})
    assert import_inspect([first, shots]).scores_MN.shape == (2, 1)
    advice = "where that makes them different questions, leave one of them out"
    assert caplog.messages == [
        f"{shots}: arguments of task 'sums' differ from those in {first}: fewshot is 5 (0 there), seed is 1 (not given there); {advice}"
    ]
    version = write(tmp_path, sample(), name="d", header=headers["B"] | {"task_version": "2-A"})
    with pytest.raises(SatjaxError) as caught:
        import_inspect([first, version])
    for words in (f"{version}: the version of task 'sums' is '2-A', and '1' in {first}", "leave one of them out"):
        assert words in str(caught.value)
    unknown = write(tmp_path, sample(), name="e", header=EVAL)
    caplog.clear()
    assert import_inspect([first, unknown]).scores_MN.shape == (2, 1)
    assert caplog.messages == []
    silent = write(tmp_path, sample(), name="f", header=headers["B"] | {"task_args": {}})
    assert import_inspect([silent, first]).scores_MN.shape == (2, 1)
    assert caplog.messages == [
        f"{first}: arguments of task 'sums' differ from those in {silent}: fewshot is 0 (not given there); {advice}"
    ]


def test_where_long_arguments_differ_is_shown(tmp_path, caplog):
    for name in "ab":
        header = EVAL | {"model": name, "task_args": {"files": [f"data/{n}.json" for n in range(9)] + [name]}}
        write(tmp_path, sample(), name=name, header=header)
    import_inspect([tmp_path])
    assert """: files is …n", "data/8.json", "b"] (…n", "data/8.json", "a"] there); where""" in caplog.text


@pytest.mark.parametrize("form", ["eval", "json"])
@pytest.mark.parametrize(
    ("samples", "header", "words"),
    [
        ([sample()], {"task": "sums"}, "is no Inspect log"),
        ([sample()], None, "is no Inspect log"),
        ([7], EVAL, "sample"),
        ([{"id": 1}], EVAL, "has no id or no input"),
        ([sample(), sample()], EVAL, "sample '1' epoch 1 stands twice"),
        ([sample(1, "perhaps")], EVAL, "score match is 'perhaps', not a number"),
        ([sample(1, [1, 0])], EVAL, "score match is '[1, 0]', not a number"),
        ([sample(1, 3)], EVAL, "sample '1': score 3 of 'org/m' is outside [0, 1]"),
        ([sample(1, input=" ")], EVAL, "has an empty text"),
        ([], EVAL, "no samples in these logs"),
    ],
)
def test_bad_logs(tmp_path, form, samples, header, words):
    path = write(tmp_path, *samples, form=form, header=header)
    with pytest.raises(SatjaxError) as caught:
        import_inspect([path])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_logs_of_one_task(tmp_path):
    paths = [write(tmp_path, sample(), name=name) for name in ("a", "b")]
    with pytest.raises(SatjaxError, match="stands twice for candidate 'org/m'"):
        import_inspect(paths)


def test_damaged_archives_and_bombs(tmp_path, monkeypatch):
    real = next(DATA.glob("garden-1_garden.eval")).read_bytes()
    path = tmp_path / "log.eval"
    flipped = bytearray(real)
    flipped[2000:2040] = b"\xff" * 40
    for damaged in (real[:-30], bytes(flipped), b"no zip", b"", real[5000:]):
        path.write_bytes(damaged)
        with pytest.raises(SatjaxError, match=r"cannot be read as an Inspect log|is damaged"):
            import_inspect([path], "match")
    with pytest.raises(SatjaxError, match="cannot be read"):
        import_inspect([tmp_path / "absent.json"])
    path.write_bytes(real)
    monkeypatch.setattr(upstream, "LARGEST_ARCHIVE", 20_000)
    with pytest.raises(SatjaxError, match="unpacks to more than 20,000 bytes; import it in parts"):
        import_inspect([path], "match")
    monkeypatch.setattr(upstream, "LARGEST", 2000)
    with pytest.raises(SatjaxError, match=r"member 'header.json' unpacks to"):
        import_inspect([path], "match")
    # The same with a directory that claims the header to be small.
    size = zipfile.ZipFile(path).getinfo("header.json").file_size.to_bytes(4, "little")
    path.write_bytes(real.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(SatjaxError, match=r"member 'header.json' is damaged"):
        import_inspect([path], "match")
