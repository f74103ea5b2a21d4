"""The outcome table keeps its contract and says which entry breaks it; `tables` draws valid ones for the other tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from satjax.errors import SatjaxError
from satjax.outcomes.table import SPLITS, Candidate, Item, OutcomeTable, seldom_tried

WORDS = st.text(max_size=8)
IDS = st.text(min_size=1, max_size=6)
MAYBE = st.none() | WORDS
SIZES = st.none() | st.floats(0, 1e4)
DATES = st.none() | st.sampled_from(["", "2023-12", "2024-01", "2024-01-31"])


@st.composite
def tables(draw: st.DrawFn) -> OutcomeTable:
    """Valid tables with unobserved outcomes, empty and odd texts, and with or without costs."""
    texts = WORDS.filter(lambda text: bool(text.strip()))
    item = st.builds(Item, IDS, texts, WORDS, WORDS, WORDS, st.sampled_from(SPLITS), MAYBE)
    candidate = st.builds(Candidate, IDS.filter(str.isprintable), SIZES, SIZES, MAYBE, MAYBE, DATES, MAYBE)
    items = draw(st.lists(item, min_size=1, max_size=5, unique_by=lambda value: value.id))
    candidates = draw(st.lists(candidate, min_size=1, max_size=4, unique_by=lambda value: value.id))
    shape = (len(candidates), len(items))
    nan = st.just(float("nan"))
    scores = draw(hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32) | nan))
    cost = draw(hnp.arrays(np.float32, shape, elements=st.floats(0, 4, width=32) | nan))
    return OutcomeTable(tuple(items), tuple(candidates), scores, None if np.isnan(cost).all() else cost)


def assert_same(a: OutcomeTable, b: OutcomeTable) -> None:
    """Equality of whole tables, NaN equal to NaN."""
    assert a.items == b.items
    assert a.candidates == b.candidates
    assert b.scores_MN.dtype == np.float32
    np.testing.assert_array_equal(a.scores_MN, b.scores_MN)
    assert (a.cost_usd_MN is None) == (b.cost_usd_MN is None)
    if a.cost_usd_MN is not None:
        np.testing.assert_array_equal(a.cost_usd_MN, b.cost_usd_MN)


def small(**changes) -> OutcomeTable:
    items = tuple(
        Item(f"i{n}", f"text {n}", task, split=split)
        for n, (task, split) in enumerate([("b", "train"), ("a", "train"), ("b", "test")])
    )
    parts = {
        "items": items,
        "candidates": (Candidate("alpha"), Candidate("beta")),
        "scores_MN": np.array([[0, 1, np.nan], [0.5, 0, 1]], np.float32),
        "cost_usd_MN": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
    }
    return OutcomeTable(**(parts | changes))


def test_properties_and_selections():
    table = small()
    assert table.candidate_ids == ("alpha", "beta")
    assert table.item_ids == ("i0", "i1", "i2")
    assert table.tasks == ("a", "b")
    assert table.split("test").item_ids == ("i2",)
    assert table.of_split("train").tolist() == [True, True, False]
    swapped = table.select_candidates(["beta", "alpha"])
    np.testing.assert_array_equal(swapped.scores_MN, table.scores_MN[::-1])
    np.testing.assert_array_equal(swapped.cost_usd_MN, table.cost_usd_MN[::-1])
    chosen = table.select_items(np.array([2, 0]))
    assert chosen.item_ids == ("i2", "i0")
    np.testing.assert_array_equal(chosen.cost_usd_MN, [[3, 1], [6, 4]])
    assert table.select_items([]).scores_MN.shape == (2, 0)


@given(tables(), st.sampled_from(SPLITS))
def test_the_items_of_a_split_are_a_mask_and_an_absent_one_has_none(table, name):
    mask = table.of_split(name)
    assert (mask.dtype, mask.shape) == (bool, (len(table.items),))
    assert mask.tolist() == [item.split == name for item in table.items]
    if mask.any():
        assert_same(table.split(name), table.select_items(mask))
    else:
        with pytest.raises(SatjaxError, match=f"no items of split '{name}'"):
            table.split(name)


@given(tables())
def test_a_mask_and_its_indices_select_the_same(table):
    mask = table.of_split("train")
    assert_same(table.select_items(mask), table.select_items(np.flatnonzero(mask)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores_MN": np.zeros((3, 2), np.float32)}, ("scores", "(2, 3)")),
        ({"scores_MN": np.zeros((2, 3))}, ("float64",)),
        ({"cost_usd_MN": np.zeros((2, 2), np.float32)}, ("cost_usd",)),
        ({"scores_MN": np.array([[0, 1, 0], [0, 1.5, 0]], np.float32)}, ("1.5", "beta", "i1")),
        ({"scores_MN": np.array([[0, -1, 0], [0, 0, 0]], np.float32)}, ("-1", "alpha")),
        ({"scores_MN": np.full((2, 3), np.inf, np.float32)}, ("inf",)),
        ({"cost_usd_MN": np.array([[0, np.nan, 1], [0, -0.5, 0]], np.float32)}, ("cost -0.5", "beta", "i1")),
        ({"cost_usd_MN": np.full((2, 3), np.inf, np.float32)}, ("cost inf", "US dollars")),
        ({"candidates": (Candidate("alpha"), Candidate("alpha"))}, ("alpha", "twice")),
        ({"items": (Item("x", "t", "a"), Item("y", "t", "a"), Item("x", "t", "a"))}, ("'x'", "twice")),
        ({"items": (Item("x", "t", "a"), Item("y", " \n", "a"), Item("z", "t", "a"))}, ("'y'", "empty")),
        ({"items": tuple(Item(i, "t", "a", split="dev") for i in "xyz")}, ("'x'", "'dev'", "val")),
    ],
)
def test_the_first_offender_is_named(changes, words):
    with pytest.raises(SatjaxError) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "date", ["2024-5", "2024", "May 2024", "2024-13", "2024-00", "2024-05-00", "2024-05-32", " 2024-05"]
)
def test_dates_that_would_not_stand_in_their_order_are_refused(date):
    with pytest.raises(SatjaxError, match=f"candidate 'alpha' has the release_date '{date}'; write it as YYYY-MM"):
        Candidate("alpha", release_date=date)


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\nb", "\u202eab", "a\x00"])
def test_names_that_would_steer_a_terminal_are_refused(name):
    with pytest.raises(SatjaxError, match="has characters in its id that do not print; rename it") as caught:
        Candidate(name)
    assert str(caught.value).isprintable()


def test_absent_splits_candidates_and_ill_fitting_masks_are_named():
    with pytest.raises(SatjaxError, match=r"'val'; it has test, train"):
        small().split("val")
    with pytest.raises(SatjaxError, match=r"'betta': did you mean 'beta'"):
        small().select_candidates(["betta"])
    with pytest.raises(SatjaxError, match=r"\(2,\) does not fit its 3 items"):
        small().select_items(np.array([True, False]))


@pytest.mark.parametrize(
    ("counts", "few"),
    [
        ([5000, 100, 99, 1], [False, False, True, True]),
        ([30, 20, 15, 14], [False, False, False, True]),  # a small table: nobody has more
        ([3, 3, 3], [False, False, False]),
        ([300, 0], [False, True]),
    ],
)
def test_few_outcomes_are_few_beside_those_of_others(counts, few):
    scores = np.full((len(counts), max(counts)), np.nan, np.float32)
    for scores_N, count in zip(scores, counts, strict=True):
        scores_N[:count] = 1.0
    assert seldom_tried(scores).tolist() == few


def test_categories_are_left_out_whole():
    items = tuple(Item(str(i), "text", "t", category) for i, category in enumerate(("law", "math", "law", "health")))
    table = OutcomeTable(items, (Candidate("a"),), np.array([[0, 1, 0.5, 1]], np.float32))
    assert table.categories == ("health", "law", "math")
    assert table.without_categories(("law",)).item_ids == ("1", "3")
    assert table.without_categories(()) is table
    with pytest.raises(SatjaxError, match="unknown category 'lav': did you mean 'law'"):
        table.without_categories(("lav",))
