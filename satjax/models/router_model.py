"""The router model: profile encoder and LLM joined into the score matrix `S[B, M]` (docs/architecture.md)."""

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float, Int

from satjax.config import AbilityHeadConfig, Head, Layout, ProfileEncoderConfig, Remat
from satjax.models.ability_head import AbilityHead, read_summary
from satjax.models.decoder import Decoder, DecoderConfig
from satjax.models.linear import Linear
from satjax.models.profile_encoder import AbilityTable, TaskSetConnector, TextConnector
from satjax.models.text_encoder import EncoderConfig, TextEncoder
from satjax.sharding import constrain, looked_up, spread

Params = dict[str, Array]
"""Parameters by path, such as `llm/upper/attention/q/kernel`: what is trained, saved and sharded."""


@dataclass(frozen=True)
class RouterModelConfig:
    """Shapes and choices that make up one router model; `yes_id`, `no_id` and `tail_ids` are tokens of the LLM.

    `encoder` is None where no text of a profile is read (`items`); the model then holds the abilities of `num_candidates` training candidates.
    """

    decoder: DecoderConfig
    encoder: EncoderConfig | None
    profile_encoder: ProfileEncoderConfig
    layout: Layout
    head: Head
    yes_id: int
    no_id: int
    tail_ids: tuple[int, ...]
    compute_dtype: str = "float32"
    remat: Remat = "none"
    ability_head: AbilityHeadConfig = field(default_factory=AbilityHeadConfig)
    num_candidates: int = 0

    @property
    def num_features(self) -> int:
        """Numbers that the ability head reads of an instruction."""
        return self.ability_head.num_states * self.decoder.width


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ProfileInputs:
    """Profiles as arrays (or, where a step is only lowered, as what jax has in the place of arrays).

    `token` and `length` hold what psi reads: `tasks`: `[T, L]` and `[T]`, one keyword text per task, the same for every
    candidate; `text`: `[M, C, L]` and `[M, C]`, the profile's text in chunks (length 0 = no chunk). `accuracy_MT` is
    standardized per task, `certainty_MT` is the share of the task's items that were observed.
    """

    token: Any
    length: Any
    accuracy_MT: Any
    certainty_MT: Any


def no_profiles() -> ProfileInputs:
    """For a model that reads none."""
    return ProfileInputs(*(jnp.zeros((0, 0)) for _ in range(4)))


