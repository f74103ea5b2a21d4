"""Quality against cost, and how well a strong candidate is spared: figures of every method on one split, with their references.

`probabilities` are float `[S, B, M]` of S seeds, by method. A figure is a mean over seeds, and its 95 % interval over instructions is one
of that mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from satjax.evaluation.cost import (
    Choices,
    aiq,
    apgr,
    choices_at_prices,
    cpt,
    curve_of,
    mean_over_budgets,
    nondecreasing_hull,
)
from satjax.evaluation.figures import FEWEST, best_single, mean_of_known, over_seeds
from satjax.evaluation.intervals import Interval, figure_intervals
from satjax.outcomes import OutcomeTable

SAME_COST = 1e-6
"""Relative: means of equal prices, float32 each, differ by their rounding."""

PAIR_FIGURES = ("apgr", "cpt50", "cpt80")

Found = tuple[dict[str, Any], dict[str, dict[str, Any]]]
"""What methods are compared with, and the figures of each method; JSON-ready."""


def expected_costs(table: OutcomeTable, split: str) -> np.ndarray | None:
    """Mean cost of each candidate's calls on the training split, float64 `[M]` in US dollars, NaN for a candidate without any.

    None where the table has no costs there, or where `split`, the evaluated one, is the training split itself.
    """
    train_N = table.of_split("train")
    if table.cost_usd_MN is None or split == "train" or np.isnan(table.cost_usd_MN[:, train_N]).all():
        return None
    return _means(table.cost_usd_MN[:, train_N].T)


def _means(a_NM: np.ndarray) -> np.ndarray:
    """Mean of each column's values that are not NaN, in float64; NaN for a column without any."""
    with np.errstate(invalid="ignore"):
        return np.nansum(a_NM, axis=0, dtype=np.float64) / (~np.isnan(a_NM)).sum(axis=0)


def quality_against_cost(
    probabilities: Mapping[str, np.ndarray],
    table: OutcomeTable,
    split: str,
    outcome_BM: np.ndarray,
    cost_BM: np.ndarray,
) -> Found | None:
    """AIQ of every method, how far that is above the zero router's (paired), and the first seed's points and their hull.

    The references are the single candidates; the zero router (RouterBench, Hu et al. 2024, section 3), the hull of their points on this
    split, which mixes candidates without a look at the instruction; and the oracle, which knows every outcome, but of the costs only
    what is expected, as the methods do. All have the cost range in common, in each resample too. The zero router, the candidates' points
    and what is above it are of the instructions that all of them have a pair on, since means over different ones cannot be mixed; where
    these are too few, the zero router has a `reason` instead of figures, and the points are of each one's own instructions. Candidates
    that cannot be chosen under a price, for want of such a pair, are in `left_out`. None where no pair has an outcome, a cost, and an expected cost (`expected_costs`).
    """
    expected_M = expected_costs(table, split)
    if expected_M is None:
        return None
    oracle = choices_at_prices(np.nan_to_num(outcome_BM), outcome_BM, cost_BM, expected_M)
    if oracle is None:
        return None
    shut_BM = np.isnan(outcome_BM) | np.isnan(cost_BM) | np.isnan(expected_M)
    outcome_NM, cost_NM = (np.where(shut_BM, np.nan, each)[oracle.counts_B] for each in (outcome_BM, cost_BM))
    best = curve_of(oracle)
    called_M = ~np.isnan(cost_NM).all(axis=0)
    in_common = np.flatnonzero(~np.isnan(cost_NM[:, called_M]).any(axis=1))
    zero: dict[str, Any] = {"n": len(in_common)}
    if len(in_common) >= min(FEWEST, best.n):
        common, shown = in_common, in_common
        hull = zero_router(outcome_NM[common], cost_NM[common])
        zero |= {"aiq": mean_over_budgets(*hull, curve_of(oracle, common).cost_range), "hull": _points(*hull)}
    else:
        common, shown = None, np.arange(best.n)
        reason = (
            f"{len(in_common)} of {best.n} instructions have an outcome and a cost of all {called_M.sum()} candidates"
        )
        zero |= {"aiq": None, "hull": None, "reason": f"{reason}; {FEWEST} are the least"}
    points = zip(table.candidate_ids, expected_M, _means(cost_NM[shown]), _means(outcome_NM[shown]), strict=True)
    priced = {
        name: {"expected_cost": float(expected), "cost": float(cost), "outcome": float(outcome)}
        for name, expected, cost, outcome in points
        if not np.isnan(cost)
    }
    references = {
        "n": best.n,
        "range": list(best.cost_range),
        "candidates": priced,
        "left_out": [name for name in table.candidate_ids if name not in priced],
        "zero_router": zero,
        "oracle": {"aiq": aiq(best), "hull": _points(best.hull_cost_K, best.hull_outcome_K)},
    }
    found = {}
    for name, probability_SBM in probabilities.items():
        seeds = [choices_at_prices(each, outcome_BM, cost_BM, expected_M) for each in probability_SBM]
        found[name] = _against_zero_router([each for each in seeds if each is not None], outcome_NM, cost_NM, common)
    return references, found


