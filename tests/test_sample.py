"""Random parts of a table."""

from dataclasses import replace

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.evaluation.sample import draw_items, draw_pairs, evaluated
from satjax.outcomes import synthetic_zoo
from tests.test_table import assert_same

TABLE = synthetic_zoo(seed=4, num_items=300, num_candidates=4)
TEST = TABLE.split("test").item_ids


def test_what_is_measured_on_is_no_aptitude_item():
    kept = evaluated(TABLE, "test", TEST[3:])
    assert [name for name, is_kept in zip(TABLE.item_ids, kept, strict=True) if is_kept] == list(TEST[:3])
    with pytest.raises(
        SatjaxError, match=r"no items of split 'test' that are not of the aptitude .*; it has train, val$"
    ):
        evaluated(TABLE, "test", TEST)
    with pytest.raises(SatjaxError, match=r"; it has none at all$"):
        evaluated(TABLE.split("test"), "train", TEST)


def test_what_asks_the_same_as_an_aptitude_item_is_not_measured_on():
    (asked,) = TABLE.split("train").items[:1]
    places = [TABLE.item_ids.index(name) for name in TEST]
    items = list(TABLE.items)
    items[places[0]] = replace(items[places[0]], text=f" {asked.text}")
    kept = evaluated(replace(TABLE, items=tuple(items)), "test", [asked.id])
    assert np.flatnonzero(kept).tolist() == places[1:]


def test_one_split_is_drawn_and_the_others_stay():
    drawn = draw_items(TABLE, "test", 10)
    assert len(drawn.split("test").items) == 10
    for split in ("train", "val"):
        assert_same(drawn.split(split), TABLE.split(split))
    assert_same(drawn, draw_items(TABLE, "test", 10))
    assert drawn.split("test").item_ids != TEST[:10]


def test_a_larger_drawing_holds_a_smaller_one():
    small, large = (set(draw_items(TABLE, "test", n).split("test").item_ids) for n in (5, 20))
    assert small < large
    assert set(draw_items(TABLE, "test", 10**6).split("test").item_ids) == set(TEST)


def test_some_are_never_drawn():
    assert set(draw_items(TABLE, "test", 10**6, TEST[3:]).split("test").item_ids) == set(TEST[:3])


def test_one_instruction_is_too_few():
    with pytest.raises(SatjaxError, match="at least 2"):
        draw_items(TABLE, "test", 1)


def test_pairs_are_equally_many_of_each_candidate():
    drawn = draw_pairs(TABLE, 7)
    seen_MN = ~np.isnan(drawn.scores_MN)
    assert (seen_MN.sum(axis=1) == 7).all()
    assert seen_MN.any(axis=0).all()
    column = [TABLE.item_ids.index(name) for name in drawn.item_ids]
    np.testing.assert_array_equal(drawn.scores_MN[seen_MN], TABLE.scores_MN[:, column][seen_MN])
    assert len(drawn.items) > 7
