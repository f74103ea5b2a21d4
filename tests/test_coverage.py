import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.evaluation.intervals import mean_interval
from satjax.evaluation.protocols.coverage import MOST, _unions, coverage
from satjax.outcomes import Candidate, Item, OutcomeTable

RIGHT = np.array(
    [
        [1, 1, 1, 1, 1, 0, 0, 0],  # the best
        [1, 1, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0],
    ],
    np.float32,
)


def table(test, **others):
    """Scores `[M, N]` on the test split, and on any others by name."""
    scores = others | {"test": test}
    items = tuple(
        Item(f"{split} {n}", "text", "task", split=split)
        for split, matrix in scores.items()
        for n in range(matrix.shape[1])
    )
    candidates = tuple(Candidate(f"c{m}") for m in range(len(test)))
    return OutcomeTable(items, candidates, np.concatenate(list(scores.values()), axis=1))


def test_by_hand():
    found = coverage(table(RIGHT))
    assert (found["best_candidate"], found["best_candidate_right"], found["chosen_on"]) == ("c0", 5 / 8, "test")
    assert list(found["sizes"]) == ["1", "2", "3"]
    one, two, three = found["sizes"].values()
    assert shares(one["covers_best"]) == pytest.approx(((3 + 1 + 0) / 15, 3 / 5))
    assert one["oracle"]["best"] == pytest.approx(3 / 8)
    assert two["covers_best"]["best"] == pytest.approx(4 / 5)
    assert two["best_union"] == ["c1", "c2"]
    assert three["unions"] == 1
    assert shares(three["oracle"]) == pytest.approx((6 / 8, 6 / 8))


def shares(found):
    return found["mean"], found["best"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_best_are_chosen_on_another_split_and_measured_on_the_test_split(split):
    """In the other split candidates 0 and 1 have changed places with 2 and 3: each is best where the test split does not show it."""
    found = coverage(table(RIGHT, **{split: RIGHT[[2, 3, 0, 1]]}))
    assert (found["best_candidate"], found["chosen_on"]) == ("c2", split)
    assert (found["best_candidate_right"], found["instructions"]) == (2 / 8, 8)
    one, two, three = found["sizes"].values()
    assert one["best_union"] == ["c3"]
    assert shares(one["covers_best"]) == pytest.approx(((1 + 0 + 0) / 6, 0))
    assert shares(one["oracle"]) == pytest.approx(((5 + 3 + 1) / 24, 1 / 8))
    assert two["best_union"] == ["c0", "c3"]
    assert shares(two["covers_best"]) == pytest.approx((2 / 6, 1 / 2))
    assert shares(three["oracle"]) == pytest.approx((6 / 8, 6 / 8))


def test_the_training_split_is_preferred_unless_nothing_is_observed_there():
    other = RIGHT[[2, 3, 0, 1]]
    assert coverage(table(RIGHT, val=RIGHT, train=other))["chosen_on"] == "train"
    assert coverage(table(RIGHT, train=np.full_like(RIGHT, np.nan), val=other))["chosen_on"] == "val"


def test_the_maximum_of_many_unions_on_the_test_split_is_not_what_is_reported():
    """Outcomes that are tossed: no union is better than another, and the best by the training split is not above their mean by more than chance."""
    rng = np.random.default_rng(0)
    tossed = (rng.random((9, 400)) < 0.4).astype(np.float32)
    tossed[0] = rng.random(400) < 0.8
    first, second = tossed[:, :200], tossed[:, 200:]
    optimistic, found = (
        coverage(each)["sizes"]["3"]["covers_best"] for each in (table(second), table(second, train=first))
    )
    assert optimistic["mean"] == found["mean"]
    assert found["best"] < optimistic["best"]
    assert found["best_interval"]["low"] < found["mean"] < optimistic["best_interval"]["low"]


def test_intervals_are_over_the_instructions_that_a_share_is_of():
    rng = np.random.default_rng(0)
    right = (rng.random((3, 100)) < [[0.7], [0.4], [0.3]]).astype(np.float32)
    found = coverage(table(right, train=right))
    assert found["best_candidate_right_interval"] == vars(mean_interval(right[0]))
    one = found["sizes"]["1"]
    where_best = right[:, right[0] == 1]
    best = ["c1", "c2"].index(one["best_union"][0]) + 1
    assert one["covers_best"]["best_interval"] == vars(mean_interval(where_best[best]))
    assert one["covers_best"]["mean_interval"] == vars(mean_interval(where_best[1:].mean(axis=0)))
    assert one["covers_best"]["best_interval"]["n"] == where_best.shape[1] < 100
    assert one["oracle"]["mean_interval"]["n"] == one["oracle"]["best_interval"]["n"] == 100
    for kind in ("mean", "best"):
        interval = one["oracle"][f"{kind}_interval"]
        assert interval["low"] < one["oracle"][kind] == interval["mean"] < interval["high"]


def test_the_best_candidate_has_answered_both_splits():
    unknown = RIGHT.copy()
    unknown[0] = np.nan
    assert coverage(table(unknown, train=RIGHT))["best_candidate"] != "c0"
    assert coverage(table(RIGHT, train=unknown))["best_candidate"] != "c0"


def test_a_best_candidate_that_is_never_right_on_the_test_split_has_nothing_to_cover():
    found = coverage(table(np.zeros_like(RIGHT), train=RIGHT))["sizes"]["2"]
    assert shares(found["covers_best"]) == (None, None)
    assert found["covers_best"]["best_interval"]["n"] == 0
    assert shares(found["oracle"]) == (0, 0)


def test_a_candidate_that_was_hardly_tried_is_not_the_best():
    scores = np.concatenate([RIGHT, np.full((1, 8), np.nan, np.float32)])
    scores[4, 0] = 1
    assert coverage(table(scores))["best_candidate"] == "c0"


def test_who_is_right_wherever_it_was_tried_is_not_weaker():
    """Half of the instructions were not tried, which counts as not right where shares are of all."""
    scores = np.concatenate([RIGHT, np.ones((1, 8), np.float32)])
    scores[4, 4:] = np.nan
    found = coverage(table(scores))
    assert found["best_candidate"] == "c0"
    assert all("c4" not in size["best_union"] for size in found["sizes"].values())
    assert list(found["sizes"]) == ["1", "2", "3"]


def test_where_nobody_was_tried_on_nearly_all_there_is_no_best():
    scores = np.concatenate([RIGHT[::-1]] * 5, axis=1)
    scores[:, :3] = np.nan  # 37 of 40
    with pytest.raises(SatjaxError, match="no candidate has outcomes on more than 95% of the test split;"):
        coverage(table(scores))
    both = "no candidate has outcomes on more than 95% of the train split and of the test split;"
    with pytest.raises(SatjaxError, match=both):
        coverage(table(scores, train=RIGHT))


def test_many_unions_are_sampled():
    rng = np.random.default_rng(0)
    assert len(_unions(list(range(8)), 3, rng)) == 56
    drawn = _unions(list(range(30)), 6, rng)
    assert len(drawn) <= MOST
    assert len(drawn) == len(set(drawn)) > MOST // 2
    assert all(len(set(union)) == 6 for union in drawn)
