"""Tables are joined without losing, doubling or contradicting anything, and never across splits."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.cli import main
from satjax.errors import SatjaxError
from satjax.outcomes import (
    Candidate,
    Item,
    OutcomeTable,
    Responses,
    leaks,
    merge_responses,
    merge_tables,
    open_outcomes,
    read_responses,
    read_table,
    write_table,
)
from satjax.outcomes.source import with_validation
from satjax.outcomes.splits import folded
from tests.test_table import assert_same, small, tables


def table(
    items: list[Item], candidates: list[str], scores: list[list[float]], cost: list | None = None
) -> OutcomeTable:
    costs = None if cost is None else np.array(cost, np.float32)
    return OutcomeTable(
        tuple(items), tuple(Candidate(name) for name in candidates), np.array(scores, np.float32), costs
    )


def item(name: str, split: str = "train", text: str | None = None) -> Item:
    return Item(name, text or f"question {name}", "task", split=split)


def message(*several: OutcomeTable) -> str:
    with pytest.raises(SatjaxError) as caught:
        merge_tables(dict(zip(("one", "two", "three"), several, strict=False)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_items_and_candidates_and_nan_where_nothing_was_observed():
    merged = merge_tables(
        {
            "one": table([item("i"), item("j")], ["a", "b"], [[1, 0], [0, np.nan]], [[1, 1], [2, np.nan]]),
            "two": table([item("j"), item("k", "test")], ["b", "c"], [[1, 0.5], [0, 1]]),
        }
    )
    assert merged.item_ids == ("i", "j", "k")
    assert merged.candidate_ids == ("a", "b", "c")
    nan = np.nan
    np.testing.assert_array_equal(merged.scores_MN, [[1, 0, nan], [0, 1, 0.5], [nan, 0, 1]])
    np.testing.assert_array_equal(merged.cost_usd_MN, [[1, 1, nan], [2, nan, nan], [nan, nan, nan]])


@given(tables())
@settings(max_examples=50)
def test_a_table_merged_with_itself_or_in_parts_is_the_same(whole):
    if leaks(whole):
        assert "two splits" in message(whole, whole)
        return
    assert_same(merge_tables({"one": whole, "again": whole}), whole)
    parts = {str(n): whole.select_items(np.array([n])) for n in range(len(whole.items))}
    assert_same(merge_tables(parts), whole)
    rows = {name: whole.select_candidates([name]) for name in whole.candidate_ids}
    assert_same(merge_tables(rows), whole)


@given(st.lists(st.tuples(st.sampled_from("abc "), st.sampled_from(("train", "val", "test"))), max_size=6))
def test_leaks_are_the_questions_of_two_splits(entries):
    items = [item(f"i{n}", split, f"q {letter} ") for n, (letter, split) in enumerate(entries)]
    found = leaks(table(items, ["a"], [[0.0] * len(items)]))
    splits: dict[str, set[str]] = {}
    for entry in items:
        splits.setdefault(folded(entry.text), set()).add(entry.split)
    assert {folded(a.text) for a, _ in found} == {text for text, several in splits.items() if len(several) > 1}
    assert all(folded(a.text) == folded(b.text) and a.split != b.split for a, b in found)


def test_a_question_of_three_splits_leaks_between_every_two():
    splits = ("test", "val", "train", "val")
    found = leaks(table([item(f"i{n}", split, "What?") for n, split in enumerate(splits)], ["a"], [[0.0] * 4]))
    assert [(a.id, b.id) for a, b in found] == [("i0", "i1"), ("i0", "i2"), ("i1", "i2")]


def responses(places: list[list[int]], *texts: str, candidates: str = "ab", items: str = "ij") -> Responses:
    return Responses(tuple(candidates), tuple(items), texts, np.array(places, np.int32))


def test_responses_of_all_tables_are_kept():
    one = table([item("i"), item("j")], ["a", "b"], [[1, 0], [0, 1]])
    two = table([item("j"), item("k")], ["b", "c"], [[1, 0], [0, 1]])
    merged = merge_tables({"one": one, "two": two})
    given = {
        "one": responses([[0, -1], [1, 0]], "x", "y"),
        "two": responses([[1, 0], [-1, 2]], "z", "x", "", candidates="bc", items="jk"),
    }
    found = merge_responses(given, merged)
    assert found is not None
    said = [[found.texts[place] if place >= 0 else None for place in row] for row in found.place_MN]
    assert said == [["x", None, None], ["y", "x", "z"], [None, None, ""]]
    assert merge_responses({"one": None, "two": None}, merged) is None
    alone = merge_responses({**given, "two": None}, merged)
    assert alone is not None
    assert alone.place_MN.tolist() == [[0, -1, -1], [1, 0, -1], [-1, -1, -1]]
    given["two"] = responses([[0, -1], [-1, -1]], "another", candidates="bc", items="jk")
    with pytest.raises(SatjaxError, match=r"responses of candidate 'b' to item 'j' differ between one and two "):
        merge_responses(given, merged)


def test_a_table_merged_into_its_own_place_keeps_its_responses(tmp_path, capsys):
    one = table([item("i"), item("j")], ["a", "b"], [[1, 0], [0, 1]])
    write_table(one, tmp_path / "one", responses([[0, -1], [1, 0]], "x", "y"))
    write_table(table([item("k")], ["a"], [[1]]), tmp_path / "two")
    folders = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert main(["outcomes", "merge", *folders, "--out", folders[0]]) == 0
    merged = read_table(folders[0])
    kept = read_responses(folders[0], merged)
    assert kept is not None
    assert [kept.texts[place] for place in kept.places(merged)[:2].ravel() if place >= 0] == ["x", "y", "x"]


def written(folder: Path, name: str, splits: list[str], numbers: range | None = None) -> str:
    """A table of questions that are the same wherever they have the same number."""
    items = [item(f"{n}", split) for n, split in zip(numbers or range(len(splits)), splits, strict=True)]
    write_table(table(items, [name], [[1.0] * len(items)]), folder / name)
    return str(folder / name)


def of_split(source: str, split: str) -> set[str]:
    return {entry.text for entry in open_outcomes(source).items if entry.split == split}


def test_no_validation_item_of_a_table_is_for_training_in_a_merged_one(tmp_path):
    out = str(tmp_path / "out")
    without = written(tmp_path, "without", ["train"] * 300 + ["test"] * 50)
    with_own = written(tmp_path, "own", ["train"] * 100 + ["val"] * 20, range(1000, 1120))
    assert main(["outcomes", "merge", without, with_own, "--out", out]) == 0
    assert of_split(out, "val") == of_split(without, "val") | of_split(with_own, "val")
    assert len(of_split(without, "val")) > 10
    # Merged again, with a table of the same questions under other ids.
    questions = [item(f"other {n}", text=f"question  {n}") for n in range(300)]
    write_table(table(questions, ["c"], [[1.0] * 300]), tmp_path / "named")
    assert main(["outcomes", "merge", out, without, str(tmp_path / "named"), "--out", out]) == 0
    assert of_split(without, "val") <= of_split(out, "val")
    assert not leaks(open_outcomes(out))


def test_what_one_table_has_for_validation_is_trained_on_by_none(tmp_path):
    without = written(tmp_path, "without", ["train"] * 300)
    with_own = written(tmp_path, "own", ["train"] * 300 + ["val"] * 20)
    assert main(["outcomes", "merge", with_own, without, "--out", str(tmp_path / "out")]) == 0
    assert of_split(str(tmp_path / "out"), "val") == of_split(without, "val") | of_split(with_own, "val")


def test_tables_without_validation_items_are_merged_into_what_opening_makes_of_them(tmp_path):
    one, two = (
        written(tmp_path, "one", ["train"] * 100),
        written(tmp_path, "two", ["train"] * 90 + ["test"] * 30, range(100, 220)),
    )
    assert main(["outcomes", "merge", one, two, "--out", str(tmp_path / "out")]) == 0
    merged = merge_tables({name: read_table(name) for name in (one, two)})
    assert_same(read_table(tmp_path / "out"), with_validation(merged))


def test_one_question_in_two_splits_names_both():
    one, two = (
        table([item("i", text="What  now?")], ["a"], [[1]]),
        table([item("j", "test", "What now?")], ["a"], [[1]]),
    )
    said = message(one, two)
    assert "item 'i' of one in train, item 'j' of two in test" in said
    assert "What now?" in said


def test_one_question_under_two_ids_is_joined_and_said(tmp_path, caplog):
    write_table(table([item("i", text="What  now?"), item("k")], ["a"], [[1, 0]]), tmp_path / "one")
    write_table(table([item("j", text="What now?"), item("k")], ["b"], [[1, 0]]), tmp_path / "two")
    folders = [str(tmp_path / name) for name in ("one", "two", "both")]
    assert main(["outcomes", "merge", *folders[:2], "--out", folders[2]]) == 0
    assert read_table(folders[2]).item_ids == ("i", "k", "j")
    (said,) = caplog.messages
    assert said.startswith(
        "1 questions stand under several ids, such as 'i' and 'j': their candidates are not compared"
    )


def test_contradictions_name_both_tables():
    one = table([item("i")], ["a"], [[1]])
    assert "one and two disagree on the text of item 'i'" in message(
        one, table([item("i", text="other")], ["a"], [[1]])
    )
    other = table([item("i")], ["b", "a"], [[1], [0]], [[1], [2]])
    assert "outcomes of candidate 'a' on item 'i' differ: 1 in one, 0 in two" in message(one, other)
    silent = table([item("j"), item("i")], ["a"], [[0, np.nan]])
    assert "on item 'i' differ: 1 in two, 0 in three" in message(silent, one, other)
    cheap = table([item("i")], ["a"], [[1]], [[1]])
    dear = dataclasses.replace(cheap, cost_usd_MN=np.array([[2]], np.float32))
    assert "costs of candidate 'a' on item 'i' differ: 1 in two, 2 in three" in message(one, cheap, dear)
    large = dataclasses.replace(one, candidates=(Candidate("a", params_b=7),))
    larger = dataclasses.replace(one, candidates=(Candidate("a", params_b=8),))
    assert "disagree on the params_b of candidate 'a' ('7' and '8')" in message(large, larger)
    assert merge_tables({"one": one, "large": large}).candidates == large.candidates
    assert "nothing to merge" in message()


def test_order_and_names_of_the_first_table_stay():
    assert_same(merge_tables({"one": small()}), small())
