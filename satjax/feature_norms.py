"""Mean and spread of the ability head's text features over training instructions: measured once, before the first step."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from satjax.batches import TrainingSet
from satjax.models.router_model import Params, bind

SAMPLE = 256
"""Instructions to measure on: enough for a spread to a few percent."""
ROWS = 16
SMALLEST_SPREAD = 1e-4


def feature_norms(graphdef: nnx.GraphDef, params: Params, data: TrainingSet, seed: int) -> Params:
    """`ability/mean` and `ability/spread`, float32 `[D]`, from a sample of the training instructions drawn by `seed`."""
    chosen = np.random.default_rng((seed, 3)).permutation(len(data.rows))[:SAMPLE]
    width = int(data.width.max())
    features = jax.jit(lambda params, token, length: bind(graphdef, params).features(token, length))
    parts = []
    for start in range(0, len(chosen), ROWS):
        index = chosen[start : start + ROWS]
        rows = data.rows.take(np.resize(index, ROWS), width)
        parts.append(np.asarray(features(params, rows.token, rows.length))[: len(index)])
    feature_ND = np.concatenate(parts)
    spread_D = np.maximum(feature_ND.std(axis=0), SMALLEST_SPREAD)
    return {"ability/mean": jnp.asarray(feature_ND.mean(axis=0)), "ability/spread": jnp.asarray(spread_D)}
