"""Attention of text and suffixes by the kernel that a platform has for it: chosen once (`satjax.assembly`), the same numbers up to rounding."""

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int

from satjax.config import AttentionKernel
from satjax.models import attention, splash
from satjax.sharding import on_each_device

MOST_MASKED = 4
"""Keys that cuDNN is given for each that a suffix sees: many long continuations of one text would be masks and nothing else."""


def text_attention(
    kernel: AttentionKernel,
    query: Float[Array, "b l heads h"],
    key: Float[Array, "b l groups h"],
    value: Float[Array, "b l groups h"],
    length_B: Int[Array, " b"],
) -> Float[Array, "b l heads h"]:
    """Causal self-attention over `length_B` tokens of each row; rows are padded on the right, and what padding reads means nothing.

    `cudnn` is of bfloat16 or float16 only.
    """
    if kernel == "xla":
        return attention.text_attention(query, key, value, length_B, causal=True)
    run = splash.causal_attention if kernel == "splash" else cudnn_attention
    by_head = ("batch", None, "heads", None)
    return on_each_device(run, (query, key, value), (by_head,) * 3)


def suffix_attention(
    kernel: AttentionKernel,
    query: Float[Array, "b m s heads h"],
    key: Float[Array, "b m s groups h"],
    value: Float[Array, "b m s groups h"],
    text_key: Float[Array, "b l groups h"],
    text_value: Float[Array, "b l groups h"],
    length_B: Int[Array, " b"],
) -> Float[Array, "b m s heads h"]:
    """Each candidate's suffix reads the whole text of its instruction and, causally, itself."""
    arrays = (query, key, value, text_key, text_value, length_B)
    (num_sets, num_suffix), num_text = query.shape[1:3], text_key.shape[1]
    masked = num_text + num_sets * num_suffix > MOST_MASKED * (num_text + num_suffix)
    if kernel == "xla" or (kernel == "cudnn" and masked):
        return attention.suffix_attention(*arrays)
    run = splash.suffix_attention if kernel == "splash" else cudnn_suffix_attention
    own, text = ("batch", None, None, "heads", None), ("batch", None, "heads", None)
    return on_each_device(run, arrays, (own, own, own, text, text, ("batch",)))


def cudnn_attention(query: Array, key: Array, value: Array) -> Array:
    """Causal, and so in need of no lengths (`splash.causal_attention`)."""
    even = (_even(x) for x in (query, key, value))
    return jax.nn.dot_product_attention(*even, is_causal=True, implementation="cudnn")[:, : query.shape[1]]


def cudnn_suffix_attention(
    query: Array, key: Array, value: Array, text_key: Array, text_value: Array, length_B: Array
) -> Array:
    """One call for all suffixes of a row: keys are the text's and those of every suffix, the other suffixes' masked away.

    That is `M S (L + M S)` scores for `M S (L + S)`, none of which is ever in memory. Two calls would have to be merged by their log-sum-exps, which jax
    hands out rounded to the dtype of the scores, and without a gradient.
    """
    num_rows, num_sets, num_suffix = query.shape[:3]
    query, key, value = (_even(rearrange(x, "b m s n h -> b (m s) n h")) for x in (query, key, value))
    text_key, text_value = _even(text_key), _even(text_value)
    place = jnp.arange(query.shape[1])
    own = (place // num_suffix == place[:, None] // num_suffix) & (place <= place[:, None])
    text = attention.key_mask(length_B, text_key.shape[1])[:, None]
    seen = [jnp.broadcast_to(mask, (num_rows, len(place), mask.shape[-1])) for mask in (text, own)]
    mixed = jax.nn.dot_product_attention(
        query,
        jnp.concatenate([text_key, key], axis=1),
        jnp.concatenate([text_value, value], axis=1),
        mask=jnp.concatenate(seen, axis=-1)[:, None],
        implementation="cudnn",
    )
    return rearrange(mixed[:, : num_sets * num_suffix], "b (m s) n h -> b m s n h", m=num_sets)


def _even(x_BLNH: Array) -> Array:
    """One token more where their number is odd: of that cuDNN has no gradients."""
    return jnp.pad(x_BLNH, ((0, 0), (0, x_BLNH.shape[1] % 2), (0, 0), (0, 0)))
