"""Decoder LLM: Llama-type models (SmolLM2, Llama 3, Qwen2.5) and Phi-3/3.5-mini by configuration.

Text rows go through every layer; candidate suffixes join at `join_layer` and read the text's keys and values of each layer
from there on. Nothing here knows about candidates beyond that.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from satjax.config import AttentionKernel
from satjax.models.fused_attention import suffix_attention, text_attention
from satjax.models.linear import Linear, RMSNorm
from satjax.models.narrow import narrowed
from satjax.models.rope import RopeConfig, rope_tables, rotate
from satjax.models.stack import run_stack, stack_layers
from satjax.models.summary import Summary, summarize


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder LLM; `lora_rank` adapts the layers from `join_layer` on, for `all` tokens or those of a `suffix` only.

    `attention` is the kernel that computes attention here, no part of what the LLM is.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    mlp_width: int
    norm_epsilon: float = 1e-5
    rope: RopeConfig = field(default_factory=RopeConfig)
    qkv_bias: bool = False
    tied_head: bool = True
    max_positions: int = 2048
    lora_rank: int = 0
    lora_tokens: str = "all"
    join_layer: int = 0
    attention: AttentionKernel = "xla"


class Attention(nnx.Module):
    """Grouped-query self-attention (Ainslie et al. 2023) over text and suffix tokens."""

    def __init__(self, config: DecoderConfig, lora_rank: int, rngs: nnx.Rngs):
        heads, groups = config.num_heads * config.head_width, config.num_kv_heads * config.head_width
        self.q = Linear(config.width, heads, bias=config.qkv_bias, lora_rank=lora_rank, rngs=rngs)
        self.k = Linear(config.width, groups, bias=config.qkv_bias, lora_rank=lora_rank, rngs=rngs)
        self.v = Linear(config.width, groups, bias=config.qkv_bias, lora_rank=lora_rank, rngs=rngs)
        self.o = Linear(heads, config.width, lora_rank=lora_rank, rngs=rngs)
        self.head_width, self.kernel = config.head_width, config.attention

    def project(self, x: Array, rope: tuple[Array, Array], adapted: bool) -> tuple[Array, Array, Array]:
        """Rotated queries and keys, and values, each `[..., heads, head_width]`; keys and values as narrow as the kernels."""
        q, k, v = (
            rearrange(linear(x, adapted=adapted), "... (n h) -> ... n h", h=self.head_width)
            for linear in (self.q, self.k, self.v)
        )
        kernel = self.k.kernel[...]
        return rotate(q, *rope), narrowed(rotate(k, *rope), kernel), narrowed(v, kernel)

    def merge(self, mixed: Array, adapted: bool) -> Array:
        """Heads back to the width of the LLM."""
        return self.o(rearrange(mixed, "... n h -> ... (n h)"), adapted=adapted)


class GatedMLP(nnx.Module):
    """SwiGLU feed-forward (Shazeer 2020)."""

    def __init__(self, config: DecoderConfig, lora_rank: int, rngs: nnx.Rngs):
        self.gate = Linear(config.width, config.mlp_width, lora_rank=lora_rank, rngs=rngs)
        self.up = Linear(config.width, config.mlp_width, lora_rank=lora_rank, rngs=rngs)
        self.down = Linear(config.mlp_width, config.width, lora_rank=lora_rank, rngs=rngs)

    def __call__(self, x: Array, adapted: bool) -> Array:
        """Token by token."""
        hidden = jax.nn.silu(self.gate(x, adapted=adapted)) * self.up(x, adapted=adapted)
        return self.down(hidden, adapted=adapted)


@dataclass(frozen=True)
class Places:
    """Where tokens stand: lengths of the text rows, and rotary tables of text and suffixes."""

    length_B: Array
    text_rope: tuple[Array, Array]
    suffix_rope: tuple[Array, Array] | None = None


class Block(nnx.Module):
    """One pre-norm layer; the carry is `(text [B, L, D], suffix [B, M, S, D] or None)`."""

    def __init__(self, config: DecoderConfig, lora_rank: int, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config.width, config.norm_epsilon)
        self.attention = Attention(config, lora_rank, rngs)
        self.mlp_norm = RMSNorm(config.width, config.norm_epsilon)
        self.mlp = GatedMLP(config, lora_rank, rngs)
        self.text_adapted = config.lora_tokens == "all"

    def __call__(self, carry: tuple[Array, Array | None], places: Places) -> tuple[Array, Array | None]:
        """Text and suffix stay apart, so that a gradient that only the suffix needs costs nothing on the text."""
        text, suffix = carry
        text, read = self.read_text(text, places)
        return text, None if suffix is None else self.read_suffix(suffix, read, places)

    def read_text(self, text: Array, places: Places) -> tuple[Array, tuple[Array, Array]]:
        """The text's next states, and the keys and values that suffixes read of it, each `[B, L, groups, head_width]`."""
        adapted = self.text_adapted
        q, k, v = self.attention.project(self.attention_norm(text), places.text_rope, adapted)
        text = text + self.attention.merge(text_attention(self.attention.kernel, q, k, v, places.length_B), adapted)
        return text + self.mlp(self.mlp_norm(text), adapted), (k, v)

    def read_suffix(self, suffix: Array, read: tuple[Array, Array], places: Places) -> Array:
        """The suffixes' next states; `read` are the text's keys and values of this layer."""
        assert places.suffix_rope is not None
        q, k, v = self.attention.project(self.attention_norm(suffix), places.suffix_rope, True)
        mixed = suffix_attention(self.attention.kernel, q, k, v, *read, places.length_B)
        suffix = suffix + self.attention.merge(mixed, True)
        return suffix + self.mlp(self.mlp_norm(suffix), True)


