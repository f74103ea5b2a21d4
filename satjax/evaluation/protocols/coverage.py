"""What unions of weaker candidates could do, were the right one chosen each time: the paper's Figure 1."""

import math
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from satjax.errors import SatjaxError
from satjax.evaluation.figures import best_single
from satjax.evaluation.intervals import mean_interval
from satjax.evaluation.protocols import COVERAGE
from satjax.outcomes import OutcomeTable

NEARLY_ALL = 0.95
"""Share of the instructions that a candidate has to have answered to be the best one."""
LARGEST = 6
"""Union, of so many candidates."""
MOST = 2_000
"""Unions of one size that are looked at; of more than that a sample is drawn."""


def coverage(table: OutcomeTable) -> dict[str, Any]:
    """For unions of 1 to `LARGEST` candidates weaker than the best one, less often right than it where both answered: the share of the best candidate's right answers that they also have
    (`covers_best`), and how often one of them is right, as an oracle would choose (`oracle`). Right is a score above 0.5, and an instruction
    that was not tried is not right.

    All shares are of the test split: their `mean` over the unions of a size and that of the best one of them (`best`), with 95 % intervals
    over instructions. What is best is chosen on the split named in `chosen_on`, else the best of many would look better than it is: the
    candidate that is most often right there among those that answered nearly all of both splits, which are weaker, and the union of each
    size that covers most. That is the training split, or, as for `best_single`, another where nothing is observed there, and the test split
    itself where it is all that there is. Raises SatjaxError where no candidate answered nearly all.
    """
    test_MN = table.split("test").scores_MN
    _, chosen_on = best_single(table, "test")  # its candidate may have answered half of the instructions
    chosen_on_MN = table.split(chosen_on).scores_MN
    complete_M = np.ones(len(test_MN), bool)
    for scores_MN in (chosen_on_MN, test_MN):
        complete_M &= (~np.isnan(scores_MN)).mean(axis=1) > NEARLY_ALL
    if not complete_M.any():
        where = " and of ".join(f"the {split} split" for split in dict.fromkeys((chosen_on, "test")))
        raise SatjaxError(
            f"{COVERAGE}: no candidate has outcomes on more than {NEARLY_ALL:.0%} of {where}; leave out instructions that few were tried on"
        )
    strength_M = (chosen_on_MN > 0.5).mean(axis=1)  # NaN is not above
    best = int(np.argmax(np.where(complete_M, strength_M, -1)))
    behind_MN = np.where(
        np.isnan(chosen_on_MN + chosen_on_MN[best]), 0, (chosen_on_MN[best] > 0.5) - 1 * (chosen_on_MN > 0.5)
    )
    weaker = [int(m) for m in np.flatnonzero(behind_MN.sum(axis=1) > 0)]
    to_cover_MN = chosen_on_MN[:, chosen_on_MN[best] > 0.5] > 0.5
    right_MN = test_MN > 0.5
    rng = np.random.default_rng(0)
    sizes = {}
    for size in range(1, min(LARGEST, len(weaker)) + 1):
        unions = _unions(weaker, size, rng)
        top = int(np.argmax([to_cover_MN[list(union)].any(axis=0).mean() for union in unions]))
        covered_UN = np.array([right_MN[list(union)].any(axis=0) for union in unions])
        sizes[str(size)] = {
            "unions": len(unions),
            "covers_best": _mean_and_best(covered_UN[:, right_MN[best]], top),
            "oracle": _mean_and_best(covered_UN, top),
            "best_union": [table.candidate_ids[m] for m in unions[top]],
        }
    best_right = mean_interval(right_MN[best].astype(np.float64))
    return {
        "protocol": COVERAGE,
        "instructions": test_MN.shape[1],
        "chosen_on": chosen_on,
        "best_candidate": table.candidate_ids[best],
        "best_candidate_right": best_right.mean,
        "best_candidate_right_interval": asdict(best_right),
        "sizes": sizes,
    }


def _mean_and_best(covered_UN: np.ndarray, top: int) -> dict[str, Any]:
    """Shares of the N instructions, bool `[U, N]` by union, with their intervals: the mean over the unions, and that of union `top`."""
    mean, best = mean_interval(covered_UN.mean(axis=0)), mean_interval(covered_UN[top].astype(np.float64))
    return {"mean": mean.mean, "best": best.mean, "mean_interval": asdict(mean), "best_interval": asdict(best)}


def _unions(members: list[int], size: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    if math.comb(len(members), size) <= MOST:
        return list(combinations(members, size))
    drawn = {tuple(sorted(rng.choice(members, size, replace=False).tolist())) for _ in range(MOST)}
    return sorted(drawn)
