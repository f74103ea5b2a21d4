"""Figures that say how good probabilities are, and what routing by them is worth.

Everywhere `probability_BM` is float `[B, M]` in [0, 1] and `outcome_BM` is float `[B, M]` in [0, 1] with NaN = unobserved, left out of
every figure. Where a figure needs classes, a soft outcome above 0.5 counts as handled. A figure that the outcomes do not
determine (a single class, say) is None.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import rankdata

ECE_BINS = 15


def _auroc(probability: ndarray, positive: ndarray) -> float | None:
    """P(a positive is ranked above a negative), ties counting one half (Mann-Whitney U)."""
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return None
    above = rankdata(probability)[positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def _mean_auroc(probability_RC: ndarray, outcome_RC: ndarray) -> float | None:
    """Mean over the rows that have both classes of each row's AUROC."""
    values = []
    for probability, outcome in zip(probability_RC, outcome_RC, strict=True):
        seen = ~np.isnan(outcome)
        value = _auroc(probability[seen], outcome[seen] > 0.5)
        if value is not None:
            values.append(value)
    return float(np.mean(values)) if values else None


def auroc_pooled(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> float | None:
    """AUROC over all observed (instruction, candidate) pairs: how well handled pairs stand above the others."""
    seen = ~np.isnan(outcome_BM)
    return _auroc(probability_BM[seen], outcome_BM[seen] > 0.5)


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


def ece(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> float | None:
    """Expected calibration error: mean distance of probability and outcome over 15 bins of equal width, weighted by their pairs."""
    seen = ~np.isnan(outcome_BM)
    if not seen.any():
        return None
    probability, outcome = probability_BM[seen].astype(np.float64), outcome_BM[seen].astype(np.float64)
    bin_of = np.minimum((probability * ECE_BINS).astype(int), ECE_BINS - 1)
    gap = np.bincount(bin_of, weights=probability - outcome, minlength=ECE_BINS)
    return float(np.abs(gap).sum() / len(outcome))


def correctness(probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"]) -> dict[str, float | None]:
    """Every figure of P(handled) by name."""
    figures = (auroc_pooled, auroc_per_candidate, auroc_within_instruction, brier, ece)
    return {figure.__name__: figure(probability_BM, outcome_BM) for figure in figures}


def routing(
    probability_BM: Float[ndarray, "b m"], outcome_BM: Float[ndarray, "b m"], *, best_single: int | None
) -> dict[str, Any]:
    """Mean outcome when each instruction goes to the likeliest candidate (`router`), and what that is to be compared with.

    `best_single` is the column of a fixed candidate chosen elsewhere, `random` one drawn evenly, `oracle` the best of each
    instruction. Only observed outcomes can be chosen; `n` instructions count: those that the fixed candidate, if given, answered.
    """
    seen = ~np.isnan(outcome_BM)
    counts = seen.any(axis=1) if best_single is None else seen[:, best_single]
    probability, outcome, seen = probability_BM[counts], outcome_BM[counts], seen[counts]
    if not len(outcome):
        return {"router": None, "best_single": None, "random": None, "oracle": None, "n": 0}
    chosen = np.where(seen, probability, -np.inf).argmax(axis=1)
    return {
        "router": float(outcome[np.arange(len(outcome)), chosen].mean()),
        "best_single": None if best_single is None else float(outcome[:, best_single].mean()),
        "random": float(np.nanmean(outcome, axis=1).mean()),
        "oracle": float(np.nanmax(outcome, axis=1).mean()),
        "n": len(outcome),
    }
