"""What unions of weaker candidates could do, were the right one chosen each time: the paper's Figure 1."""

import math
from itertools import combinations
from typing import Any

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes import OutcomeTable

NEARLY_ALL = 0.95
"""Share of the instructions that a candidate has to have answered to be the best one."""
MOST = 2_000
"""Unions of one size that are looked at; of more than that a sample is drawn."""


def coverage(table: OutcomeTable, *, largest: int = 6, seed: int = 0) -> dict[str, Any]:
    """For unions of 1 to `largest` candidates weaker than the best one: the share of the best candidate's right answers that they also have,
    and how often one of them is right, as an oracle would choose; mean and best over the unions. Right is a score above 0.5, and an
    instruction that was not tried is not right.

    The best candidate is the one that is most often right on the test split among those that answered nearly all of it. Raises SatjaxError
    where none did.
    """
    outcome_MN = table.split("test").scores_MN
    seen = ~np.isnan(outcome_MN)
    complete = seen.mean(axis=1) > NEARLY_ALL
    if not complete.any():
        raise SatjaxError(
            f"coverage: no candidate has outcomes on more than {NEARLY_ALL:.0%} of the test split; leave out instructions that few were tried on"
        )
    right_MN = np.where(seen, outcome_MN, 0) > 0.5
    best = int(np.argmax(np.where(complete, right_MN.mean(axis=1), -1)))
    weaker = [m for m in range(len(right_MN)) if m != best and right_MN[m].mean() < right_MN[best].mean()]
    rng = np.random.default_rng(seed)
    sizes = {}
    for size in range(1, min(largest, len(weaker)) + 1):
        unions = _unions(weaker, size, rng)
        covered = np.array([right_MN[list(union)].any(axis=0) for union in unions])
        of_best = covered[:, right_MN[best]].mean(axis=1)
        alone = covered.mean(axis=1)
        top = int(np.argmax(of_best))
        sizes[str(size)] = {
            "unions": len(unions),
            "covers_best": {"mean": float(of_best.mean()), "best": float(of_best[top])},
            "oracle": {"mean": float(alone.mean()), "best": float(alone.max())},
            "best_union": [table.candidate_ids[m] for m in unions[top]],
        }
    return {
        "protocol": "coverage",
        "instructions": outcome_MN.shape[1],
        "best_candidate": table.candidate_ids[best],
        "best_candidate_right": float(right_MN[best].mean()),
        "sizes": sizes,
    }


def _unions(members: list[int], size: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    if math.comb(len(members), size) <= MOST:
        return list(combinations(members, size))
    drawn = {tuple(sorted(rng.choice(members, size, replace=False).tolist())) for _ in range(MOST)}
    return sorted(drawn)