def zero_router(outcome_NM: np.ndarray, cost_NM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cost and outcome, float64 `[K]`, of the hull of the candidates' own points; outcomes and costs are NaN together."""
    cost_M, outcome_M = _means(cost_NM), _means(outcome_NM)
    called_M = ~np.isnan(cost_M)
    return nondecreasing_hull(cost_M[called_M], outcome_M[called_M])


def _against_zero_router(
    seeds: Sequence[Choices], outcome_NM: np.ndarray, cost_NM: np.ndarray, common: np.ndarray | None
) -> dict[str, Any]:
    """`common`: indices of the instructions that have a pair of every candidate, None where these are too few for a zero router."""

    def mean(rows: np.ndarray) -> float | None:
        return mean_of_known([aiq(curve_of(choices, rows)) for choices in seeds])

    def above(rows: np.ndarray) -> float | None:
        ours, cost_range = mean(rows), curve_of(seeds[0], rows).cost_range
        zero = mean_over_budgets(*zero_router(outcome_NM[rows], cost_NM[rows]), cost_range)
        return None if ours is None or zero is None else ours - zero

    (interval,) = figure_intervals(lambda rows: [mean(rows)], len(outcome_NM))
    gain = Interval(None, None, None, 0)
    if common is not None:
        (gain,) = figure_intervals(lambda rows: [above(common[rows])], len(common))
    curves = [curve_of(choices) for choices in seeds]
    first = curves[0]
    return {
        "aiq": over_seeds([aiq(curve) for curve in curves], interval),
        "above_zero_router": asdict(gain),
        "points": {"lambda": first.lambda_L.tolist(), **_points(first.cost_L, first.outcome_L)},
        "hull": _points(first.hull_cost_K, first.hull_outcome_K),
    }


def _points(cost_P: np.ndarray, outcome_P: np.ndarray) -> dict[str, list[float]]:
    return {"cost": cost_P.tolist(), "outcome": outcome_P.tolist()}


def strong_and_weak(table: OutcomeTable, split: str) -> tuple[int, int] | None:
    """Columns of the pair that calls are shared out between: the best single candidate, and the cheapest one.

    Both by the training split: the strong one is `best_single`, the weak one has the lowest mean cost, and is the best of those that have it. They are the two ends of that split's zero
    router, so that no threshold on quality has to be invented (RouteLLM, Ong et al. 2024, names its pair by hand, GPT-4 and
    Mixtral 8x7B). Where no costs are known, two candidates are a pair, the better one strong, and more than two are none. None as
    well where the best candidate is as cheap as any, or its cost is unknown, or there is no training split beside `split` to tell.
    """
    strong, chosen_on = best_single(table, split)
    if strong is None or chosen_on != "train":
        return None
    expected_M = expected_costs(table, split)
    if expected_M is not None:
        cheapest_M = np.isclose(expected_M, np.nanmin(expected_M), rtol=SAME_COST, atol=0)
        if cheapest_M[strong] or np.isnan(expected_M[strong]):
            return None
        cheapest = np.flatnonzero(cheapest_M)
        best, _ = best_single(table.select_candidates([table.candidate_ids[m] for m in cheapest]), split)
        return strong, int(cheapest[best or 0])
    return (strong, 1 - strong) if len(table.candidates) == 2 else None


def strong_against_weak(
    probabilities: Mapping[str, np.ndarray], table: OutcomeTable, split: str, outcome_BM: np.ndarray
) -> Found | None:
    """APGR, CPT(50 %) and CPT(80 %) of every method on the pair of `strong_and_weak`; None where there is none.

    A method calls the strong candidate where it sees the largest difference of the two probabilities. Only instructions that both answered
    count. The figures are None where the strong candidate is not the better one on this split.
    """
    pair = strong_and_weak(table, split)
    if pair is None:
        return None
    strong, weak = pair
    both_B = ~np.isnan(outcome_BM[:, list(pair)]).any(axis=1)
    strong_N, weak_N = outcome_BM[both_B, strong], outcome_BM[both_B, weak]
    found = {
        name: _of_pair(probability_SBM[:, both_B, strong] - probability_SBM[:, both_B, weak], weak_N, strong_N)
        for name, probability_SBM in probabilities.items()
    }
    references = {
        "n": int(both_B.sum()),
        "strong": {"candidate": table.candidate_ids[strong], "outcome": mean_of_known(strong_N)},
        "weak": {"candidate": table.candidate_ids[weak], "outcome": mean_of_known(weak_N)},
        "oracle": dict(zip(PAIR_FIGURES, _recovered(strong_N - weak_N, weak_N, strong_N), strict=True)),
    }
    return references, found


def _recovered(score_N: np.ndarray, weak_N: np.ndarray, strong_N: np.ndarray) -> list[float | None]:
    return [apgr(score_N, weak_N, strong_N), *(cpt(score_N, weak_N, strong_N, share) for share in (0.5, 0.8))]


def _of_pair(score_SN: np.ndarray, weak_N: np.ndarray, strong_N: np.ndarray) -> dict[str, Any]:
    def means(rows: np.ndarray) -> list[float | None]:
        seeds = [_recovered(score_N[rows], weak_N[rows], strong_N[rows]) for score_N in score_SN]
        return [mean_of_known(values) for values in zip(*seeds, strict=True)]

    seeds = [_recovered(score_N, weak_N, strong_N) for score_N in score_SN]
    intervals = figure_intervals(means, len(weak_N))
    return {
        name: over_seeds(values, interval)
        for name, values, interval in zip(PAIR_FIGURES, zip(*seeds, strict=True), intervals, strict=True)
    }
