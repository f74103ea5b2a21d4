"""BERT-type text encoder, pooled to one embedding: the capability encoder psi (E5-Large in the paper, MiniLM by default)."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from satjax.models.attention import key_mask, text_attention
from satjax.models.linear import LayerNorm, Linear
from satjax.models.stack import run_stack, stack_layers
from satjax.sharding import looked_up

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of a BERT-type encoder; `query_prefix` is what it expects before a query (E5: "query: ").

    `pooling`: the embedding is the mean of a row's tokens (MiniLM, E5), or the state of the first one, `cls` (BGE).
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    max_positions: int = 512
    norm_epsilon: float = 1e-12
    query_prefix: str = ""
    pooling: Pooling = "mean"


class EncoderBlock(nnx.Module):
    """One post-norm layer of BERT (Devlin et al. 2019); the carry is the states `[B, L, E]`."""

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        width = config.width
        self.q, self.k, self.v, self.o = (Linear(width, width, bias=True, rngs=rngs) for _ in range(4))
        self.attention_norm = LayerNorm(width, config.norm_epsilon)
        self.up = Linear(width, config.mlp_width, bias=True, rngs=rngs)
        self.down = Linear(config.mlp_width, width, bias=True, rngs=rngs)
        self.mlp_norm = LayerNorm(width, config.norm_epsilon)
        self.num_heads = config.num_heads

    def __call__(self, x: Array, length_B: Array) -> Array:
        """Every token attends to all tokens of its row."""
        q, k, v = (rearrange(f(x), "b l (n h) -> b l n h", n=self.num_heads) for f in (self.q, self.k, self.v))
        mixed = rearrange(text_attention(q, k, v, length_B, causal=False), "b l n h -> b l (n h)")
        x = self.attention_norm(x + self.o(mixed))
        return self.mlp_norm(x + self.down(jax.nn.gelu(self.up(x), approximate=False)))


class TextEncoder(nnx.Module):
    """Token ids to one unit-length embedding per row: its tokens pooled, L2-normalized."""

    def __init__(self, config: EncoderConfig, rngs: nnx.Rngs):
        self.config = config
        table = lambda rows: nnx.Param(0.02 * jax.random.normal(rngs.params(), (rows, config.width)))  # noqa: E731
        self.embedding, self.positions, self.segments = table(config.vocab_size), table(config.max_positions), table(2)
        self.norm = LayerNorm(config.width, config.norm_epsilon)
        self.layers = stack_layers(lambda r: EncoderBlock(config, r), config.num_layers, rngs)

    def __call__(
        self, token_BL: Int[Array, "b l"], length_B: Int[Array, " b"], *, dtype: jnp.dtype = jnp.float32
    ) -> Float[Array, "b e"]:
        """Embeddings, float32 `[B, E]`; L must not exceed `max_positions`. A row of length 0 gives zeros."""
        num_tokens = token_BL.shape[1]
        wider = jnp.promote_types(self.embedding[...].dtype, dtype)  # tables of base weights may be the narrower ones
        positions, segment = self.positions[...][:num_tokens].astype(wider), self.segments[...][0].astype(wider)
        x = looked_up(self.embedding[...][token_BL].astype(wider)) + positions + segment
        x, _ = run_stack(self.layers, self.norm(x.astype(dtype)), length_B, path="encoder/layers")
        x = x.astype(jnp.float32)
        if self.config.pooling == "cls":
            pooled = jnp.where(length_B[:, None] > 0, x[:, 0], 0.0)
        else:
            pooled = jnp.sum(jnp.where(key_mask(length_B, num_tokens)[..., None], x, 0.0), axis=1)
        return pooled / jnp.maximum(jnp.linalg.norm(pooled, axis=-1, keepdims=True), 1e-9)
