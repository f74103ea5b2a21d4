"""Rotary position embeddings (Su et al. 2021) with the scalings that the supported LLMs use."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class RopeConfig:
    """How positions become angles.

    `kind` is `default`, `linear` (all frequencies divided by `factor`), `llama3` (low frequencies divided by `factor`, Llama 3.1)
    or `longrope` (per-frequency factors, Phi-3.5; the long ones where a sequence exceeds `original_positions`).
    """

    theta: float = 10_000.0
    kind: str = "default"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_positions: int = 0
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    attention_factor: float = 1.0


def _inverse_frequencies(config: RopeConfig, head_width: int) -> np.ndarray:
    frequencies = config.theta ** (-np.arange(0, head_width, 2, dtype=np.float64) / head_width)
    if config.kind == "linear":
        return frequencies / config.factor
    if config.kind == "llama3":
        turns = config.original_positions * frequencies / (2 * math.pi)
        low, high = config.low_frequency_factor, config.high_frequency_factor
        keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return frequencies * (keep + (1 - keep) / config.factor)
    return frequencies


def rope_tables(
    config: RopeConfig, head_width: int, position_BL: Int[Array, "b l"], length_B: Int[Array, " b"]
) -> tuple[Float[Array, "b l h"], Float[Array, "b l h"]]:
    """Cosines and sines, float32 `[B, L, head_width / 2]`, of the angles of every position.

    `length_B` is the whole length of each row's sequence: it decides, row by row, which factors `longrope` takes.
    """
    frequencies = jnp.asarray(_inverse_frequencies(config, head_width), jnp.float32)
    if config.kind == "longrope":
        short = frequencies / jnp.asarray(config.short_factors, jnp.float32)
        long = frequencies / jnp.asarray(config.long_factors, jnp.float32)
        row_frequencies = jnp.where((length_B > config.original_positions)[:, None], long, short)
        angles = position_BL[..., None] * row_frequencies[:, None, :]
    else:
        angles = position_BL[..., None] * frequencies
    return jnp.cos(angles) * config.attention_factor, jnp.sin(angles) * config.attention_factor


def rotate(
    x: Float[Array, "*rows heads h"], cos: Float[Array, "*#rows f"], sin: Float[Array, "*#rows f"]
) -> Float[Array, "*rows heads h"]:
    """Rotates the halves of every head (`rotate_half` convention of Hugging Face Llama); `f = h / 2`."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos[..., None, :], sin[..., None, :]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
