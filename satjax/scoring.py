"""The score matrix for any number of instructions: tokenize, bucket, run, put back in order. Training and serving both use it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from satjax.aptitude import CapabilityProfile
from satjax.capability import ProfileReader
from satjax.instructions import PromptWriter
from satjax.models.router_model import Params, ProfileInputs, bind

TOKENS_PER_CALL = 4096
"""Text tokens of one full batch: enough to keep the matrix units busy, little enough for any memory."""


class Scorer:
    """`score(instructions) -> float32[B, M]` with everything about the candidates computed once.

    Two programs are compiled per bucket at most: one instruction, and a full batch.
    """

    def __init__(
        self, graphdef: nnx.GraphDef, params: Params, writer: PromptWriter, reader: ProfileReader, order_seed: int
    ):
        self.params, self.writer, self.reader, self.order_seed = params, writer, reader, order_seed

        @jax.jit
        def run(params: Params, token_BL: jax.Array, length_B: jax.Array, soft_MKD: jax.Array) -> jax.Array:
            soft_BMKD = jnp.broadcast_to(soft_MKD, (len(token_BL), *soft_MKD.shape))
            return bind(graphdef, params).score(token_BL, length_B, soft_BMKD)

        @jax.jit
        def encode(params: Params, inputs: ProfileInputs) -> jax.Array:
            model = bind(graphdef, params)
            return model.soft_tokens(model.embed_profiles(inputs), inputs)

        self._run, self._encode = run, encode

    def soft_tokens(self, profiles: Sequence[CapabilityProfile]) -> jax.Array:
        """Capability tokens of M profiles, one set for each task order: float32 `[M, O, K, D]`."""
        orders = [
            self._encode(self.params, self.reader.inputs(profiles, self.order_seed + i))
            for i in range(self.reader.num_orders)
        ]
        return jnp.stack(orders, axis=1)

    def score(
        self, instructions: Sequence[str], soft_MOKD: jax.Array, on_progress: Callable[[int], Any] = lambda done: None
    ) -> np.ndarray:
        """Logits float32 `[B, M]`, averaged over the task orders (paper section 3.3); `on_progress` hears how many are done."""
        rows = self.writer.encode(instructions)
        num_candidates, num_orders = soft_MOKD.shape[:2]
        soft = soft_MOKD.reshape(num_candidates * num_orders, *soft_MOKD.shape[2:])
        score_BM = np.empty((len(rows), num_candidates), np.float32)
        width_B = np.array([self.writer.bucket(length) for length in rows.length])
        done = 0
        for width in sorted(set(width_B.tolist())):
            waiting = np.flatnonzero(width_B == width)
            for index, size in _cut(waiting, max(1, TOKENS_PER_CALL // width)):
                padded = rows.take(np.resize(index, size), width)
                scores = np.asarray(self._run(self.params, padded.token, padded.length, soft))[: len(index)]
                score_BM[index] = scores.reshape(len(index), num_candidates, num_orders).mean(axis=-1)
                done += len(index)
                on_progress(done)
        return score_BM


def _cut(index: np.ndarray, full: int) -> list[tuple[np.ndarray, int]]:
    """Rows in batches of `full`; a rest that would leave a batch mostly empty goes one by one."""
    whole = len(index) // full * full
    batches = [(part, full) for part in index[:whole].reshape(-1, full)]
    rest = index[whole:]
    if len(rest) > full // 2:
        return [*batches, (rest, full)]
    return batches + [(rest[i : i + 1], 1) for i in range(len(rest))]
