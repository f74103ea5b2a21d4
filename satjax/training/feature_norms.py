"""Mean and spread of the ability head's text features over training instructions: measured once, before the first step."""

import jax.numpy as jnp
import numpy as np

from satjax.models.router_model import Params

SAMPLE = 256
"""Instructions to measure on where features are not computed for all of them: enough for a spread to a few percent."""
SMALLEST_SPREAD = 1e-4
ROWS_AT_ONCE = 1024


def feature_norms(feature_NF: np.ndarray, num_states: int) -> Params:
    """`ability/mean` and `ability/spread`, float32 `[num_states, D]`, of features float32 `[N, num_states D]`."""
    # Sums of float32 lose what is added one by one to many; and a copy of all features as float64 may not fit into memory.
    parts = np.array_split(feature_NF, -(-len(feature_NF) // ROWS_AT_ONCE))
    mean_F = np.sum([part.sum(axis=0, dtype=np.float64) for part in parts], axis=0) / len(feature_NF)
    variance_F = np.sum([np.square(part - mean_F).sum(axis=0) for part in parts], axis=0) / len(feature_NF)
    spread_F = np.maximum(np.sqrt(variance_F), SMALLEST_SPREAD)
    return {
        "ability/mean": jnp.asarray(mean_F.reshape(num_states, -1), jnp.float32),
        "ability/spread": jnp.asarray(spread_F.reshape(num_states, -1), jnp.float32),
    }
