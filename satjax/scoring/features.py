"""Scores by the ability head alone: the LLM reads an instruction once, and what the head reads of that meets any number of candidates."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import numpy as np

from satjax.assembly import Assembly
from satjax.features.reader import FeatureReader
from satjax.features.row_batches import Batching
from satjax.features.vectors import VectorStore
from satjax.models.router_model import Params, abstract_model, bind
from satjax.progress import Progress, unheard
from satjax.sharding import fetched, place_on, replicated

ROWS = 1024
"""Instructions whose features meet the candidates at once, as one batch or alone."""


class FeatureScorer:
    """`score(instructions, soft_MOKD) -> float32[B, M]`; made by `satjax.scoring.make_scorer`."""

    def __init__(self, assembly: Assembly, params: Params, batching: Batching, store: VectorStore | None = None):
        graphdef, _ = abstract_model(assembly.model)
        self.params, self.writer, self.mesh = params, assembly.writer, batching.mesh
        self.everywhere = None if self.mesh is None else replicated(self.mesh)
        self.features = FeatureReader(assembly, batching, store)

        @partial(jax.jit, out_shardings=self.everywhere)
        def run(params: Params, feature_BF: jax.Array, soft_MKD: jax.Array) -> jax.Array:
            return bind(graphdef, params).score_features(feature_BF, soft_MKD[None])

        @partial(jax.jit, out_shardings=self.everywhere)
        def run_demands(params: Params, feature_BF: jax.Array) -> jax.Array:
            return bind(graphdef, params).demands(feature_BF)

        self._run, self._run_demands = run, run_demands

    def score(self, instructions: Sequence[str], soft_MOKD: jax.Array, on_progress: Progress = unheard) -> np.ndarray:
        """Logits float32 `[B, M]`, averaged over the task orders (paper section 3.3); `on_progress` hears how many of how many are done."""
        num_candidates, num_orders = soft_MOKD.shape[:2]
        if not len(instructions):
            return np.empty((0, num_candidates), np.float32)
        soft = self._sets(soft_MOKD)
        feature_BF = self.features.read(self.params, instructions, on_progress)
        score_BS = self._by_parts(self._run, feature_BF, soft)
        return score_BS.reshape(len(feature_BF), num_candidates, num_orders).mean(axis=-1)

    def demands(self, instructions: Sequence[str]) -> np.ndarray:
        """What the ability head says that at least one instruction asks for, float32 `[B, R + 1]`."""
        return self._by_parts(self._run_demands, self.features.read(self.params, instructions))

    def warm_up(self, soft_MOKD: jax.Array, most: int) -> Iterator[tuple[int, int]]:
        """Compiles and runs every program that `score` can need for `most` instructions or fewer, the narrowest first; gives its rows and its
        width after each.
        """
        soft = self._sets(soft_MOKD)
        meets = [meet for less, meet in pairwise((0, *self._meets())) if less < most]
        for rows in self.features.batching.shapes(self.writer.config.buckets, most):
            feature_BF = self.features.run(self.params, rows)
            for meet in meets:
                self._by_parts(self._run, np.resize(feature_BF, (meet, feature_BF.shape[1])), soft)
            meets = []
            yield rows.token.shape

    def _sets(self, soft_MOKD: jax.Array) -> np.ndarray | jax.Array:
        """Every candidate in every task order, `[M O, K, D]`."""
        return place_on(soft_MOKD.reshape(-1, *soft_MOKD.shape[2:]), self.everywhere)

    def _by_parts(self, program: jax.stages.Wrapped, feature_BF: np.ndarray, *given: Any) -> np.ndarray:
        """The program's rows for all features, a part of them at a time."""
        parts = np.split(feature_BF, range(ROWS, len(feature_BF), ROWS))
        found = [fetched(self.mesh, program, self.params, self._padded(part), *given)[: len(part)] for part in parts]
        return np.concatenate(found)

    def _meets(self) -> list[int]:
        """How many rows of features meet the candidates at once, rising."""
        return sorted({1, *self.features.batching.sizes, ROWS})

    def _padded(self, feature_BF: np.ndarray) -> np.ndarray | jax.Array:
        """As many rows as the smallest of few programs takes, so that no more are compiled."""
        size = next(size for size in self._meets() if len(feature_BF) <= size)
        return place_on(np.resize(feature_BF, (size, feature_BF.shape[1])), self.everywhere)
