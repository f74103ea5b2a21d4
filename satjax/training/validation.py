"""What a run looks at while it trains: instructions that teach it nothing, scored as its steps score theirs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from satjax import metrics
from satjax.calibration import fit_calibration
from satjax.config import BatchConfig
from satjax.models.router_model import Params, ProfileInputs
from satjax.processes.agreement import Stop
from satjax.progress import Progress
from satjax.training.batches import Batch, TrainingSet
from satjax.training.run_log import AUROC, LOG_LOSS
from satjax.training.train_step import make_score_step, place_batch

BATCHES_OF_A_WIDTH = 4
"""For fewer, another program would take longer to compile than the padding to compute."""
PAIRS = 200_000
"""Of a candidate and an instruction: as many are enough to fit two numbers to."""


class Validation:
    """Validation instructions in batches of the shape of a step's.

    `candidate_M` says which training candidates the outcomes of `data` are of. Of several widths, what does not fill some batches moves up to
    the next one; the last batch is filled up with what it has.
    """

    def __init__(
        self, graphdef: Any, config: BatchConfig, mesh: Mesh, data: TrainingSet, candidate_M: np.ndarray, embeds: bool
    ):
        self.config, self.mesh, self.data, self.candidate_M = config, mesh, data, candidate_M
        self.score = make_score_step(graphdef, mesh, embeds)

    def scores(
        self, params: Params, readings: Sequence[tuple[ProfileInputs, Any]], stop: Stop, on_progress: Progress
    ) -> np.ndarray | None:
        """Scores float64 `[V, M]`, averaged over the task orders as a router's are; `readings` are profiles in each order, with what psi made of them.

        None where all processes are to `stop` meanwhile.
        """
        score_VM = np.zeros(self.data.outcome.shape)
        batches = list(self._batches())
        for done, (batch, column_C) in enumerate(batches):
            if stop():
                return None
            placed = place_batch(batch, self.config, self.mesh)
            scores = [np.asarray(self.score(params, placed, *reading), np.float64) for reading in readings]
            score_VM[batch.index.reshape(-1, 1), column_C] = np.mean(scores, axis=0).reshape(batch.index.size, -1)
            on_progress(done + 1, len(batches))
        return score_VM

    def _batches(self) -> Iterator[tuple[Batch, np.ndarray]]:
        """Every instruction with every candidate, as many of them at once as a group of the steps has, and their columns int `[C]`."""
        at_once = self.config.candidates or len(self.candidate_M)
        for width, index_GB in self._rows():
            for start in range(0, len(self.candidate_M), at_once):
                column_C = np.resize(np.arange(len(self.candidate_M))[start : start + at_once], at_once)
                candidate_GM = np.tile(self.candidate_M[column_C], (len(index_GB), 1)).astype(np.int32)
                outcome_GBM = self.data.outcome[index_GB[:, :, None], column_C]
                yield Batch(self.data, index_GB, width, candidate_GM, outcome_GBM, (0,)), column_C

    def _rows(self) -> Iterator[tuple[int, np.ndarray]]:
        groups, size = self.config.groups, self.config.instructions
        waiting, widths = np.zeros(0, int), np.unique(self.data.width).tolist()
        for width in widths:
            waiting = np.concatenate([waiting, np.flatnonzero(self.data.width == width)])
            full = len(waiting) // (groups * size)
            if full < BATCHES_OF_A_WIDTH and width != widths[-1]:
                continue
            for index in waiting[: full * groups * size].reshape(full, groups, size):
                yield width, index
            waiting = waiting[full * groups * size :]
        if len(waiting):
            yield widths[-1], np.resize(waiting, (groups, size))


def figures(score_VM: np.ndarray, outcome_VM: np.ndarray) -> dict[str, float]:
    """Log loss after Platt's map, as the exported router's is fitted, and pooled AUROC; what outcomes that are NaN or all alike do not tell is left out.

    Scores without an order have no map: they are worth as much as the mean outcome for all.
    """
    observed = np.flatnonzero(~np.isnan(outcome_VM))
    if not len(observed):
        return {}
    drawn = observed if len(observed) <= PAIRS else np.random.default_rng(0).choice(observed, PAIRS, replace=False)
    score_P1, outcome_P1 = score_VM.reshape(-1, 1)[drawn], outcome_VM.reshape(-1, 1)[drawn]
    fitted, mean = fit_calibration(score_P1, outcome_P1), float(outcome_P1.mean(dtype=np.float64))
    probability_VM = fitted.probability(score_VM, np.float64) if fitted.fitted_on else np.full(score_VM.shape, mean)
    found = {
        LOG_LOSS: metrics.log_loss(probability_VM, outcome_VM),
        AUROC: metrics.auroc_pooled(score_VM, outcome_VM),
    }
    return {name: value for name, value in found.items() if value is not None}
