"""What a baseline is given, and what it gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from satjax.aptitude import AptitudeTest
from satjax.errors import SatjaxError
from satjax.outcomes import OutcomeTable


@dataclass(frozen=True, eq=False)
class Instructions:
    """B instructions without outcomes: `embedding_BE` float32 of unit length, and the name of each one's task.

    `core_tasks`: of aptitude items, the test's own, which may be clusters of the table's tasks.
    Raises SatjaxError for embeddings of another type, shape or length.
    """

    embedding_BE: np.ndarray
    tasks: tuple[str, ...]
    core_tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        embedding = self.embedding_BE
        if embedding.ndim != 2 or embedding.dtype != np.float32 or len(embedding) != len(self.tasks):
            raise SatjaxError(
                f"baselines: embeddings are {embedding.dtype}{embedding.shape}, not float32[{len(self.tasks)}, E]"
            )
        length_B = np.linalg.norm(embedding, axis=1)
        if not np.allclose(length_B, 1, atol=1e-3):
            worst = int(np.nanargmax(np.where(np.isnan(length_B), np.inf, np.abs(length_B - 1))))
            raise SatjaxError(
                f"baselines: the embedding of instruction {worst} has length {length_B[worst]:g}, not 1; divide by it"
            )


@dataclass(frozen=True, eq=False)
class Fold:
    """Instructions and what M candidates made of them: `outcome_BM` float32 in [0, 1], NaN = unobserved.

    Raises SatjaxError for outcomes of another type, shape or range.
    """

    instructions: Instructions
    outcome_BM: np.ndarray

    def __post_init__(self) -> None:
        outcome, num_instructions = self.outcome_BM, len(self.instructions.tasks)
        if outcome.ndim != 2 or outcome.dtype != np.float32 or len(outcome) != num_instructions:
            raise SatjaxError(
                f"baselines: outcomes are {outcome.dtype}{outcome.shape}, not float32[{num_instructions}, M]"
            )
        if not ((outcome >= 0) & (outcome <= 1) | np.isnan(outcome)).all():
            raise SatjaxError("baselines: an outcome is outside [0, 1]; rescale them, and leave NaN where unobserved")

    @property
    def num_candidates(self) -> int:
        """M."""
        return self.outcome_BM.shape[1]


@dataclass(frozen=True, eq=False)
class BaselineData:
    """All that is known of M candidates: outcomes to fit on, outcomes to tune on, and those on the aptitude test.

    The aptitude items may be among those of `train`, and there may be none of them. Raises SatjaxError where the folds differ in candidates or
    embedding width, or nothing is observed to fit on or to tune on.
    """

    train: Fold
    val: Fold
    aptitude: Fold

    def __post_init__(self) -> None:
        shapes = {
            (fold.num_candidates, fold.instructions.embedding_BE.shape[1])
            for fold in (self.train, self.val, self.aptitude)
        }
        if len(shapes) > 1:
            raise SatjaxError(f"baselines: folds differ in (candidates, embedding width): {sorted(shapes)}")
        _check_observed("val", self.val.outcome_BM)

    @property
    def num_candidates(self) -> int:
        """M."""
        return self.train.num_candidates


Function = Callable[[Instructions], np.ndarray]
"""Instructions to float `[B, M]`."""


@dataclass(frozen=True)
class Predictor:
    """A fitted baseline; `chosen` are the settings that the validation fold chose, `val_log_loss` is theirs on it."""

    function: Function
    chosen: Mapping[str, Any]
    val_log_loss: float

    def __call__(self, instructions: Instructions) -> np.ndarray:
        """Probability float32 `[B, M]` that candidate m handles instruction b."""
        return np.clip(self.function(instructions), 0, 1).astype(np.float32)


def fold_of(table: OutcomeTable, embedding_NE: np.ndarray, index_B: np.ndarray) -> Fold:
    """The fold of some of a table's N items, by integer index; `embedding_NE` has a row for each item of the table."""
    tasks = tuple(table.items[i].task for i in index_B)
    return Fold(Instructions(embedding_NE[index_B], tasks), np.ascontiguousarray(table.scores_MN[:, index_B].T))


def aptitude_fold(table: OutcomeTable, embedding_NE: np.ndarray, test: AptitudeTest) -> Fold:
    """The aptitude test's items, in the order of the table; raises SatjaxError where it has none of them."""
    if not len(aptitude_places(table, test)):
        raise SatjaxError("baselines: the outcome table has none of the aptitude test's items")
    return _aptitude_fold(table, embedding_NE, test)


def _aptitude_fold(table: OutcomeTable, embedding_NE: np.ndarray, test: AptitudeTest) -> Fold:
    index, task_of = aptitude_places(table, test), {name: task.name for task in test.tasks for name in task.item_ids}
    fold = fold_of(table, embedding_NE, index)
    core_tasks = tuple(task_of[table.items[i].id] for i in index)
    return replace(fold, instructions=replace(fold.instructions, core_tasks=core_tasks))


def aptitude_places(table: OutcomeTable, test: AptitudeTest) -> np.ndarray:
    """The aptitude test's items by integer index, in the order of the table."""
    asked = test.item_ids
    return np.array([i for i, name in enumerate(table.item_ids) if name in asked], int)


def check_splits(table: OutcomeTable) -> None:
    """Raises SatjaxError where the table lacks what any baseline is fitted on or tuned on."""
    for name in ("train", "val"):
        if not table.of_split(name).any():
            raise SatjaxError(
                f"baselines: the outcome table has no items of split {name!r}; they are fitted on train, tuned on val"
            )
        _check_observed(name, table.split(name).scores_MN)


def _check_observed(split: str, outcome: np.ndarray) -> None:
    if np.isnan(outcome).all():
        raise SatjaxError(
            f"baselines: nothing is observed in the split {split!r}; they are fitted on train, tuned on val: add outcomes, or leave baselines out"
        )


def baseline_data(table: OutcomeTable, embedding_NE: np.ndarray, test: AptitudeTest) -> BaselineData:
    """Everything in a table's train and val splits, the aptitude test's items included; nothing of its test split.

    The aptitude fold is empty where the table has none of these items. Raises SatjaxError as `check_splits` does.
    """
    check_splits(table)
    train, val = (fold_of(table, embedding_NE, np.flatnonzero(table.of_split(name))) for name in ("train", "val"))
    return BaselineData(train, val, _aptitude_fold(table, embedding_NE, test))
