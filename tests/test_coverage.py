import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.evaluation.protocols import coverage
from satjax.evaluation.protocols.coverage import MOST, _unions
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


def table(scores):
    items = tuple(Item(str(n), "text", "task", split="test") for n in range(scores.shape[1]))
    return OutcomeTable(items, tuple(Candidate(f"c{m}") for m in range(len(scores))), scores)


def test_by_hand():
    found = coverage(table(RIGHT))
    assert (found["best_candidate"], found["best_candidate_right"]) == ("c0", 5 / 8)
    assert list(found["sizes"]) == ["1", "2", "3"]
    one, two, three = found["sizes"].values()
    assert one["covers_best"] == {"mean": pytest.approx((3 + 1 + 0) / 15), "best": pytest.approx(3 / 5)}
    assert one["oracle"]["best"] == pytest.approx(3 / 8)
    assert two["covers_best"]["best"] == pytest.approx(4 / 5)
    assert two["best_union"] == ["c1", "c2"]
    assert three["unions"] == 1
    assert three["oracle"] == {"mean": pytest.approx(6 / 8), "best": pytest.approx(6 / 8)}


def test_a_candidate_that_was_hardly_tried_is_not_the_best():
    scores = np.concatenate([RIGHT, np.full((1, 8), np.nan, np.float32)])
    scores[4, 0] = 1
    assert coverage(table(scores))["best_candidate"] == "c0"


def test_where_nobody_was_tried_on_nearly_all_there_is_no_best():
    scores = np.concatenate([RIGHT[::-1]] * 5, axis=1)
    scores[:, :3] = np.nan  # 37 of 40
    with pytest.raises(SatjaxError, match="no candidate has outcomes on more than 95%"):
        coverage(table(scores))


def test_many_unions_are_sampled():
    rng = np.random.default_rng(0)
    assert len(_unions(list(range(8)), 3, rng)) == 56
    drawn = _unions(list(range(30)), 6, rng)
    assert len(drawn) <= MOST
    assert len(drawn) == len(set(drawn)) > MOST // 2
    assert all(len(set(union)) == 6 for union in drawn)
