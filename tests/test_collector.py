"""The collector makes the table of what it was given, and refuses contradictions where they stand."""

import numpy as np
import pytest
from hypothesis import given, settings

from satjax.errors import SatjaxError
from satjax.outcomes.importers.collector import Collector
from satjax.outcomes.table import Candidate, Item, OutcomeTable
from tests.test_table import assert_same, tables

ITEM = Item("i", "What now?", "task")


@given(tables())
@settings(max_examples=50)
def test_a_table_taken_apart_is_the_same_again(table: OutcomeTable):
    collector = Collector()
    for m, candidate in enumerate(table.candidate_ids):
        for n, item in enumerate(table.items):
            cost = np.nan if table.cost_usd_MN is None else float(table.cost_usd_MN[m, n])
            collector.add(candidate, item, float(table.scores_MN[m, n]), "here", cost=cost)
    again = collector.table("nothing")
    assert_same(again, OutcomeTable(table.items, tuple(map(Candidate, table.candidate_ids)), *both(table)))


def both(table: OutcomeTable) -> tuple[np.ndarray, np.ndarray | None]:
    return table.scores_MN, table.cost_usd_MN


def test_pairs_that_were_not_added_are_unobserved():
    collector = Collector()
    collector.add("a", ITEM, 1, "here")
    collector.add("b", Item("j", "And now?", "task"), 0.5, "here", cost=0.25)
    table = collector.table("nothing")
    np.testing.assert_array_equal(table.scores_MN, [[1, np.nan], [np.nan, 0.5]])
    np.testing.assert_array_equal(table.cost_usd_MN, [[np.nan, np.nan], [np.nan, 0.25]])
    assert "a" in collector
    assert "c" not in collector


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a", ITEM, 0.0), "item 'i' stands twice for candidate 'a'"),
        (("b", Item("i", "Another?", "task"), 0.0), "item 'i' is another question than before"),
        (("b", Item("j", " ", "task"), 0.0), "item 'j' has an empty text"),
        (("b", ITEM, 1.5), "score 1.5 of 'b' is outside [0, 1]"),
        (("b", ITEM, 1.01), "score 1.01 of 'b' is outside [0, 1]"),
        (("b", ITEM, 1.000002), "score 1.000002 of 'b' is outside [0, 1]"),
        (("b", ITEM, float("-inf")), "score -inf of 'b' is outside [0, 1]"),
        (("", ITEM, 1.0), "the candidate has no name"),
        (("b", Item("j", "half \ud83d", "task"), 1.0), "item 'j' has half of a surrogate pair"),
        (("\udc00", ITEM, 1.0), "the candidate's name '\\udc00' has half of a surrogate pair"),
    ],
)
def test_contradictions(arguments, words):
    collector = Collector()
    collector.add("a", ITEM, 1, "there")
    with pytest.raises(SatjaxError) as caught:
        collector.add(*arguments, "here")
    assert str(caught.value).startswith(f"here: {words}")


def test_unobserved_outcomes_stand_beside_any_other():
    collector = Collector()
    for score, cost in ((np.nan, np.nan), (1, 0.5), (np.nan, np.nan)):
        collector.add("a", ITEM, score, "here", cost=cost)
    collector.add("b", ITEM, np.nan, "here")
    table = collector.table("nothing")
    np.testing.assert_array_equal(table.scores_MN, [[1], [np.nan]])
    np.testing.assert_array_equal(table.cost_usd_MN, [[0.5], [np.nan]])


def test_what_rounding_puts_outside_counts_as_the_end():
    collector = Collector()
    for n, score in enumerate((1.0000000000000002, -1e-17, float(np.nextafter(np.float32(1), np.float32(2))))):
        collector.add("a", Item(str(n), "What now?", "task"), score, "here")
    assert collector.table("nothing").scores_MN.tolist() == [[1, 0, 1]]


def test_costs_are_amounts():
    for cost in (-0.5, float("inf"), 1e39):
        with pytest.raises(SatjaxError, match="no amount of US dollars"):
            Collector().add("a", ITEM, 1, "here", cost=cost)


def test_one_fingerprint_makes_two_texts_one_item():
    collector = Collector()
    collector.add("a", ITEM, 1, "here", fingerprint="x")
    collector.add("b", Item("i", "<user> What now? </user>", "task"), 0, "here", fingerprint="x")
    assert collector.table("nothing").items == (ITEM,)
    with pytest.raises(SatjaxError, match="another question"):
        collector.add("c", ITEM, 1, "here", fingerprint="y")


def test_nothing_is_no_table():
    with pytest.raises(SatjaxError, match="no files"):
        Collector().table("no files")
