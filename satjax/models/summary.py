"""What a layer of the LLM holds of a whole text: the mean over its tokens, and its last token."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from satjax.models.attention import key_mask


class Summary(NamedTuple):
    """Mean and last state of each row of text, float32 `[B, D]`, or `[N, B, D]` for the N layers of a stack."""

    mean: Array
    last: Array


def summarize(states_BLD: Float[Array, "b l d"], length_B: Int[Array, " b"]) -> Summary:
    """Each token's state is brought to unit root-mean-square first.

    Without that the first token, whose state is far larger than all others in most LLMs, would be most of the mean.
    """
    states = states_BLD.astype(jnp.float32)
    unit = states * jax.lax.rsqrt(jnp.mean(states * states, axis=-1, keepdims=True) + 1e-6)
    mask = key_mask(length_B, states.shape[1])[..., None]
    mean_BD = jnp.sum(jnp.where(mask, unit, 0.0), axis=1) / jnp.maximum(length_B, 1)[:, None]
    last_BD = jnp.take_along_axis(unit, jnp.maximum(length_B - 1, 0)[:, None, None], axis=1)[:, 0]
    return Summary(mean_BD, last_BD)
