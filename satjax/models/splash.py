"""Attention on TPU by the splash kernel of Pallas: flash attention (Dao 2023, arXiv 2307.08691) that never visits an empty block of its mask.

A mask is known when a step is traced, as blocks. What differs from row to row, the length of its text, comes as segments: a query reads the keys of
its own segment. Scores stay on the chip, both ways.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import (
    BlockSizes,
    CausalMask,
    Mask,
    MultiHeadMask,
    SegmentIds,
    make_splash_mha,
)
from jaxtyping import Array, Float, Int

from satjax.models.attention import key_mask

LANES = 128
"""What the kernel's blocks are multiples of."""
LONGEST_BLOCK = 512
"""Queries and keys of 1 MiB of scores in the vector memory. Larger blocks skip less of a causal mask; of smaller ones, each costs its start."""


def block_of(num_tokens: int) -> tuple[int, int]:
    """The length of a block, and of enough blocks for so many tokens: as few as can be, and then as short."""
    count = -(-num_tokens // LONGEST_BLOCK)
    block = LANES * -(-num_tokens // (count * LANES))
    return block, count * block


@dataclass(frozen=True)
class SuffixMask(Mask):
    """Suffixes of `num_suffix` tokens, one after the other, read `num_text` keys and then, causally, each its own; keys after those are nobody's."""

    num_queries: int
    num_keys: int
    num_text: int
    num_suffix: int

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and keys."""
        return self.num_queries, self.num_keys

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """The block of queries and keys."""
        query, key = (np.arange(size)[part] for size, part in zip(self.shape, index, strict=True))
        own = key[None] - self.num_text
        same = (own // self.num_suffix == query[:, None] // self.num_suffix) & (own <= query[:, None])
        return (own < 0) | same


def causal_attention(
    query: Float[Array, "b l heads h"], key: Float[Array, "b l groups h"], value: Float[Array, "b l groups h"]
) -> Float[Array, "b l heads h"]:
    """Self-attention over texts that are padded on the right: no token of a text sees padding, so lengths need not be known.

    What padding itself reads means nothing, and is finite.
    """
    num_tokens = query.shape[1]
    length = block_of(num_tokens)[1]
    query, key, value = (_padded(x, length) for x in (query, key, value))
    return _attend(CausalMask((length, length)), query, key, value)[:, :num_tokens]


def suffix_attention(
    query: Float[Array, "b m s heads h"],
    key: Float[Array, "b m s groups h"],
    value: Float[Array, "b m s groups h"],
    text_key: Float[Array, "b l groups h"],
    text_value: Float[Array, "b l groups h"],
    length_B: Int[Array, " b"],
) -> Float[Array, "b m s heads h"]:
    """Each candidate's suffix reads the text of its instruction and, causally, itself.

    One list of keys: the text, then all suffixes. The blocks where a suffix would meet another one are empty; a query costs the text and one block more.
    """
    num_rows, num_sets, num_suffix, _, _ = query.shape
    num_text, num_own = text_key.shape[1], num_sets * num_suffix
    queries, keys = block_of(num_own)[1], block_of(num_text + num_own)[1]

    def listed(text: Array, own: Array) -> Array:
        return _padded(jnp.concatenate([text, own.reshape(num_rows, num_own, *own.shape[3:])], axis=1), keys)

    read = jnp.concatenate([key_mask(length_B, num_text), jnp.ones((num_rows, keys - num_text), bool)], axis=1)
    segments = SegmentIds(jnp.ones((num_rows, queries), jnp.int32), read.astype(jnp.int32))
    flat = _padded(query.reshape(num_rows, num_own, *query.shape[3:]), queries)
    mask = SuffixMask(queries, keys, num_text, num_suffix)
    mixed = _attend(mask, flat, listed(text_key, key), listed(text_value, value), segments)
    return mixed[:, :num_own].reshape(query.shape)


def _padded(x: Array, length: int) -> Array:
    return jnp.pad(x, ((0, 0), (0, length - x.shape[1]), (0, 0), (0, 0)))


def _attend(mask: Mask, query: Array, key: Array, value: Array, segments: SegmentIds | None = None) -> Array:
    """`[B, Q, H, h]` queries on `[B, K, G, h]` keys, each of whole blocks."""
    (own, _), (read, _) = (block_of(size) for size in (query.shape[1], key.shape[1]))
    # The backward kernel that makes all three gradients at once computes scores once instead of twice.
    blocks = BlockSizes(own, read, read, own, read, read, use_fused_bwd_kernel=True)
    kernel = make_splash_mha(MultiHeadMask([mask] * query.shape[2]), block_sizes=blocks, head_shards=1, q_seq_shards=1)
    scaled = query * (query.shape[-1] ** -0.5)
    by_head = (jnp.swapaxes(x, 1, 2) for x in (scaled, key, value))
    return jnp.swapaxes(jax.vmap(kernel)(*by_head, segments), 1, 2)
