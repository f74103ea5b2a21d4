"""Attention of the two kinds of tokens: text, and candidate suffixes that share one text.

A suffix attends to the text of its instruction and to itself only, so its two score blocks stay dense and stand under one
softmax; no `[M, L]` mask is ever made. Softmax is float32. Products are in the dtype of keys and values, those of the gradients too; results in
that of the queries.
"""

from functools import partial

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

MASKED = -1e30
QUERY_BLOCK = 128
"""Causal queries that are scored at once: with blocks of L/n a share of (n - 1) / 2n of all pairs is never computed."""


def _scaled(query: Array) -> Array:
    return query * (query.shape[-1] ** -0.5)


def _weights(*scores: Array) -> tuple[list[Array], Array]:
    """Unnormalized softmax weights over the last axes of several score blocks as if they were one, and their sum `[..., 1]`."""
    top = jnp.max(jnp.stack([jnp.max(jax.lax.stop_gradient(block), axis=-1) for block in scores]), axis=0)
    weights = [jnp.exp(block - top[..., None]) for block in scores]
    return weights, jnp.sum(jnp.stack([jnp.sum(weight, axis=-1) for weight in weights]), axis=0)[..., None]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(subscripts: str, a: Array, b: Array) -> Array:
    """`einsum` of two arrays of one dtype, summed and given in float32.

    Its gradients round what comes back to that dtype, as flash attention does: JAX's own would multiply it in float32, for which GPUs have no fast
    units.
    """
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)


def _product_forward(subscripts: str, a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(subscripts, a, b), (a, b)


def _product_backward(subscripts: str, factors: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    (a, b), (inputs, output) = factors, subscripts.split("->")
    first, second = inputs.split(",")
    narrow = gradient.astype(a.dtype)
    of_a = jnp.einsum(f"{output},{second}->{first}", narrow, b, preferred_element_type=jnp.float32)
    of_b = jnp.einsum(f"{output},{first}->{second}", narrow, a, preferred_element_type=jnp.float32)
    return of_a.astype(a.dtype), of_b.astype(b.dtype)


_product.defvjp(_product_forward, _product_backward)


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
    """Self-attention over `length_B` tokens of each row; rows are padded on the right.

    The query heads that share keys stand below each other, so that a group of them is one product, and weights are normalized after they
    have mixed the values, which are fewer. Causal queries go in blocks, each against the keys that it can see.
    """
    (_, num_tokens, num_heads, _), num_groups = query.shape, key.shape[2]
    dtype = query.dtype
    query = rearrange(_scaled(query).astype(key.dtype), "b l (g r) h -> b g r l h", g=num_groups)
    key, value = rearrange(key, "b k g h -> b g h k"), rearrange(value, "b k g h -> b g k h")
    seen = key_mask(length_B, num_tokens)[:, None, None, None, :]

    def block(start: int, stop: int, keys: int) -> Array:
        rows = rearrange(query[:, :, :, start:stop], "b g r q h -> b g (r q) h")
        scores = _product("bgqh,bghk->bgqk", rows, key[..., :keys])
        scores = rearrange(scores, "b g (r q) k -> b g r q k", q=stop - start)
        mask = seen[..., :keys]
        if causal:
            mask = mask & (jnp.arange(keys) <= jnp.arange(start, stop)[:, None])
        (weight,), total = _weights(jnp.where(mask, scores, MASKED))
        weight = rearrange(weight.astype(value.dtype), "b g r q k -> b g (r q) k")
        mixed = _product("bgqk,bgkh->bgqh", weight, value[:, :, :keys])
        return rearrange(mixed, "b g (r q) h -> b g r q h", q=stop - start) / total

    starts = range(0, num_tokens, QUERY_BLOCK if causal else num_tokens)
    ends = [*starts[1:], num_tokens]
    mixed = [block(i, end, end if causal else num_tokens) for i, end in zip(starts, ends, strict=True)]
    whole = mixed[0] if len(mixed) == 1 else jnp.concatenate(mixed, axis=3)
    return rearrange(whole, "b g r l h -> b l (g r) h", r=num_heads // num_groups).astype(dtype)


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
    grouped = rearrange(_scaled(query).astype(key.dtype), "b m s (g r) h -> b m s g r h", g=key.shape[3])
    on_text = _product("bmsgrh,blgh->bgrmsl", grouped, text_key)
    on_self = _product("bmsgrh,bmtgh->bgrmst", grouped, key)
    on_text = jnp.where(key_mask(length_B, num_text)[:, None, None, None, None, :], on_text, MASKED)
    on_self = jnp.where(jnp.tril(jnp.ones((num_suffix, num_suffix), bool)), on_self, MASKED)
    (text_weight, self_weight), total = _weights(on_text, on_self)
    mixed = _product("bgrmsl,blgh->bgrmsh", text_weight.astype(value.dtype), text_value)
    mixed = mixed + _product("bgrmst,bmtgh->bgrmsh", self_weight.astype(value.dtype), value)
    return rearrange(mixed / total, "b g r m s h -> b m s (g r) h").astype(query.dtype)
