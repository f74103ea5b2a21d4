"""Candidates as scorers take them: soft tokens, read off profiles, or abilities in their place, measured by them."""

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from satjax.aptitude import AptitudeTest, CapabilityProfile
from satjax.aptitude.capability import AccuracyNorms, ProfileReader, profile_parts
from satjax.aptitude.measurement import AbilityScale
from satjax.assembly import Assembly
from satjax.models.router_model import Params, ProfileInputs, abstract_model, bind
from satjax.sharding import place_on, replicated

Vectors = TypeVar("Vectors", np.ndarray, jax.Array)


class CandidateEncoder:
    """`soft_tokens(profiles)`: by the text encoder and the connector in `params`, or by `reader` alone where that is a scale.

    `order_seed` draws the task orders in which a profile is read as text.
    """

    def __init__(
        self,
        assembly: Assembly,
        params: Params,
        reader: ProfileReader | AbilityScale,
        order_seed: int,
        mesh: Mesh | None = None,
    ):
        graphdef, _ = abstract_model(assembly.model)
        self.params, self.reader, self.order_seed = params, reader, order_seed
        self.everywhere = None if mesh is None else replicated(mesh)

        @partial(jax.jit, out_shardings=self.everywhere)
        def encode(params: Params, inputs: ProfileInputs) -> jax.Array:
            model = bind(graphdef, params)
            return model.soft_tokens(model.embed_profiles(inputs), inputs)

        self._encode = encode

    def soft_tokens(self, profiles: Sequence[CapabilityProfile]) -> jax.Array:
        """Capability tokens of M profiles, one set for each task order: float32 `[M, O, K, D]`; measured abilities are `[M, 1, 1, R + 1]`."""
        if isinstance(self.reader, AbilityScale):
            return as_tokens(self.reader.abilities(profiles))
        everywhere = partial(place_on, sharding=self.everywhere)
        orders = []
        for i in range(self.reader.num_orders):
            parts = profile_parts(self.reader.inputs(profiles, self.order_seed + i))
            read = [self._encode(self.params, jax.tree.map(everywhere, part)) for part in parts]
            orders.append(jnp.concatenate(read)[: len(profiles)])
        return jnp.stack(orders, axis=1)


def profile_reader(assembly: Assembly, test: AptitudeTest, norms: AccuracyNorms) -> ProfileReader | None:
    """What reads the profiles of this test, or None where no text of them is read (`items`)."""
    model = assembly.model
    if model.encoder is None or assembly.encoder_tokenizer is None:
        return None
    return ProfileReader(model.profile_encoder, model.encoder, assembly.encoder_tokenizer, test, norms)


def as_tokens(ability_MR: Vectors) -> Vectors:
    """Abilities in the place of soft tokens: `[M, 1, 1, R + 1]`."""
    return ability_MR[:, None, None]
