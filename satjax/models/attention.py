"""Attention of the two kinds of tokens: text, and candidate suffixes that share one text.

A suffix attends to the text of its instruction and to itself only, so its two score blocks stay dense and stand under one
softmax; no `[M, L]` mask is ever made. Softmax is float32.
"""

import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e30


def _group_queries(query: Array, num_groups: int) -> Array:
    """`[..., H, h]` to `[..., G, H/G, h]`, scaled: the query heads that read the same keys stand together."""
    scaled = query * (query.shape[-1] ** -0.5)
    return rearrange(scaled, "... (g r) h -> ... g r h", g=num_groups)


def _softmax_parts(*scores: Array) -> list[Array]:
    """Softmax over the last axes of several score blocks as if they were one."""
    top = jnp.max(jnp.stack([jnp.max(block, axis=-1) for block in scores]), axis=0)
    weights = [jnp.exp(block - top[..., None]) for block in scores]
    total = jnp.sum(jnp.stack([jnp.sum(weight, axis=-1) for weight in weights]), axis=0)
    return [weight / total[..., None] for weight in weights]


def key_mask(length_B: Int[Array, " b"], num_tokens: int) -> Bool[Array, "b l"]:
    """True at the positions that hold a token."""
    return jnp.arange(num_tokens) < length_B[:, None]


def text_attention(
    query: Float[Array, "b l heads h"],
    key: Float[Array, "b l groups h"],
    value: Float[Array, "b l groups h"],
    length_B: Int[Array, " b"],
    *,
    causal: bool,
) -> Float[Array, "b l heads h"]:
    """Self-attention over `length_B` tokens of each row; rows are padded on the right."""
    num_tokens = query.shape[1]
    scores = jnp.einsum(
        "bqgrh,bkgh->bgrqk", _group_queries(query, key.shape[2]), key, preferred_element_type=jnp.float32
    )
    mask = key_mask(length_B, num_tokens)[:, None, None, None, :]
    if causal:
        mask = mask & jnp.tril(jnp.ones((num_tokens, num_tokens), bool))
    (weights,) = _softmax_parts(jnp.where(mask, scores, MASKED))
    mixed = jnp.einsum("bgrqk,bkgh->bqgrh", weights.astype(value.dtype), value)
    return rearrange(mixed, "b q g r h -> b q (g r) h")


def suffix_attention(
    query: Float[Array, "b m s heads h"],
    key: Float[Array, "b m s groups h"],
    value: Float[Array, "b m s groups h"],
    text_key: Float[Array, "b l groups h"],
    text_value: Float[Array, "b l groups h"],
    length_B: Int[Array, " b"],
) -> Float[Array, "b m s heads h"]:
    """Each candidate's suffix reads the whole text of its instruction and, causally, itself."""
    num_suffix, num_text = query.shape[2], text_key.shape[1]
    grouped = _group_queries(query, key.shape[3])
    on_text = jnp.einsum("bmsgrh,blgh->bgrmsl", grouped, text_key, preferred_element_type=jnp.float32)
    on_self = jnp.einsum("bmsgrh,bmtgh->bgrmst", grouped, key, preferred_element_type=jnp.float32)
    on_text = jnp.where(key_mask(length_B, num_text)[:, None, None, None, None, :], on_text, MASKED)
    on_self = jnp.where(jnp.tril(jnp.ones((num_suffix, num_suffix), bool)), on_self, MASKED)
    text_weight, self_weight = _softmax_parts(on_text, on_self)
    mixed = jnp.einsum("bgrmsl,blgh->bmsgrh", text_weight.astype(value.dtype), text_value)
    mixed = mixed + jnp.einsum("bgrmst,bmtgh->bmsgrh", self_weight.astype(value.dtype), value)
    return rearrange(mixed, "b m s g r h -> b m s (g r) h")
