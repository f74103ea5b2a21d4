"""Ability times demand: the low-rank head of item response theory, between a profile and what the LLM holds of an instruction.

Every candidate's score is the product of two short vectors: another candidate costs one more product.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from satjax.config import AbilityHeadConfig
from satjax.models.linear import Linear
from satjax.models.stack import stack_layers
from satjax.models.summary import Summary


def read_summary(summary: Summary, config: AbilityHeadConfig) -> Float[Array, "b f"]:
    """The text's features, float32 `[B, N D]`: means, then last states, of the layers that the head reads, N in all."""
    means = [summary.mean[layer - 1] for layer in config.mean_layers]
    return jnp.concatenate([*means, *(summary.last[layer - 1] for layer in config.last_layers)], axis=-1)


class AbilityHead(nnx.Module):
    """`sum_r demand_br ability_mr / sqrt(R) + ease_b + strength_m`: multidimensional two-parameter IRT (Reckase 2009), both sides predicted.

    Each of the N states that it reads has a hidden layer of its own, and the demands that they see are averaged. Abilities that are read, and
    the ease, start at zero: nothing random has to be unlearned. `mean` and `spread` standardize the states; they are measured on training instructions,
    not trained. Abilities are read off soft tokens, or, with `measured`, given in their place.
    """

    def __init__(self, config: AbilityHeadConfig, width: int, rngs: nnx.Rngs, *, measured: bool = False):
        states, hidden, demands = config.num_states, config.hidden, config.rank + 1
        self.mean, self.spread = nnx.Param(jnp.zeros((states, width))), nnx.Param(jnp.ones((states, width)))
        self.read = stack_layers(lambda r: Linear(width, hidden, bias=True, rngs=r), states, rngs)
        demand = stack_layers(lambda r: Linear(hidden, demands, bias=True, rngs=r), states, rngs)
        assert isinstance(demand, Linear)
        demand.kernel[...] = demand.kernel[...].at[..., -1].set(0.0)
        self.demand = demand
        self.ability = None if measured else Linear(width, demands, bias=True, rngs=rngs)
        if self.ability is not None:
            self.ability.kernel[...] = jnp.zeros((width, demands))
        self.rank = config.rank

    def __call__(
        self,
        feature_BF: Float[Array, "b f"],
        soft_BMKD: Float[Array, "#b m k d"],
        kept_BF: Float[Array, "b f"] | None = None,
    ) -> Float[Array, "b m"]:
        """Logits, float32 `[B, M]`, from what `read_summary` gave and the candidates' soft tokens, or their abilities `[B, M, 1, R + 1]`.

        A first axis of 1 gives all instructions the same candidates: then this is one product, however many there are of both. `kept_BF` is
        for `demands`.
        """
        demand_BR = self.demands(feature_BF, kept_BF)
        ability_BMR = jnp.mean(soft_BMKD.astype(jnp.float32), axis=2)
        if self.ability is not None:
            ability_BMR = self.ability(ability_BMR)
        if len(ability_BMR) == 1:
            met_BM = jnp.einsum("br,mr->bm", demand_BR[:, :-1], ability_BMR[0, :, :-1])
        else:
            met_BM = jnp.einsum("br,bmr->bm", demand_BR[:, :-1], ability_BMR[..., :-1])
        return met_BM + demand_BR[:, -1:] + ability_BMR[..., -1]

    def demands(
        self, feature_BF: Float[Array, "b f"], kept_BF: Float[Array, "b f"] | None = None
    ) -> Float[Array, "b r"]:
        """What instructions ask for, float32 `[B, R + 1]`: R demands over `sqrt(R)`, and the ease; standardized features are multiplied with `kept_BF`."""
        state_BND = rearrange(feature_BF, "b (n d) -> b n d", n=self.mean.shape[0])
        mean_ND, spread_ND = jax.lax.stop_gradient((self.mean[...], self.spread[...]))
        standard_BND = (state_BND - mean_ND) / spread_ND
        if kept_BF is not None:
            standard_BND = standard_BND * kept_BF.reshape(standard_BND.shape)
        hidden_BNH = jax.nn.gelu(_each(self.read, standard_BND))
        demand_BR = jnp.mean(_each(self.demand, hidden_BNH), axis=1)
        return jnp.concatenate([demand_BR[:, :-1] * self.rank**-0.5, demand_BR[:, -1:]], axis=-1)


def _each(stacked: nnx.Module, x_BNI: Float[Array, "b n i"]) -> Float[Array, "b n o"]:
    """Layer n of a stack on `x[:, n]`."""
    assert isinstance(stacked, Linear)
    assert stacked.bias is not None
    return jnp.einsum("bni,nio->bno", x_BNI, stacked.kernel[...]) + stacked.bias[...]
