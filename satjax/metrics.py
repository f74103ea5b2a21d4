"""Figures that say how good probabilities are, and what routing by them is worth.

Everywhere `probability_BM` is float `[B, M]` in [0, 1] and `outcome_BM` is float `[B, M]` in [0, 1] with NaN = unobserved, left out of
every figure. Where a figure needs classes, a soft outcome above 0.5 counts as handled. A figure that the outcomes do not
determine (a single class, say) is None.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.stats import entropy, rankdata

ECE_BINS = 15
LOG_LOSS_CLIP = 1e-6


def _mean_auroc(probability_RC: ndarray, outcome_RC: ndarray) -> float | None:
    """Mean over the rows that have both classes of each row's AUROC.

    AUROC is P(a positive is ranked above a negative), ties counting one half (Mann-Whitney U).
    """
    seen = ~np.isnan(outcome_RC)
    positive = outcome_RC > 0.5
    num_positive = positive.sum(axis=1)
    num_negative = seen.sum(axis=1) - num_positive
    both = (num_positive > 0) & (num_negative > 0)
    if not both.any():
        return None
    seen, positive, num_positive, num_negative = (each[both] for each in (seen, positive, num_positive, num_negative))
    # The unobserved stand above all others, so that they change no rank that counts.
    rank = rankdata(np.where(seen, probability_RC[both], np.inf), axis=1)
    above = (rank * positive).sum(axis=1) - num_positive * (num_positive + 1) / 2
    return float(np.mean(above / (num_positive * num_negative)))


def auroc_pooled(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> float | None:
    """AUROC over all observed (instruction, candidate) pairs: how well handled pairs stand above the others."""
    return _mean_auroc(probability_BM.reshape(1, -1), outcome_BM.reshape(1, -1))


def auroc_per_candidate(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> float | None:
    """Mean over candidates of the AUROC over instructions: how well each one's hard instructions are told from its easy ones."""
    return _mean_auroc(probability_BM.T, outcome_BM.T)


