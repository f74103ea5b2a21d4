"""The RouterBench importer: agrees with the converted table on a real file, and refuses what is no such table in one line."""

import csv
from pathlib import Path

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.outcomes.importers import upstream
from satjax.outcomes.importers.routerbench import import_routerbench, import_routerbench_responses, message_text
from satjax.outcomes.parquet import read_responses, read_table
from satjax.outcomes.splits import split_of

HEADER = [
    *("", "sample_id", "prompt", "eval_name", "org/b", "a"),
    *("a|model_response", "org/b|model_response", "a|total_cost", "org/b|total_cost", "oracle_model_to_route_to"),
]


def row(sample: str = "s.1", prompt: str = "['What is it?']", b: str = "0.25", a: str = "1.0") -> list[str]:
    return ["0", sample, prompt, "arc-challenge", b, a, "['x']", "['y']", "0.01", "0.02", "a"]


def write(folder: Path, *rows: list[str], header: list[str] = HEADER) -> Path:
    path = folder / "routerbench.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def test_a_directory_gives_the_files_below_it(tmp_path):
    write(tmp_path, row())
    assert len(import_routerbench([tmp_path]).items) == 1
    assert len(import_routerbench_responses([tmp_path], import_routerbench([tmp_path])).texts) == 2


def test_agrees_with_the_converted_table(shared_data):
    imported = import_routerbench(sorted((shared_data / "raw").glob("routerbench_*.csv")))
    converted = read_table(shared_data / "routerbench").select_candidates(imported.candidate_ids)
    assert imported.scores_MN.shape == (11, 100)
    column = {name: n for n, name in enumerate(converted.item_ids)}
    theirs = converted.select_items([column[name] for name in imported.item_ids])
    np.testing.assert_array_equal(imported.scores_MN, theirs.scores_MN)
    np.testing.assert_array_equal(imported.cost_usd_MN, theirs.cost_usd_MN)
    for a, b in zip(imported.items, theirs.items, strict=True):
        assert (a.text, a.task, a.category, a.source, a.answer) == (b.text, b.task, b.category, b.source, b.answer)
        assert a.split == split_of(a.text)


def test_form_of_a_row(tmp_path):
    path = write(tmp_path, row(), row("s.2", "[Not a list] but a text", a=""), row("s.3", "['two', 'parts']"))
    table = import_routerbench([path])
    assert table.candidate_ids == ("a", "org/b")
    assert [item.text for item in table.items] == ["What is it?", "[Not a list] but a text", "two\nparts"]
    assert (table.items[0].id, table.items[0].task) == ("routerbench/s.1", "arc_challenge")
    np.testing.assert_array_equal(table.scores_MN, np.float32([[1, np.nan, 1], [0.25, 0.25, 0.25]]))
    np.testing.assert_array_equal(table.cost_usd_MN, np.float32([[0.01] * 3, [0.02] * 3]))


def test_responses_of_a_real_file_are_those_of_the_converted_table(shared_data):
    paths = sorted((shared_data / "raw").glob("routerbench_*.csv"))
    imported = import_routerbench(paths)
    ours = import_routerbench_responses(paths, imported)
    converted = read_table(shared_data / "routerbench")
    theirs = read_responses(shared_data / "routerbench", converted)
    # The conversion left the upstream form of a list as it was.
    for a, b in zip(ours.places(imported).ravel(), theirs.places(imported).ravel(), strict=True):
        assert ours.texts[a] == message_text(theirs.texts[b])


def test_an_empty_cell_is_no_response_and_an_empty_text_is_one(tmp_path):
    silent = row("s.2", "[Not a list] but a text")
    silent[6], silent[7] = "", "['']"
    path = write(tmp_path, row(), silent)
    found = import_routerbench_responses([path], import_routerbench([path]))
    assert [[n if n < 0 else found.texts[n] for n in places] for places in found.place_MN] == [["x", -1], ["y", ""]]


def test_prompts_are_read_as_data_only(tmp_path):
    prompts = ["[__import__('os').getcwd()]", "[" * 5000, "[1, 2]", "[]"]
    table = import_routerbench([write(tmp_path, *[row(f"s.{n}", prompt) for n, prompt in enumerate(prompts)])])
    assert [item.text for item in table.items] == prompts


def test_costs_may_be_absent(tmp_path):
    path = write(tmp_path, row()[:8], header=HEADER[:8])
    assert import_routerbench([path]).cost_usd_MN is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(), row()], "row 3: item 'routerbench/s.1' stands twice"),
        ([row(a="yes")], "row 2: a is 'yes', not a number"),
        ([row(b="3")], "row 2: score 3 of 'org/b' is outside [0, 1]"),
        ([row(prompt="")], "row 2: the prompt or its sample_id is empty"),
        ([row(), row("s.2")[:5]], "row 3: it has another number of fields"),
        ([[*row(), "more"]], "row 2: it has another number of fields"),
    ],
)
def test_bad_rows_are_named(tmp_path, rows, words):
    path = write(tmp_path, *rows)
    with pytest.raises(SatjaxError) as caught:
        import_routerbench([path])
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path, monkeypatch):
    with pytest.raises(SatjaxError, match="cannot be read"):
        import_routerbench([tmp_path / "absent.csv"])
    with pytest.raises(SatjaxError, match="'prompt' is missing"):
        import_routerbench([write(tmp_path, header=["sample_id", "eval_name"])])
    with pytest.raises(SatjaxError, match="no candidate found"):
        import_routerbench([write(tmp_path, ["s", "p", "e"], header=["sample_id", "prompt", "eval_name"])])
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(SatjaxError, match="cannot be read"):
        import_routerbench([binary])
    before = csv.field_size_limit()
    monkeypatch.setattr(upstream, "LARGEST_FIELD", 100)
    with pytest.raises(SatjaxError, match="field larger than field limit"):
        import_routerbench([write(tmp_path, row(prompt="x" * 1000))])
    assert csv.field_size_limit() == before
