"""The lm-evaluation-harness importer on real output of it, and on what it must refuse."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from satjax.assess.answers import mark
from satjax.assess.prompts import question_of
from satjax.errors import SatjaxError
from satjax.outcomes.importers import upstream
from satjax.outcomes.importers.lm_eval import import_lm_eval
from satjax.outcomes.splits import split_of

DATA = Path(__file__).parent / "data" / "lm_eval"
TIME = "2026-01-02T03-04-05.678901"


def sample(number: int = 0, **changes) -> dict:
    value = {
        "doc_id": number,
        "doc": {"q": number},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": f"Q: {number}?", "arg_1": {"until": []}}},
        "resps": [["4"]],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": f"h{number}",
        "exact_match": 1.0,
    }
    return value | changes


def write(
    folder: Path, *samples: dict | str, task: str = "sums", time: str = TIME, results: dict | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"samples_{task}_{time}.jsonl"
    path.write_text("".join(s if isinstance(s, str) else json.dumps(s) + "\n" for s in samples), encoding="utf-8")
    if results is not None:
        (folder / f"results_{time}.json").write_text(json.dumps(results), encoding="utf-8")
    return path


def test_real_output_of_two_models():
    table = import_lm_eval([DATA])
    assert table.candidate_ids == ("acme/garden-1", "acme/garden-2")
    assert table.item_ids == (
        *(f"lm_eval/garden_gen/{n}" for n in range(4)),
        *(f"lm_eval/garden_mc/{n}" for n in range(4)),
    )
    # As lm_eval's own means say: 0.75 by the filter that comes first, 0.25 by acc; and 0.5, 0.75.
    np.testing.assert_array_equal(table.scores_MN, [[1, 1, 1, 0, 0, 1, 0, 0], [0, 1, 0, 1, 0, 1, 1, 1]])
    first, choice = table.items[0], table.items[4]
    assert first.text == "Q: A gardener plants 3 rows of 4 tulips. How many tulips is that?\nA:"
    assert (first.task, first.category, first.source, first.answer) == ("garden_gen", "garden_all", "lm_eval", "12")
    assert choice.text == "Question: A gardener plants 3 rows of 4 tulips. How many tulips is that?\nAnswer:"
    assert [item.answer for item in table.items] == ["12", "a raincoat", "45", "water"] * 2
    assert all(item.split == split_of(item.text) for item in table.items)


def test_real_output_by_another_filter_and_metric():
    gen, mc = ([next(DATA.glob(f"acme__garden-{m}/samples_garden_{kind}_*")) for m in (1, 2)] for kind in ("gen", "mc"))
    results = [json.loads(next(DATA.glob(f"acme__garden-{m}/results_*")).read_text())["results"] for m in (1, 2)]
    table = import_lm_eval(gen, "exact_match,number")
    assert table.scores_MN.mean(axis=1).tolist() == [r["garden_gen"]["exact_match,number"] for r in results]
    table = import_lm_eval(mc, "acc_norm")
    assert table.scores_MN.mean(axis=1).tolist() == [r["garden_mc"]["acc_norm,none"] for r in results]
    with pytest.raises(SatjaxError, match="has no filter 'number'; it has 'none'"):
        import_lm_eval(mc, "acc,number")


def test_the_last_run_of_a_task_counts(tmp_path):
    write(tmp_path / "org__m", sample(exact_match=0.0), time="2026-01-01T00-00-00")
    write(tmp_path / "org__m", sample(exact_match=1.0), time="2026-01-03T00-00-00")
    write(tmp_path / "org__m", sample(exact_match=0.0), time="2026-01-02T00-00-00")
    table = import_lm_eval([tmp_path])
    assert table.candidate_ids == ("org/m",)
    assert table.scores_MN.tolist() == [[1]]
    with pytest.raises(SatjaxError, match="stands twice for candidate 'org/m'"):
        import_lm_eval(sorted(tmp_path.rglob("*.jsonl")))


def test_one_document_under_two_chat_templates_is_one_item(tmp_path):
    messages = json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}])
    write(tmp_path / "a", sample(arguments={"gen_args_0": {"arg_0": messages, "arg_1": {}}}))
    write(tmp_path / "b", sample(arguments={"gen_args_0": {"arg_0": "<|user|>2 + 2?<|end|>", "arg_1": {}}}))
    table = import_lm_eval([tmp_path / "a", tmp_path / "b"])
    assert [item.text for item in table.items] == ["Be brief.\n\n2 + 2?"]
    write(tmp_path / "c", sample(doc_hash="other"))
    with pytest.raises(SatjaxError, match="is another question than before"):
        import_lm_eval([tmp_path])


def test_options_that_are_filled_in_are_all_in_the_text(tmp_path):
    requests = {
        f"gen_args_{n}": {"arg_0": f"The cat, {name}", "arg_1": " sat"} for n, name in enumerate(("Tom", "Rex"))
    }
    table = import_lm_eval([write(tmp_path, sample(arguments=requests))])
    assert table.items[0].text == "The cat, Tom\nThe cat, Rex"
    # Earlier versions wrote lists, and no hash.
    earlier = sample(arguments=[["2 + 2 =", " 4"], ["2 + 2 =", " 5"], ["", " 5"]])
    del earlier["doc_hash"], earlier["metrics"], earlier["filter"]
    assert import_lm_eval([write(tmp_path, earlier)]).items[0].text == "2 + 2 ="


LETTERED = "Capital of France?\nA. Rome\nB. Paris\nC. Bonn\nAnswer:"
PLAIN = "Question: Capital of France?\nAnswer:"
CITIES = (" Rome", " Paris", " Bonn")
SOLUTION = "A week has 7 days.\n2*7 = <<2*7=14>>14 eggs.\n#### "


def requests(context: str, options) -> dict:
    return {f"gen_args_{n}": {"arg_0": context, "arg_1": option} for n, option in enumerate(options)}


@pytest.mark.parametrize(
    ("target", "arguments", "answer"),
    [
        ("1", requests(LETTERED, (" A", " B", " C")), "B"),
        (2, [[LETTERED, " A"], [LETTERED, " B"], [LETTERED, " C"]], "C"),
        ("1", requests(LETTERED, CITIES), "B"),
        ("1", requests(LETTERED, (" A. Rome", " B. Paris", " C. Bonn")), "B"),
        (
            "1",
            requests(f"Capital of Spain?\nA. Madrid\nB. Lyon\nC. Nice\nAnswer: A\n\n{LETTERED}", ("A", "B", "C")),
            "B",
        ),
        ("1", requests(PLAIN, CITIES), "Paris"),
        # With acc_mutual_info each option is asked for without a context, too.
        (
            "1",
            requests(PLAIN, CITIES) | {f"gen_args_{n + 3}": {"arg_0": "", "arg_1": x} for n, x in enumerate(CITIES)},
            "Paris",
        ),
        # The lettered lines are no options.
        ("1", requests("A. All cats purr.\nB. Tom is a cat.\nDoes Tom purr?", (" yes", " no")), "no"),
        ("1", requests("1. Rome\n2. Paris\n3. Bonn\nAnswer:", (" 1", " 2", " 3")), "2"),
        ("Paris", requests(PLAIN, CITIES), "Paris"),
        ("3", requests(PLAIN, CITIES), "3"),
        ("9" * 5000, requests(PLAIN, CITIES), "9" * 5000),
        ("-100", requests(PLAIN, CITIES), "-100"),
        ("[0, 2]", requests(PLAIN, CITIES), "[0, 2]"),
        # Filled into the question, what follows is the same for all.
        (
            "1",
            {"gen_args_0": {"arg_0": "Tom has", "arg_1": " 1"}, "gen_args_1": {"arg_0": "Rex has", "arg_1": " 1"}},
            "1",
        ),
        ("1", requests("How many?", ({"until": []},)), "1"),
        (SOLUTION + "14", requests("How many eggs?", ({"until": []},)), "14"),
        (SOLUTION + "1,400\n", requests("How many eggs?", ({"until": []},)), "1,400"),
        ("#### Sums\nIt is 14.", requests("How many eggs?", ({"until": []},)), "#### Sums\nIt is 14."),
        ("####", requests("How many eggs?", ({"until": []},)), "####"),
        (None, requests(PLAIN, CITIES), None),
    ],
)
def test_the_answer_is_what_a_reply_would_say(tmp_path, target, arguments, answer):
    table = import_lm_eval([write(tmp_path, sample(target=target, arguments=arguments))])
    assert table.items[0].answer == answer


@pytest.mark.parametrize(
    ("target", "arguments", "reply"),
    [
        ("1", requests(LETTERED, (" A", " B", " C")), "The answer is (B)."),
        ("1", requests(LETTERED, CITIES), "The answer is: Paris"),
        ("1", requests(PLAIN, CITIES), "The answer is: Paris"),
        (SOLUTION + "14", requests("How many eggs?", ({"until": []},)), "The answer is: 14"),
    ],
)
def test_right_replies_are_marked_right(tmp_path, target, arguments, reply):
    table = import_lm_eval([write(tmp_path, sample(target=target, arguments=arguments))])
    question = question_of(table.items[0])
    assert mark(question, 0, reply).right
    assert not mark(question, 0, reply.replace("B", "A").replace("Paris", "Rome").replace("14", "1")).right


def test_which_metric_is_the_score(tmp_path):
    several = sample(metrics=["brier", "f1", "hit", "exact_match"], brier=0.0, f1=0.5, hit=1, exact_match=0.25)
    results = {"higher_is_better": {"sums": {"brier": False, "f1": True}}, "model_name": "named"}
    path = write(tmp_path, several, results=results)
    assert import_lm_eval([path]).candidate_ids == ("named",)
    assert import_lm_eval([path]).scores_MN.tolist() == [[0.25]]
    assert import_lm_eval([path], "f1").scores_MN.tolist() == [[0.5]]
    with pytest.raises(SatjaxError, match="of metric 'brier' less is better"):
        import_lm_eval([path], "brier")
    with pytest.raises(
        SatjaxError, match="no metric 'doc'; choose one with --metric: 'brier', 'f1', 'hit', 'exact_match'"
    ):
        import_lm_eval([path], "doc")
    del several["exact_match"]
    assert import_lm_eval([write(tmp_path, several)]).scores_MN.tolist() == [[1]]
    del several["hit"]
    with pytest.raises(SatjaxError, match="no metric that is 0 or 1; choose one with --metric: 'f1'"):
        import_lm_eval([write(tmp_path, several)])


def test_candidates_of_a_task_are_scored_by_one_metric(tmp_path, caplog):
    one = {"metrics": ["f1", "em"], "f1": 1.0, "em": 1}
    write(tmp_path / "A", sample(**one), sample(1, **one | {"f1": 0.5, "em": 0}))
    write(tmp_path / "B", sample(**one | {"f1": 0.4, "em": 0}), sample(1, **one | {"f1": 0.6, "em": 0}))
    with pytest.raises(SatjaxError) as caught:
        import_lm_eval([tmp_path])
    for words in ("B/samples_sums_", "metric of task 'sums' is 'em,none', and 'f1,none' in", "A/samples_sums_"):
        assert words in str(caught.value)
    assert "choose one with --metric NAME,FILTER" in str(caught.value)
    assert import_lm_eval([tmp_path], "f1").scores_MN[1].tolist() == pytest.approx([0.4, 0.6])
    caplog.set_level("INFO", "satjax")
    assert import_lm_eval([tmp_path], "em").scores_MN.tolist() == [[1, 0], [0, 0]]
    for n in range(4):
        write(tmp_path / "A", sample(), task=f"t{n}")
    import_lm_eval([tmp_path / "A"])
    assert "the score is em, by filter none, of sums" in caplog.messages
    assert "the score is exact_match, by filter none, of t0, t1, t2 and 1 more" in caplog.messages
    write(tmp_path / "B", sample(filter="strict"), task="t0")
    with pytest.raises(SatjaxError, match="is 'exact_match,strict', and 'exact_match,none' in"):
        import_lm_eval([tmp_path], "exact_match")


def test_a_task_without_a_score_of_its_items_is_left_out_and_named(tmp_path, caplog):
    perplexity = {"metrics": ["word_perplexity"], "word_perplexity": [-310.0, 81]}
    for name in "AB":
        write(tmp_path / name, sample(), results={"higher_is_better": {"wikitext": {"word_perplexity": False}}})
        write(tmp_path / name, sample(**perplexity), sample(1, **perplexity), task="wikitext")
    table = import_lm_eval([tmp_path])
    assert (table.item_ids, table.scores_MN.tolist()) == (("lm_eval/sums/0",), [[1], [1]])
    said = "left out: wikitext has no metric that is 0 or 1; --metric says which one counts, of all tasks"
    assert said in caplog.messages
    with pytest.raises(SatjaxError, match=r"samples_wikitext.* line 1 has no metric that is 0 or 1; choose one with"):
        import_lm_eval(sorted(tmp_path.rglob("samples_wikitext_*")))
    # Not for one candidate alone: a first sample may happen to be neither.
    write(tmp_path / "A", sample(metrics=["f1"], f1=1), task="texts")
    write(tmp_path / "B", sample(metrics=["f1"], f1=0.5), task="texts")
    with pytest.raises(SatjaxError, match="metric of task 'texts' is 'none that is 0 or 1', and 'f1,none' in"):
        import_lm_eval([tmp_path])
    assert import_lm_eval(sorted(tmp_path.rglob("samples_texts_*")), "f1").scores_MN.tolist() == [[1], [0.5]]


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("n-shot", (5, 0), "the number of shots of task 'sums' is '0', and '5' in"),
        ("versions", (1.0, "2.0"), "the version of task 'sums' is '2.0', and '1.0' in"),
    ],
)
def test_runs_with_other_prompts_are_not_one_item(tmp_path, key, values, words):
    for name, value in zip("AB", values, strict=True):
        write(tmp_path / name, sample(), results={key: {"sums": value}})
    with pytest.raises(SatjaxError) as caught:
        import_lm_eval([tmp_path])
    for each in ("B/samples_sums_", words, "A/samples_sums_"):
        assert each in str(caught.value)
    # What is not known, or was said of another run into the same directory, is no other one.
    write(tmp_path / "B", sample(), results={key: {"others": values[1]}})
    assert import_lm_eval([tmp_path]).scores_MN.shape == (2, 1)
    write(tmp_path / "B", sample(), results={key: {"sums": values[1]}})
    (tmp_path / "B" / f"results_{TIME}.json").rename(tmp_path / "B" / "results_2026-01-03T00-00-00.json")
    assert import_lm_eval([tmp_path]).scores_MN.shape == (2, 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 is no JSON"),
        ("[1]", "line 2 is no JSON object"),
        ("[" * 100_000, "line 2 is no JSON"),
        ("\xff\n", "line 2 is no JSON"),
        ({"doc_id": 1}, "line 2 lacks doc, arguments"),
        (sample(1, exact_match=[1, 2]), "metric exact_match is '[1, 2]', not a number"),
        (sample(1, exact_match=2), "score 2 of"),
        (sample(1, arguments={}), "has an empty text"),
        (sample(1, arguments=7), "has an empty text"),
        (sample(0), "stands twice"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, words):
    path = write(tmp_path, sample(), line)
    with pytest.raises(SatjaxError) as caught:
        import_lm_eval([path])
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path, monkeypatch):
    with pytest.raises(SatjaxError, match="name a directory"):
        import_lm_eval([])
    with pytest.raises(SatjaxError, match="no samples_"):
        import_lm_eval([tmp_path])
    with pytest.raises(SatjaxError, match="give the file its name back"):
        import_lm_eval([tmp_path / "log.jsonl"])
    with pytest.raises(SatjaxError, match="there is no such file; mend its name"):
        import_lm_eval([tmp_path / f"samples_a_{TIME}.jsonl"])
    path = write(tmp_path, sample(), results={})
    (tmp_path / f"results_{TIME}.json").write_text("[]")
    with pytest.raises(SatjaxError, match="no JSON object"):
        import_lm_eval([path])
    shutil.rmtree(tmp_path)
    monkeypatch.setattr(upstream, "LARGEST", 50)
    with pytest.raises(SatjaxError, match="line 1 is longer than 50 bytes"):
        import_lm_eval([write(tmp_path, sample())])