def auroc_within_instruction(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> float | None:
    """Mean over instructions of the AUROC over candidates: what routing needs."""
    return _mean_auroc(probability_BM, outcome_BM)


def brier(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> float | None:
    """Mean squared difference of probability and outcome (Brier 1950)."""
    seen = ~np.isnan(outcome_BM)
    return float(np.mean((probability_BM[seen] - outcome_BM[seen]) ** 2)) if seen.any() else None


def log_loss(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> float | None:
    """Mean of `-(y ln p + (1 - y) ln(1 - p))` in nats, for outcome `y` as it is, hard or soft, and probability `p`.

    Probabilities are clipped to [1e-6, 1 - 1e-6], so that a certain and wrong one costs 13.8 and not infinity.
    """
    seen = ~np.isnan(outcome_BM)
    if not seen.any():
        return None
    probability = np.clip(probability_BM[seen].astype(np.float64), LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    outcome = outcome_BM[seen].astype(np.float64)
    return float(-np.mean(outcome * np.log(probability) + (1 - outcome) * np.log1p(-probability)))


@dataclass(frozen=True)
class Reliability:
    """What a reliability plot draws, for the K bins that hold a pair: edges, mean probability, mean outcome and number of pairs."""

    low_K: Float[ndarray, "k"]
    high_K: Float[ndarray, "k"]
    probability_K: Float[ndarray, "k"]
    outcome_K: Float[ndarray, "k"]
    count_K: Int[ndarray, "k"]


def reliability(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> Reliability:
    """Observed pairs by their probability in 15 bins of equal width; a bin holds its lower edge, the last one both."""
    seen = ~np.isnan(outcome_BM)
    probability, outcome = probability_BM[seen].astype(np.float64), outcome_BM[seen].astype(np.float64)
    bin_of = np.minimum((probability * ECE_BINS).astype(int), ECE_BINS - 1)
    filled, index, count = np.unique(bin_of, return_inverse=True, return_counts=True)
    return Reliability(
        filled / ECE_BINS,
        (filled + 1) / ECE_BINS,
        np.bincount(index, weights=probability) / count,
        np.bincount(index, weights=outcome) / count,
        count,
    )


def ece(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> float | None:
    """Expected calibration error: mean distance of probability and outcome over 15 bins of equal width, weighted by their pairs."""
    found = reliability(probability_BM, outcome_BM)
    if not len(found.count_K):
        return None
    return float(np.average(np.abs(found.probability_K - found.outcome_K), weights=found.count_K))


CORRECTNESS: dict[str, Callable[[ndarray, ndarray], float | None]] = {
    figure.__name__: figure
    for figure in (auroc_pooled, auroc_per_candidate, auroc_within_instruction, brier, ece, log_loss)
}
"""Figures of P(handled) by name; all but the log-loss lie in [0, 1]."""


def correctness(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> dict[str, float | None]:
    """Every figure of P(handled) by name."""
    return {name: figure(probability_BM, outcome_BM) for name, figure in CORRECTNESS.items()}


def _chosen(probability_BM: ndarray, outcome_BM: ndarray) -> ndarray:
    """Column of the likeliest candidate of each instruction; only an observed outcome can be chosen, and the first of equals is."""
    return np.where(np.isnan(outcome_BM), -np.inf, probability_BM).argmax(axis=1)


def with_a_choice(outcome_BM: Float[ndarray, "b m"]) -> Bool[ndarray, " b"]:
    """Whether an instruction has something to choose between, bool `[B]`: outcomes of two candidates, or of the only one that there is."""
    return (~np.isnan(outcome_BM)).sum(axis=1) >= min(2, outcome_BM.shape[1])


def routed_outcomes(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> Float[ndarray, " b"]:
    """Outcome of the likeliest candidate of each instruction, float `[B]`; NaN for one that is not `with_a_choice`."""
    routed_B = outcome_BM[np.arange(len(outcome_BM)), _chosen(probability_BM, outcome_BM)]
    return np.where(with_a_choice(outcome_BM), routed_B, np.nan)


def routing(
    probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"], *, best_single: int | None
) -> dict[str, Float[ndarray, " n"]]:
    """Outcome of each instruction when it goes to the likeliest candidate (`router`), and what that is to be compared with.

    `best_single` is the column of a fixed candidate chosen elsewhere, None without one; `random` is the mean over candidates, `oracle` the best.
    Only observed outcomes can be chosen; n instructions count: those `with_a_choice` that the fixed candidate, if given, answered. Where one
    candidate alone answered, all four would be the same, and would hide how far they are apart elsewhere.
    """
    counts = with_a_choice(outcome_BM)
    if best_single is not None:
        counts &= ~np.isnan(outcome_BM[:, best_single])
    outcome = outcome_BM[counts]
    return {
        "router": routed_outcomes(probability_BM[counts], outcome),
        **references(outcome, best_single=best_single),
    }


def references(outcome_NM: Float[ndarray, "n m"], *, best_single: int | None) -> dict[str, Float[ndarray, " n"]]:
    """What `routing` is compared with, of n instructions that count."""
    return {
        **({} if best_single is None else {"best_single": outcome_NM[:, best_single]}),
        "random": np.nanmean(outcome_NM, axis=1),
        "oracle": np.nanmax(outcome_NM, axis=1),
    }


def gap_recovered(router: float | None, best_single: float | None, oracle: float | None) -> float | None:
    """`(router - best_single) / (oracle - best_single)`, mean outcomes all: 0 is the best fixed candidate, 1 the oracle, below 0 a loss.

    None where the oracle gains nothing over the best single candidate, or a mean outcome is None.
    """
    if router is None or best_single is None or oracle is None or oracle <= best_single:
        return None
    return (router - best_single) / (oracle - best_single)


def selection_entropy(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> float | None:
    """Entropy `-sum_m s_m ln s_m / ln M` of the candidates' shares `s` among the choices of `routing`: 0 is routing collapse, 1 an even spread.

    None for a single candidate. A low value is no fault by itself: where one candidate leads everywhere, the oracle's is low too.
    """
    answered = ~np.isnan(outcome_BM).all(axis=1)
    num_candidates = outcome_BM.shape[1]
    if num_candidates < 2 or not answered.any():
        return None
    choices_M = np.bincount(_chosen(probability_BM[answered], outcome_BM[answered]), minlength=num_candidates)
    return min(1.0, float(entropy(choices_M) / np.log(num_candidates)))
