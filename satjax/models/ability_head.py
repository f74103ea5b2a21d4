"""Ability times demand: the low-rank head of item response theory, between a profile and the text's states where candidates join.

The LLM's answer reads an instruction through a few attention heads; this head reads it as a whole. Their logits are added.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from satjax.models.attention import key_mask
from satjax.models.linear import Linear


def text_features(states_BLD: Float[Array, "b l d"], length_B: Int[Array, " b"]) -> Float[Array, "b d"]:
    """Mean over a row's tokens of their states, each brought to unit root-mean-square first, float32.

    Without that the first token, whose state is far larger than all others in most LLMs, would be most of the mean.
    """
    states = states_BLD.astype(jnp.float32)
    unit = states * jax.lax.rsqrt(jnp.mean(states * states, axis=-1, keepdims=True) + 1e-6)
    mask = key_mask(length_B, states.shape[1])[..., None]
    return jnp.sum(jnp.where(mask, unit, 0.0), axis=1) / jnp.maximum(length_B, 1)[:, None]


class AbilityHead(nnx.Module):
    """`sum_r demand_br ability_mr / sqrt(R) + ease_b + strength_m`: multidimensional two-parameter IRT (Reckase 2009), both sides predicted.

    `mean` and `spread` standardize the text's features; they are measured on training instructions, not trained.
    """

    def __init__(self, width: int, rank: int, hidden: int, rngs: nnx.Rngs):
        self.mean, self.spread = nnx.Param(jnp.zeros(width)), nnx.Param(jnp.ones(width))
        self.read = Linear(width, hidden, bias=True, rngs=rngs)
        self.demand = Linear(hidden, rank + 1, bias=True, rngs=rngs)
        self.ability = Linear(width, rank + 1, bias=True, rngs=rngs)
        self.rank = rank

    def __call__(self, feature_BD: Float[Array, "b d"], soft_BMKD: Float[Array, "b m k d"]) -> Float[Array, "b m"]:
        """Logits, float32 `[B, M]`, from `text_features` and the candidates' soft tokens."""
        standard_BD = (feature_BD - self.mean[...]) / self.spread[...]
        demand_BR = self.demand(jax.nn.gelu(self.read(standard_BD)))
        ability_BMR = self.ability(jnp.mean(soft_BMKD.astype(jnp.float32), axis=2))
        shared = jnp.einsum("br,bmr->bm", demand_BR[:, :-1], ability_BMR[..., :-1]) * self.rank**-0.5
        return shared + demand_BR[:, -1:] + ability_BMR[..., -1]
