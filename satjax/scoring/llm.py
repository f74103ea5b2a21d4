"""Scores by the LLM: candidates' soft tokens enter it with every instruction."""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from satjax.assembly import Assembly
from satjax.config import Layout
from satjax.features.row_batches import TOKENS_OF_AN_ACCELERATOR, Batching
from satjax.instructions import TokenRows
from satjax.models.router_model import Params, abstract_model, bind
from satjax.progress import Progress, unheard
from satjax.sharding import batch_sharding, constrain, fetched, on_mesh, place_on, replicated

SETS = 512
"""Sets of soft tokens that enter the LLM at once: more candidates take more time, not more memory."""


def score_step(graphdef: nnx.GraphDef, mesh: Mesh | None = None) -> jax.stages.Wrapped:
    """`run(params, token_BL, length_B, soft_MKD) -> float32[B, M]`, jitted: what ranking a batch of instructions costs.

    On a mesh the rows are to be split as `satjax.sharding.batch_sharding` says, parameters may lie in any way, and the scores are everywhere.
    """

    def run(params: Params, token_BL: jax.Array, length_B: jax.Array, soft_MKD: jax.Array) -> jax.Array:
        with on_mesh(mesh):
            soft_BMKD = constrain(jnp.broadcast_to(soft_MKD, (len(token_BL), *soft_MKD.shape)), "batch")
            return bind(graphdef, params).score(token_BL, length_B, soft_BMKD)

    return jax.jit(run, out_shardings=None if mesh is None else replicated(mesh))


def sets_at_once(layout: Layout, rows: int, width: int) -> int:
    """How many sets of soft tokens enter the LLM at once, with so many rows of text on a device: where they stand first, each makes another text of every row."""
    return SETS if layout == "instruction_first" else max(1, min(SETS, TOKENS_OF_AN_ACCELERATOR // (rows * width)))


class LLMScorer:
    """`score(instructions, soft_MOKD) -> float32[B, M]`; made by `satjax.scoring.make_scorer`."""

    def __init__(self, assembly: Assembly, params: Params, batching: Batching):
        graphdef, _ = abstract_model(assembly.model)
        self.params, self.writer, self.layout = params, assembly.writer, assembly.model.layout
        self.batching, self.mesh = batching, batching.mesh
        self.by_row = None if self.mesh is None else batch_sharding(self.mesh)
        self.everywhere = None if self.mesh is None else replicated(self.mesh)
        self._run = score_step(graphdef, self.mesh)

    def score(self, instructions: Sequence[str], soft_MOKD: jax.Array, on_progress: Progress = unheard) -> np.ndarray:
        """Logits float32 `[B, M]`, averaged over the task orders (paper section 3.3); `on_progress` hears how many of how many are done."""
        num_candidates, num_orders = soft_MOKD.shape[:2]
        soft = place_on(soft_MOKD.reshape(-1, *soft_MOKD.shape[2:]), self.everywhere)
        rows, zoo = self.writer.encode(instructions), dict[int, list]()
        score_BM = np.empty((len(rows), num_candidates), np.float32)
        done = 0
        for index, padded in self.batching.batches(rows, self.writer.bucket):
            if (sets := self._sets_at_once(padded)) not in zoo:
                zoo[sets] = _parts(soft, sets)
            score_BS = self._against(padded, zoo[sets])[: len(index), : len(soft)]
            score_BM[index] = score_BS.reshape(len(index), num_candidates, num_orders).mean(axis=-1)
            done += len(index)
            on_progress(done, len(rows))
        return score_BM

    def warm_up(self, soft_MOKD: jax.Array, most: int) -> Iterator[tuple[int, int]]:
        """Compiles and runs every program that `score` can need for `most` instructions or fewer, the narrowest first; gives its rows and its
        width after each.
        """
        soft = place_on(soft_MOKD.reshape(-1, *soft_MOKD.shape[2:]), self.everywhere)
        for rows in self.batching.shapes(self.writer.config.buckets, most):
            self._against(rows, _parts(soft, self._sets_at_once(rows))[:1])
            yield rows.token.shape

    def _sets_at_once(self, rows: TokenRows) -> int:
        return sets_at_once(self.layout, -(-len(rows) // self.batching.parts), rows.token.shape[1])

    def _against(self, rows: TokenRows, parts: Sequence[np.ndarray | jax.Array]) -> np.ndarray:
        """One batch, as it is, against all parts of the zoo."""
        token, length = (place_on(value, self.by_row) for value in (rows.token, rows.length))
        return np.concatenate(
            [fetched(self.mesh, self._run, self.params, token, length, part) for part in parts], axis=1
        )


def _parts(soft_MKD: np.ndarray | jax.Array, sets: int) -> list[np.ndarray | jax.Array]:
    """What enters the LLM at once: all sets, or parts of one size, so that one program is compiled for them; the last is filled up with zeros."""
    if len(soft_MKD) <= sets:
        return [soft_MKD]
    whole = jnp.pad(soft_MKD, ((0, -len(soft_MKD) % sets), (0, 0), (0, 0)))
    return list(whole.reshape(-1, sets, *soft_MKD.shape[1:]))
