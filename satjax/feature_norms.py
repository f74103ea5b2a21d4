"""Mean and spread of the ability head's text features over training instructions: measured once, before the first step."""

import jax.numpy as jnp
import numpy as np

from satjax.models.router_model import Params

SAMPLE = 256
"""Instructions to measure on where features are not computed for all of them: enough for a spread to a few percent."""
SMALLEST_SPREAD = 1e-4


def feature_norms(feature_NF: np.ndarray, num_states: int) -> Params:
    """`ability/mean` and `ability/spread`, float32 `[num_states, D]`, of features float32 `[N, num_states D]`."""
    mean_F = feature_NF.mean(axis=0)
    spread_F = np.maximum(feature_NF.std(axis=0), SMALLEST_SPREAD)
    return {
        "ability/mean": jnp.asarray(mean_F.reshape(num_states, -1)),
        "ability/spread": jnp.asarray(spread_F.reshape(num_states, -1)),
    }
