"""Outcomes drawn from probabilities that are known: clusters, subjects, low rank and item response."""

from dataclasses import dataclass

import numpy as np

from satjax.evaluation.baselines import BaselineData, Fold, Instructions

NAN = np.nan


@dataclass(frozen=True)
class Planted:
    """Folds to fit on, new instructions with their true probabilities, and N new candidates' anchor and truth."""

    data: BaselineData
    new: Instructions
    truth_BM: np.ndarray
    anchor: Fold
    truth_BN: np.ndarray


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def planted(
    kind: str, seed: int = 0, *, sizes: tuple[int, int, int, int] = (900, 300, 300, 200), unobserved: float = 0.1
) -> Planted:
    """`sizes`: instructions of train, val, aptitude and new; 5 known candidates and 2 new ones, 6 clusters, width 12.

    `clusters`: the probability depends on candidate and cluster, the tasks say nothing. `subjects`: on candidate and
    task, the embeddings say nothing. `low_rank`: its logit is a product of rank 2 of candidate and embedding.
    `item_response`: its logit is a (theta - b).
    """
    rng = np.random.default_rng(seed)
    num, width, num_known, num_all, groups = sum(sizes), 12, 5, 7, 6
    cluster_B, task_B = rng.integers(groups, size=num), rng.integers(groups, size=num)
    center = unit(rng.normal(size=(groups, width)))
    spread = 0.1 if kind == "clusters" else 10.0
    embedding_BE = unit(center[cluster_B] + spread * rng.normal(size=(num, width)) * width**-0.5)
    scaled = embedding_BE * width**0.5
    if kind in ("clusters", "subjects"):
        group_B = cluster_B if kind == "clusters" else task_B
        truth = rng.permuted(np.tile(np.linspace(0.05, 0.95, groups), (num_all, 1)), axis=1).T[group_B]
    elif kind == "low_rank":
        truth = sigmoid(0.4 * scaled @ rng.normal(size=(width, 2)) @ rng.normal(size=(2, num_all)))
    else:
        discrimination, difficulty = np.exp(0.4 * scaled @ rng.normal(size=(width, 2)) * width**-0.5 * [1, 4]).T
        truth = sigmoid(
            discrimination[:, None] * (np.linspace(-2, 4, num_all)[rng.permutation(num_all)] - difficulty[:, None])
        )
    outcome = (rng.random(truth.shape) < truth).astype(np.float32)
    outcome[rng.random(truth.shape) < unobserved] = NAN
    parts = np.split(np.arange(num), np.cumsum(sizes)[:-1])

    def instructions(index: np.ndarray) -> Instructions:
        return Instructions(embedding_BE[index], tuple(f"task {t}" for t in task_B[index]))

    train, val, aptitude = (Fold(instructions(index), outcome[index][:, :num_known]) for index in parts[:3])
    anchor = Fold(instructions(parts[2]), outcome[parts[2]][:, num_known:])
    new, truth = instructions(parts[3]), truth[parts[3]]
    return Planted(BaselineData(train, val, aptitude), new, truth[:, :num_known], anchor, truth[:, num_known:])


def rows(fold: Fold, index: np.ndarray) -> Fold:
    return Fold(take(fold.instructions, index), fold.outcome_BM[index])


def take(instructions: Instructions, index: np.ndarray) -> Instructions:
    return Instructions(instructions.embedding_BE[index], tuple(instructions.tasks[i] for i in index))


def columns(data: BaselineData, index: np.ndarray) -> BaselineData:
    folds = (data.train, data.val, data.aptitude)
    return BaselineData(*(Fold(fold.instructions, fold.outcome_BM[:, index]) for fold in folds))


def error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance from the true probability."""
    return float(np.abs(probability - truth).mean())