class States(NamedTuple):
    """Final normalized states of text `[B, L, D]` and suffixes `[B, M, S, D]` (None without any), and the text's summary after each layer.

    Past a row's length the text's states mean nothing.
    """

    text: Array
    suffix: Array | None
    summary: Summary


class Decoder(nnx.Module):
    """The LLM without its loss: embeddings, `lower` layers that only the text passes, `upper` layers, final norm, output rows."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs):
        self.config = config
        self.embedding = nnx.Param(0.02 * jax.random.normal(rngs.params(), (config.vocab_size, config.width)))
        num_lower, num_upper = config.join_layer, config.num_layers - config.join_layer
        self.lower = stack_layers(lambda r: Block(config, 0, r), num_lower, rngs) if num_lower else None
        self.upper = stack_layers(lambda r: Block(config, config.lora_rank, r), num_upper, rngs)
        self.norm = RMSNorm(config.width, config.norm_epsilon)
        self.head = None if config.tied_head else Linear(config.width, config.vocab_size, rngs=rngs)

    def embed(self, token: Int[Array, "*rows"]) -> Float[Array, "*rows d"]:
        """Input embeddings of token ids."""
        return self.embedding[...][token]

    def output_rows(self, token_id: Int[Array, " n"]) -> Float[Array, "n d"]:
        """Rows of the output head for a few tokens; the whole `[V, D]` product is never needed here."""
        if self.head is None:
            return self.embedding[...][token_id]
        return self.head.kernel[...][:, token_id].T

    def __call__(
        self,
        text_BLD: Float[Array, "b l d"],
        length_B: Int[Array, " b"],
        suffix_BMSD: Float[Array, "b m s d"] | None = None,
        *,
        remat: str = "none",
    ) -> States:
        """States of the text and, if given, of the suffixes.

        Rows of text are padded on the right to L; a suffix's positions go on from its row's length, and suffix m of a row sees the
        row's text and itself, never another suffix.
        """
        config, (num_rows, num_text) = self.config, text_BLD.shape[:2]
        text_position = jnp.broadcast_to(jnp.arange(num_text), (num_rows, num_text))
        whole_B = length_B
        if suffix_BMSD is not None:
            whole_B = length_B + suffix_BMSD.shape[2]
        text_rope = rope_tables(config.rope, config.head_width, text_position, whole_B)
        places = Places(length_B, text_rope)
        carry: tuple[Array, Array | None] = (text_BLD, None)
        tap = lambda carry, places: summarize(carry[0], places.length_B)  # noqa: E731
        summaries = []
        if self.lower is not None:
            carry, below = run_stack(self.lower, carry, places, path="llm/lower", remat=remat, tap=tap)
            summaries.append(below)
        if suffix_BMSD is not None:
            suffix_position = length_B[:, None] + jnp.arange(suffix_BMSD.shape[2])
            cos, sin = rope_tables(config.rope, config.head_width, suffix_position, whole_B)
            places = Places(length_B, text_rope, (cos[:, None], sin[:, None]))
            carry = (carry[0], suffix_BMSD)
        (text, suffix), above = run_stack(self.upper, carry, places, path="llm/upper", remat=remat, tap=tap)
        summary = jax.tree.map(lambda *layers: jnp.concatenate(layers), *summaries, above)
        return States(self.norm(text), None if suffix is None else self.norm(suffix), summary)


jax.tree_util.register_dataclass(Places, data_fields=["length_B", "text_rope", "suffix_rope"], meta_fields=[])