class RouterModel(nnx.Module):
    """`score(params, instructions, profiles) -> S[B, M]` in three steps: `embed_profiles`, `soft_tokens`, `score`.

    The first is psi and may be computed once where psi is frozen; the second is the connector; the third runs the LLM. With `items` profiles
    the first two give the abilities of the training candidates.
    """

    def __init__(self, config: RouterModelConfig, rngs: nnx.Rngs):
        self.config = config
        width = config.decoder.width
        self.llm = Decoder(config.decoder, rngs)
        ability, measured = config.ability_head, config.profile_encoder.kind == "items"
        self.encoder = TextEncoder(config.encoder, rngs) if config.encoder else None
        self.connector = _connector(config, rngs)
        self.ability = AbilityHead(ability, width, rngs, measured=measured) if ability.rank else None
        self.regression = Linear(width, 1, bias=True, rngs=rngs) if config.head == "linear" else None

    def embed_profiles(self, inputs: ProfileInputs) -> Float[Array, "rows e"]:
        """psi: `[T, E]` for `tasks`; `[M, E]` for `text`, chunks averaged by their length; nothing, `[0, 0]`, for `items`."""
        if self.encoder is None:
            return jnp.zeros((0, 0))
        length_R, dtype = inputs.length.reshape(-1), jnp.dtype(self.config.compute_dtype)
        rows = spread(inputs.token.reshape(len(length_R), -1), length_R)
        flat = constrain(self.encoder(*rows, dtype=dtype)[: len(length_R)])
        if self.config.profile_encoder.kind == "tasks":
            return flat
        chunk_MCE = flat.reshape(*inputs.length.shape, -1)
        mean_ME = jnp.einsum("mce,mc->me", chunk_MCE, inputs.length.astype(jnp.float32))
        return mean_ME / jnp.maximum(jnp.linalg.norm(mean_ME, axis=-1, keepdims=True), 1e-9)

    def soft_tokens(self, embedding: Float[Array, "rows e"], inputs: ProfileInputs) -> Float[Array, "m k d"]:
        """The capability tokens `e_c` of every candidate, float32 `[M, K, D]`; for `items` their abilities, `[M, 1, R + 1]`."""
        assert self.connector is not None
        if isinstance(self.connector, AbilityTable):
            return self.connector()
        if isinstance(self.connector, TextConnector):
            return self.connector(embedding)
        return self.connector(embedding, inputs.accuracy_MT, inputs.certainty_MT)

    def score(
        self, token_BL: Int[Array, "b l"], length_B: Int[Array, " b"], soft_BMKD: Float[Array, "b m k d"]
    ) -> Float[Array, "b m"]:
        """Logits, float32 `[B, M]`, that candidate m handles instruction b.

        `token_BL` is the text of the layout (`satjax.instructions`), padded on the right; `soft_BMKD` may differ by instruction.
        """
        config, dtype = self.config, jnp.dtype(self.config.compute_dtype)
        if config.head == "none":
            return self.score_features(self.features(token_BL, length_B), soft_BMKD)
        num_candidates = soft_BMKD.shape[1]
        text_BLD = looked_up(self.llm.embed(token_BL).astype(dtype))
        if config.layout == "instruction_first":
            tail_SD = self.llm.embed(jnp.asarray(config.tail_ids, jnp.int32)).astype(dtype)
            tail_BMSD = jnp.broadcast_to(tail_SD, (*soft_BMKD.shape[:2], *tail_SD.shape))
            suffix = jnp.concatenate([soft_BMKD.astype(dtype), tail_BMSD], axis=2)
            states = self.llm(text_BLD, length_B, suffix, remat=config.remat)
            assert states.suffix is not None
            score_BM = self._read(states.suffix[:, :, -1])
            if self.ability is not None:
                score_BM = score_BM + self.ability(read_summary(states.summary, config.ability_head), soft_BMKD)
            return score_BM
        text_RLD = repeat(text_BLD, "b l d -> (b m) l d", m=num_candidates)
        soft_RKD = rearrange(soft_BMKD.astype(dtype), "b m k d -> (b m) k d")
        length_R = repeat(length_B, "b -> (b m)", m=num_candidates) + soft_RKD.shape[1]
        text = self.llm(jnp.concatenate([soft_RKD, text_RLD], axis=1), length_R, remat=config.remat).text
        last = jnp.take_along_axis(text, (length_R - 1)[:, None, None], axis=1)[:, 0]
        return self._read(rearrange(last, "(b m) d -> b m d", m=num_candidates))

    def features(self, token_BL: Int[Array, "b l"], length_B: Int[Array, " b"]) -> Float[Array, "b f"]:
        """What the ability head reads of an instruction, float32 `[B, F]`: the same for every zoo, and fixed where the LLM is."""
        text_BLD = looked_up(self.llm.embed(token_BL).astype(jnp.dtype(self.config.compute_dtype)))
        states = self.llm(text_BLD, length_B, remat=self.config.remat)
        return read_summary(states.summary, self.config.ability_head)

    def demands(self, feature_BF: Float[Array, "b f"]) -> Float[Array, "b r"]:
        """What the ability head reads `features` as: float32 `[B, R + 1]`."""
        assert self.ability is not None
        return self.ability.demands(feature_BF)

    def score_features(
        self,
        feature_BF: Float[Array, "b f"],
        soft_BMKD: Float[Array, "#b m k d"],
        kept_BF: Float[Array, "b f"] | None = None,
    ) -> Float[Array, "b m"]:
        """`score` by the ability head alone, from `features`; a first axis of 1 of the soft tokens serves all instructions.

        The standardized features are multiplied with `kept_BF`: training hides some of them.
        """
        assert self.ability is not None
        return self.ability(feature_BF, soft_BMKD, kept_BF)

    def _read(self, last_BMD: Array) -> Float[Array, "b m"]:
        """The head: two rows of the output matrix at the last position, or the regression variant."""
        last_BMD = last_BMD.astype(jnp.float32)
        if self.regression is not None:
            return self.regression(last_BMD)[..., 0]
        rows = self.llm.output_rows(jnp.asarray([self.config.yes_id, self.config.no_id])).astype(jnp.float32)
        logits = last_BMD @ rows.T
        return logits[..., 0] if self.config.head == "yes" else logits[..., 0] - logits[..., 1]


def _connector(config: RouterModelConfig, rngs: nnx.Rngs) -> TextConnector | TaskSetConnector | AbilityTable | None:
    options, width = config.profile_encoder, config.decoder.width
    if config.encoder is None:
        size = config.ability_head.rank + 1
        return AbilityTable(config.num_candidates, size, rngs) if config.num_candidates else None
    if options.kind == "text":
        return TextConnector(config.encoder.width, width, options.soft_tokens, rngs)
    average = config.head == "none"
    return TaskSetConnector(config.encoder.width, options.width, width, options.soft_tokens, rngs, from_average=average)


def abstract_model(config: RouterModelConfig) -> tuple[nnx.GraphDef, dict[str, jax.ShapeDtypeStruct]]:
    """Structure and parameter shapes, nothing allocated."""
    graphdef, shapes = _traced(config)
    return graphdef, dict(shapes)


@functools.lru_cache(maxsize=8)
def _traced(config: RouterModelConfig) -> tuple[nnx.GraphDef, dict[str, jax.ShapeDtypeStruct]]:
    graphdef, state = nnx.split(nnx.eval_shape(lambda: RouterModel(config, nnx.Rngs(0))))
    return graphdef, {
        _join(path): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in nnx.to_flat_state(state)
    }


def initial_params(config: RouterModelConfig, seed: int, given: Collection[str]) -> Params:
    """Freshly initialized parameters, from `seed`: all but those whose paths are `given` (base weights)."""

    def rest(key: Array) -> Params:
        _, state = nnx.split(RouterModel(config, nnx.Rngs(params=key)))
        return {_join(path): leaf[...] for path, leaf in nnx.to_flat_state(state) if _join(path) not in given}

    return jax.jit(rest)(jax.random.key(seed))


def bind(graphdef: nnx.GraphDef, params: Mapping[str, Array]) -> RouterModel:
    """The module with these parameters; use it inside a traced function."""
    return nnx.merge(
        graphdef, nnx.from_flat_state([(tuple(path.split("/")), nnx.Param(value)) for path, value in params.items()])
    )


def _join(path: tuple) -> str:
    return "/".join(map(str, path))
