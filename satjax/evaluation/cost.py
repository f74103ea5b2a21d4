"""What quality costs: routing under a price, in US dollars per call, and the share of calls that a strong candidate needs.

Everywhere `outcome` is float in [0, 1] and `cost` float in US dollars per call, both NaN where unobserved. Only a pair whose outcome and
cost are both observed can be chosen; instructions without such a pair are left out of every figure.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

GRID_POINTS = 64
SMALLEST_DIFFERENCE = 1e-3
SMALLEST_STEP = 5e-3
"""Share of the cost range: that two of the cheapest candidates cost less apart than this spreads no prices."""
SAME_SCORE = 1e-6
"""Per instruction: outcomes are float32, and a gap of less is one of their rounding (0.7 - 0.6 is not 0.2 - 0.1)."""


@dataclass(frozen=True)
class Choices:
    """What was chosen at each of L prices for the `n` instructions of which any pair can be chosen: its cost and outcome, float64 `[L, n]`.

    `counts_B` says which instructions these are. `cheapest_cost_N` and `dearest_cost_N` are what the candidates of lowest and of highest
    expected cost cost on each.
    """

    lambda_L: ndarray
    cost_LN: ndarray
    outcome_LN: ndarray
    cheapest_cost_N: ndarray
    dearest_cost_N: ndarray
    counts_B: ndarray


@dataclass(frozen=True)
class QualityCostCurve:
    """Mean cost and mean outcome of a router at every price `lambda`, and the hull of these points.

    `cost_range` goes from sending each of the `n` instructions to its candidate of lowest expected cost to sending it to that of highest:
    it does not depend on the router, so curves over the same instructions have it in common.
    """

    lambda_L: ndarray
    cost_L: ndarray
    outcome_L: ndarray
    hull_cost_K: ndarray
    hull_outcome_K: ndarray
    cost_range: tuple[float, float]
    n: int


def choices_at_prices(
    probability_BM: Float[ndarray, "b m"],
    outcome_BM: Float[ndarray, "b m"],
    cost_BM: Float[ndarray, "b m"],
    mean_cost_M: Float[ndarray, "m"],
) -> Choices | None:
    """Each instruction goes to `argmax_m probability - lambda * mean_cost`, of equals to the cheapest, at every price `lambda`.

    `lambda` is the outcome that a dollar has to buy, in 1 / US dollars: 0 ignores cost. (RouterBench maximizes
    `w * probability - mean_cost`; its willingness to pay `w` is `1 / lambda`.) The grid is 0 and 64 values in geometric steps (one more where
    two candidates cost nearly the same), the last of them so high that the cheapest open candidate is always chosen.

    Args:
        probability_BM: in [0, 1].
        outcome_BM: of the pairs, read only after the choice, to average what was chosen.
        cost_BM: of the pairs, read only after the choice as outcomes are: a router does not know what a call will cost.
        mean_cost_M: expected cost of a call, from training data, never from the evaluated instructions. A candidate with NaN is never
            chosen.

    Returns:
        The choices, or None where nothing can be chosen.
    """
    # Cheaper candidates first: argmax takes the first of equals.
    order = np.argsort(mean_cost_M, kind="stable")
    mean_cost_M = mean_cost_M[order].astype(np.float64)
    outcome_BM, cost_BM = outcome_BM[:, order].astype(np.float64), cost_BM[:, order].astype(np.float64)
    open_BM = ~np.isnan(outcome_BM) & ~np.isnan(cost_BM) & ~np.isnan(mean_cost_M)
    counts_B = open_BM.any(axis=1)
    if not counts_B.any():
        return None
    probability_NM, open_NM = probability_BM[:, order][counts_B].astype(np.float64), open_BM[counts_B]
    outcome_NM, cost_NM = outcome_BM[counts_B], cost_BM[counts_B]
    lambda_L = _lambda_grid(mean_cost_M)
    rows = np.arange(len(open_NM))
    chosen_LN = np.stack(
        [np.where(open_NM, probability_NM - price * mean_cost_M, -np.inf).argmax(axis=1) for price in lambda_L]
    )
    cheapest_N, dearest_N = open_NM.argmax(axis=1), open_NM.shape[1] - 1 - open_NM[:, ::-1].argmax(axis=1)
    return Choices(
        lambda_L,
        cost_NM[rows, chosen_LN],
        outcome_NM[rows, chosen_LN],
        cost_NM[rows, cheapest_N],
        cost_NM[rows, dearest_N],
        counts_B,
    )


def curve_of(choices: Choices, rows: Int[ndarray, "r"] | None = None) -> QualityCostCurve:
    """Means of the choices over the instructions, or over those with the indices `rows` (into the n), one as often as it stands there."""
    rows = np.arange(choices.cost_LN.shape[1]) if rows is None else rows
    n, times_N = len(rows), np.bincount(rows, minlength=choices.cost_LN.shape[1])
    # Sums of hard outcomes are whole numbers, and exact: what is equal stays equal.
    cost_L, outcome_L = choices.cost_LN @ times_N / n, choices.outcome_LN @ times_N / n
    cost_range = float(choices.cheapest_cost_N @ times_N / n), float(choices.dearest_cost_N @ times_N / n)
    return QualityCostCurve(choices.lambda_L, cost_L, outcome_L, *nondecreasing_hull(cost_L, outcome_L), cost_range, n)


def _lambda_grid(mean_cost_M: ndarray) -> ndarray:
    """From 0 over the price at which the whole cost range weighs 1e-3 to one at which the smallest step from the cheapest weighs 2.

    A step below `SMALLEST_STEP`, or a smaller one between dearer candidates, gets a last price of its own: the cheaper of any two is chosen there,
    whoever is open, and evenly spread, the prices up to it would leave few for all other steps.
    """
    costs = np.unique(mean_cost_M[~np.isnan(mean_cost_M)])
    if len(costs) < 2:
        return np.zeros(1)
    width, step = costs[-1] - costs[0], costs[1] - costs[0]
    prices = np.geomspace(SMALLEST_DIFFERENCE / width, 2 / max(step, SMALLEST_STEP * width), GRID_POINTS)
    last = 2 / np.diff(costs).min()
    is_higher = last > prices[-1] and not np.isclose(last, prices[-1])  # geomspace rounds its ends
    return np.concatenate([[0.0], prices, [last] if is_higher else []])


def nondecreasing_hull(
    cost_P: Float[ndarray, "p"], outcome_P: Float[ndarray, "p"]
) -> tuple[Float[ndarray, "k"], Float[ndarray, "k"]]:
    """Cost and outcome, both rising, of the non-decreasing convex hull of points (RouterBench, Hu et al. 2024, section 3).

    The highest outcome that a random mixture of the points reaches without costing more. It starts at the cheapest point and ends at
    the best one. Of the candidates' own mean costs and outcomes it is RouterBench's zero router.
    """
    hull: list[tuple[float, float]] = []
    for place in np.lexsort((-outcome_P, cost_P)):
        cost, outcome = float(cost_P[place]), float(outcome_P[place])
        if hull and outcome <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-2], (cost, outcome)):
            hull.pop()
        hull.append((cost, outcome))
    return np.array([cost for cost, _ in hull]), np.array([outcome for _, outcome in hull])


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def aiq(curve: QualityCostCurve) -> float | None:
    """Average Improvement in Quality of a router: `mean_over_budgets` of its hull over its cost range; None for a range without width."""
    return mean_over_budgets(curve.hull_cost_K, curve.hull_outcome_K, curve.cost_range)


def mean_over_budgets(
    hull_cost_K: Float[ndarray, "k"], hull_outcome_K: Float[ndarray, "k"], cost_range: tuple[float, float]
) -> float | None:
    """AIQ of a non-decreasing convex hull (RouterBench, Hu et al. 2024, arXiv 2403.12031, section 3).

    `AIQ = 1 / (c_max - c_min) * integral from c_min to c_max of R(c) dc`, with `R` the hull of the router's points: a mean outcome over
    budgets, in [0, 1]. Right of the hull's last point its outcome holds, since nobody pays more for less; left of its first point there
    is no router, and the outcome is 0 (both as in the authors' `evaluation/AIQ.py`, which takes c_min = 0).

    Args:
        hull_cost_K: rising, in US dollars.
        hull_outcome_K: rising.
        cost_range: (c_min, c_max) in US dollars, the same for all that are compared.

    Returns:
        The figure, or None for a range without width.
    """
    low, high = cost_range
    if high <= low:
        return None
    start = max(low, float(hull_cost_K[0]))
    if start >= high:
        return 0.0
    between = (hull_cost_K > start) & (hull_cost_K < high)
    knots = np.concatenate([[start], hull_cost_K[between], [high]])
    return float(np.trapezoid(np.interp(knots, hull_cost_K, hull_outcome_K), knots) / (high - low))


def _recovery(score_B: ndarray, weak_B: ndarray, strong_B: ndarray) -> tuple[ndarray, ndarray] | None:
    """Share of calls to the strong candidate and gap recovered at every threshold on the score, from (0, 0) to (1, 1).

    A threshold cannot part equal scores: the line between two thresholds stands for a random part of them.
    """
    seen = ~np.isnan(weak_B) & ~np.isnan(strong_B)
    order = np.argsort(-score_B[seen], kind="stable")
    score, weak, strong = score_B[seen][order], *(a_B[seen][order].astype(np.float64) for a_B in (weak_B, strong_B))
    gain = np.cumsum(strong - weak)
    if not len(gain) or gain[-1] <= SAME_SCORE * len(gain):
        return None
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    return np.append(0.0, (last + 1) / len(gain)), np.append(0.0, gain[last] / gain[-1])


def apgr(score_B: Float[ndarray, "b"], weak_B: Float[ndarray, "b"], strong_B: Float[ndarray, "b"]) -> float | None:
    """Average performance gap recovered (RouteLLM, Ong et al. 2024, arXiv 2406.18665, section 3).

    `APGR = integral over c from 0 to 1 of PGR(c)`, where `PGR = (router - weak) / (strong - weak)` in mean outcomes when the share `c` of
    calls with the highest scores goes to the strong candidate. The paper averages ten values of `c`; here the integral is exact over
    all thresholds. Random scores give 0.5 on average, equal ones give exactly 0.5, and an oracle can exceed 1.

    Args:
        score_B: finite; how much an instruction asks for the strong candidate, such as the difference of the two probabilities.
        weak_B: outcomes of the weak candidate.
        strong_B: outcomes of the strong one. An instruction where either is NaN is left out.

    Returns:
        The figure, or None where the strong candidate is not better on average: there is no gap then.
    """
    curve = _recovery(score_B, weak_B, strong_B)
    return None if curve is None else float(np.trapezoid(curve[1], curve[0]))


def cpt(
    score_B: Float[ndarray, "b"], weak_B: Float[ndarray, "b"], strong_B: Float[ndarray, "b"], share: float
) -> float | None:
    """Call-performance threshold (RouteLLM, section 3): the smallest share of calls to the strong candidate with `PGR >= share`.

    Args and None as in `apgr`; `share` is of the gap, in [0, 1] (the paper's CPT(50 %) and CPT(80 %) are 0.5 and 0.8). Random scores give
    about `share` itself.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share of the gap {share} is outside [0, 1]")
    curve = _recovery(score_B, weak_B, strong_B)
    if curve is None:
        return None
    calls, recovered = curve
    first = int(np.argmax(recovered >= share))
    if first == 0:
        return 0.0
    part = (share - recovered[first - 1]) / (recovered[first] - recovered[first - 1])
    return float(calls[first - 1] + part * (calls[first] - calls[first - 1]))
