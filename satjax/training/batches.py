"""Training batches: the batch of a step is a function of (seed, stage, step) alone, the same on any number of hosts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np

from satjax.config import BatchConfig, StageConfig, TrainConfig
from satjax.errors import SatjaxError
from satjax.instructions import TokenRows
from satjax.outcomes import OutcomeTable
from satjax.outcomes.splits import asking_the_same

WEAKEST = 1e-3
"""Mean outcome that a candidate counts as when it has less, or none observed: hardly ever drawn by strength, but it can be."""


Columns = dict[str, jax.ShapeDtypeStruct]
"""What a batch has of an instruction, by name: shape and dtype of one."""


def token_columns(width: int) -> Columns:
    """Where its steps read tokens."""
    return {"token": jax.ShapeDtypeStruct((width,), np.int32), "length": jax.ShapeDtypeStruct((), np.int32)}


def feature_columns(num_features: int) -> Columns:
    """Where they read what a frozen LLM made of them."""
    return {"feature": jax.ShapeDtypeStruct((num_features,), np.float32)}


@dataclass(frozen=True)
class TrainingSet:
    """Training instructions and their outcomes `[N, M]`; `width` is each row's bucket.

    The instructions are token rows, or the features that a frozen LLM made of them, `[N, F]`, which have one bucket.
    """

    text: TokenRows | np.ndarray
    width: np.ndarray
    outcome: np.ndarray
    in_domain: np.ndarray

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def has_features(self) -> bool:
        """Whether the instructions are features."""
        return isinstance(self.text, np.ndarray)

    def columns(self, width: int) -> Columns:
        """Names of the arrays that `gather` gives, and what one instruction is in each."""
        return feature_columns(self.text.shape[1]) if isinstance(self.text, np.ndarray) else token_columns(width)

    def gather(self, index: np.ndarray, width: int) -> dict[str, np.ndarray]:
        """The instructions at an index of any shape `[...]`: `token` int32 `[..., width]` and `length` int32, or `feature` float32 `[..., F]`."""
        if isinstance(self.text, np.ndarray):
            return {"feature": self.text[index]}
        rows = self.text.take(index.reshape(-1), width)
        return {"token": rows.token.reshape(*index.shape, width), "length": rows.length.reshape(index.shape)}


@dataclass(frozen=True)
class Batch:
    """`groups` of B instructions with M candidates each.

    `index` int `[G, B]` (rows of `data`, to be gathered at `width`: a host needs only its own of them), `candidate` int32 `[G, M]` (rows
    of the training candidates), `outcome` float32 `[G, B, M]`, NaN = unobserved. `key` (seed, stage, step) is what its chances are drawn by.
    """

    data: TrainingSet
    index: np.ndarray
    width: int
    candidate: np.ndarray
    outcome: np.ndarray
    key: tuple[int, ...]

    @property
    def text(self) -> dict[str, np.ndarray]:
        """All of its instructions, as `TrainingSet.gather` gives them."""
        return self.data.gather(self.index, self.width)


def trained_candidates(table: OutcomeTable, held_out: Sequence[str]) -> list[str]:
    """The candidates to train on; raises SatjaxError where one that is held out is not in the table, or none is left."""
    table.select_candidates(held_out)
    kept = [name for name in table.candidate_ids if name not in held_out]
    if not kept:
        raise SatjaxError("config data.held_out_candidates leaves no candidate to train on; hold out fewer")
    return kept


def training_table(
    table: OutcomeTable, held_out_candidates: tuple[str, ...], aptitude_items: frozenset[str], *, with_aptitude: bool
) -> OutcomeTable:
    """The instructions to train on: the train split, `with_aptitude` or without the items of the aptitude test and others of the same texts.

    A router that reads profiles has to do without them, every profile holding their answers. Raises SatjaxError where there are no others.
    """
    train = table.split("train").select_candidates(trained_candidates(table, held_out_candidates))
    free = ~asking_the_same(aptitude_items, train.items)
    seen = ~np.isnan(train.scores_MN).all(axis=0)
    if not (free & seen).any():
        raise SatjaxError(
            "no training instruction is left beside the aptitude test's items; lower aptitude.num_tasks or aptitude.shots"
        )
    return train.select_items(seen if with_aptitude else free & seen)


def of_tasks(table: OutcomeTable, tasks: Collection[str]) -> np.ndarray:
    """Which of the items are of these tasks, bool `[N]`."""
    return np.array([item.task in tasks for item in table.items], bool)


def check_batches(
    train: OutcomeTable, tasks: Collection[str], config: BatchConfig, stages: Sequence[StageConfig]
) -> None:
    """Raises SatjaxError where the training table has too little for the batches of any stage; `tasks` are those of the aptitude test."""
    if config.candidates > len(train.candidates):
        raise SatjaxError(
            f"config batch.candidates = {config.candidates}: there are {len(train.candidates)} to train on; 0 takes them all"
        )
    for stage in stages:
        eligible_N = of_tasks(train, tasks) | (stage.instructions == "all")
        if not eligible_N.any():
            raise SatjaxError(
                f"config stage {stage.name!r}: no training instruction is of the aptitude test's tasks; set the stage's instructions to 'all'"
            )
        if config.one_positive:
            outcome_MN = train.scores_MN[:, eligible_N]
            scarce_M = ~(outcome_MN > 0.5).any(axis=1) | ((outcome_MN <= 0.5).sum(axis=1) < config.instructions - 1)
            if scarce_M.any():
                raise SatjaxError(
                    f"config batch.instructions = {config.instructions}: candidate {train.candidate_ids[scarce_M.argmax()]!r} has too few right "
                    f"or wrong outcomes for such a group in stage {stage.name!r}; lower it, or hold that candidate out"
                )


def idle_objectives(train: OutcomeTable, tasks: Collection[str], config: TrainConfig) -> dict[str, str]:
    """Objectives that have a weight and nothing to compare, with the first stage in which that is so; raises SatjaxError where such a stage has no other."""
    of_tasks_N, batch, loss, found = of_tasks(train, tasks), config.batch, config.loss, dict[str, str]()
    weighed = [weight for weight in (loss.over_instructions, loss.over_candidates, loss.pointwise) if weight]
    for stage in config.stages:
        eligible_N = of_tasks_N | (stage.instructions == "all")
        idle = []
        if loss.over_candidates and (batch.candidates == 1 or not _differ_by_candidate(train, eligible_N)):
            idle.append("over_candidates")
        if loss.over_instructions and (batch.instructions == 1 or not _differ_by_instruction(train, eligible_N)):
            idle.append("over_instructions")
        if len(idle) == len(weighed):
            raise SatjaxError(
                f"config loss: these outcomes leave {' and '.join(idle)} nothing to compare in stage {stage.name!r}, so nothing would be learned; "
                "raise loss.pointwise"
            )
        found |= {name: stage.name for name in idle if name not in found}
    return found


def _differ_by_candidate(train: OutcomeTable, eligible_N: np.ndarray) -> bool:
    """Whether any of these items has two different outcomes; one candidate at a time, as most tables are known by the first two."""
    low_N = high_N = np.full(np.count_nonzero(eligible_N), np.nan, np.float32)
    for score_N in train.scores_MN:
        low_N, high_N = np.fmin(low_N, score_N[eligible_N]), np.fmax(high_N, score_N[eligible_N])
        if (low_N < high_N).any():
            return True
    return False


def _differ_by_instruction(train: OutcomeTable, eligible_N: np.ndarray) -> bool:
    """Whether any candidate has two different outcomes on these items."""
    each = (score_N[eligible_N] for score_N in train.scores_MN)
    return any(np.fmin.reduce(score_N) < np.fmax.reduce(score_N) for score_N in each)


class BatchPlan:
    """Which instructions and candidates each step of one stage reads, where there are enough (`check_batches`).

    Dense: every epoch is a fresh permutation, cut into batches of one bucket each; the few that do not fill a bucket's last batch
    move up to the next bucket. `one_positive`: every group is drawn on its own.
    """

    def __init__(self, data: TrainingSet, config: BatchConfig, *, seed: int, stage: int, in_domain: bool):
        self.data, self.config, self.key = data, config, (seed, stage)
        self.eligible = np.flatnonzero(data.in_domain) if in_domain else np.arange(len(data))
        self.num_candidates = data.outcome.shape[1]
        observed = ~np.isnan(data.outcome)
        mean = np.where(observed, data.outcome, 0).sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
        strength = np.maximum(mean, WEAKEST) ** config.strength
        self.probability = strength / strength.sum()
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def widths(self) -> list[int]:
        """Every bucket that the stage's steps may use: what has to be compiled."""
        return sorted(set(self.data.width[self.eligible].tolist()))

    def batch(self, step: int) -> Batch:
        """The batch of one step, counted from the start of the stage."""
        if self.config.one_positive:
            return self._one_positive(step)
        batches = self.epoch(step // self._epoch_length)
        width, index_GB = batches[step % self._epoch_length]
        rng = np.random.default_rng((*self.key, 1, step))
        return self._gather(step, width, index_GB, np.stack([self._draw_candidates(rng) for _ in index_GB]))

    @property
    def rows(self) -> int:
        """Instructions of one step."""
        return self.config.groups * self.config.instructions

    @property
    def _epoch_length(self) -> int:
        return max(1, len(self.eligible) // self.rows)

    def _epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        rng = np.random.default_rng((*self.key, 0, epoch))
        # What no batch has room for is left out here: by chance, where at the end it would be the longest in every epoch.
        order = np.resize(rng.permutation(self.eligible), self._epoch_length * self.rows)
        batches: list[tuple[int, np.ndarray]] = []
        waiting = order[:0]
        for width in self.widths():
            waiting = np.concatenate([waiting, order[self.data.width[order] == width]])
            full = len(waiting) // self.rows * self.rows
            chunks = waiting[:full].reshape(-1, self.config.groups, self.config.instructions)
            batches += [(width, chunk) for chunk in chunks]
            waiting = waiting[full:]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _draw_candidates(self, rng: np.random.Generator) -> np.ndarray:
        count = self.config.candidates
        if count in (0, self.num_candidates):
            return np.arange(self.num_candidates)
        return np.sort(rng.choice(self.num_candidates, count, replace=False, p=self.probability))

    def _one_positive(self, step: int) -> Batch:
        rng = np.random.default_rng((*self.key, 1, step))
        width = int(self.data.width[rng.choice(self.eligible)])
        pools = [
            self.eligible[self.data.width[self.eligible] == width],
            self.eligible[self.data.width[self.eligible] <= width],
            self.eligible,
        ]
        groups, candidates = [], []
        for _ in range(self.config.groups):
            candidate = int(rng.choice(self.num_candidates, p=self.probability))
            for pool in pools:
                outcome = self.data.outcome[pool, candidate]
                right, wrong = pool[outcome > 0.5], pool[outcome <= 0.5]
                if len(right) and len(wrong) >= self.config.instructions - 1:
                    break
            groups.append(
                np.append(rng.choice(right, 1), rng.choice(wrong, self.config.instructions - 1, replace=False))
            )
            candidates.append([candidate])
        index_GB = np.stack(groups)
        return self._gather(step, int(self.data.width[index_GB].max()), index_GB, np.array(candidates))

    def _gather(self, step: int, width: int, index_GB: np.ndarray, candidate_GM: np.ndarray) -> Batch:
        return Batch(
            self.data,
            index_GB,
            width,
            candidate_GM.astype(np.int32),
            self.data.outcome[index_GB[:, :, None], candidate_GM[:, None, :]],
            (*self.key, step),
        )
