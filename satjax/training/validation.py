"""What a run looks at while it trains: instructions that teach it nothing, scored as its steps score theirs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh

from satjax import metrics
from satjax.calibration import fit_calibration
from satjax.config import BatchConfig
from satjax.models.router_model import Params, ProfileInputs
from satjax.training.batches import Batch, TrainingSet
from satjax.training.run_log import AUROC, LOG_LOSS
from satjax.training.train_step import make_score_step, place_batch


class Validation:
    """Validation instructions in batches of the shape of a step's, and how well their outcomes are told.

    `candidate_M` says which training candidates the outcomes of `data` are of. Of several widths, what does not fill a batch moves up to the
    next one; the last batch is filled up with what it has.
    """

    def __init__(
        self, graphdef: Any, config: BatchConfig, mesh: Mesh, data: TrainingSet, candidate_M: np.ndarray, embeds: bool
    ):
        self.config, self.mesh, self.data, self.candidate_M = config, mesh, data, candidate_M
        self.score = make_score_step(graphdef, mesh, embeds)

    def figures(self, params: Params, inputs: ProfileInputs, embedding: Any) -> dict[str, float]:
        """Log loss after Platt's map, as the exported router's is fitted, and pooled AUROC, which is left out where all outcomes are alike."""
        score_VM = np.zeros(self.data.outcome.shape)
        for batch, column_C in self._batches():
            placed = place_batch(batch, self.config, self.mesh)
            score_RC = np.asarray(self.score(params, placed, inputs, embedding)).reshape(batch.index.size, -1)
            score_VM[batch.index.reshape(-1, 1), column_C] = score_RC
        if not np.isfinite(score_VM).all():
            return {}  # the next step's loss says so
        probability_VM = fit_calibration(score_VM, self.data.outcome).probability(score_VM, np.float64)
        found = {
            LOG_LOSS: metrics.log_loss(probability_VM, self.data.outcome),
            AUROC: metrics.auroc_pooled(probability_VM, self.data.outcome),
        }
        return {name: value for name, value in found.items() if value is not None}

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
            full = len(waiting) // (groups * size) * groups * size
            for index in np.split(waiting[:full], range(groups * size, full, groups * size)) if full else ():
                yield width, index.reshape(groups, size)
            waiting = waiting[full:]
        if len(waiting):
            yield widths[-1], np.resize(waiting, (groups, size))
