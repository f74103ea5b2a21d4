"""Baselines that read no text: a candidate's mean outcome, overall and by subject."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array

from satjax.evaluation.baselines.data import BaselineData, Fold, Instructions
from satjax.evaluation.baselines.tuning import Settings

SMOOTHING = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def candidate_mean(outcome_BM: np.ndarray) -> np.ndarray:
    """Mean observed outcome `[M]`; a candidate without any gets the mean of all, or 0.5 where there is none at all."""
    observed = ~np.isnan(outcome_BM)
    overall = outcome_BM[observed].mean() if observed.any() else 0.5
    total_M = np.where(observed, outcome_BM, 0).sum(axis=0, dtype=np.float64)
    count_M = observed.sum(axis=0)
    return np.where(count_M > 0, total_M / np.maximum(count_M, 1), overall)


def weighted_means(weight_GB: Any, outcome_BM: np.ndarray, smoothing: float) -> np.ndarray:
    """Means over the observed outcomes, `[G, M]`, of G groups given as weights of the B instructions, dense or sparse.

    `smoothing > 0` is the weight of the candidate's overall mean in each of them (additive smoothing).
    """
    observed_BM = ~np.isnan(outcome_BM)
    total_GM = weight_GB @ np.where(observed_BM, outcome_BM, 0).astype(np.float64)
    count_GM = weight_GB @ observed_BM.astype(np.float64)
    return (total_GM + smoothing * candidate_mean(outcome_BM)) / (count_GM + smoothing)


def group_means(group_B: np.ndarray, num_groups: int, outcome_BM: np.ndarray, smoothing: float) -> np.ndarray:
    """`weighted_means` of the groups 0 … `num_groups` - 1, each instruction being in one: `[G, M]`."""
    rows = np.arange(len(group_B))
    member_GB = csr_array((np.ones(len(group_B)), (group_B, rows)), shape=(num_groups, len(group_B)))
    return weighted_means(member_GB, outcome_BM, smoothing)


def candidate_means(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """Each candidate's mean outcome, whatever the instruction: routing by it sends everything to one candidate.

    That one is the best single candidate of a report where all answered the same instructions; a plain mean favours one that was not
    tried on hard ones.
    """
    mean_M = candidate_mean(scored.outcome_BM)
    yield {}, lambda instructions: np.tile(mean_M, (len(instructions.tasks), 1))


def subject_means(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """Each candidate's mean outcome on the instruction's true task, smoothed; its overall mean for an unknown task."""
    index = {task: i for i, task in enumerate(sorted(set(scored.instructions.tasks)))}
    group_B = np.array([index[task] for task in scored.instructions.tasks])
    for smoothing in SMOOTHING:
        mean_GM = group_means(group_B, len(index) + 1, scored.outcome_BM, smoothing)

        def function(instructions: Instructions, mean_GM: np.ndarray = mean_GM) -> np.ndarray:
            return mean_GM[[index.get(task, len(index)) for task in instructions.tasks]]

        yield {"smoothing": smoothing}, function
