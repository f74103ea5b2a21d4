"""Attention of text and suffixes by the kernel that a platform has for it: chosen once (`satjax.assembly`), the same numbers up to rounding."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from satjax.config import AttentionKernel
from satjax.models import attention, splash
from satjax.sharding import on_each_device


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
    if kernel != "splash":
        # cuDNN's would have to be two calls, merged by their log-sum-exps; jax hands those out rounded to the dtype of the scores, and without a gradient.
        return attention.suffix_attention(*arrays)
    own, text = ("batch", None, None, "heads", None), ("batch", None, "heads", None)
    return on_each_device(splash.suffix_attention, arrays, (own, own, own, text, text, ("batch",)))


def cudnn_attention(query: Array, key: Array, value: Array) -> Array:
    """Causal, and so in need of no lengths (`splash.causal_attention`). It has gradients for even numbers of tokens only."""
    num_tokens = query.shape[1]
    even = (jnp.pad(x, ((0, 0), (0, num_tokens % 2), (0, 0), (0, 0))) for x in (query, key, value))
    return jax.nn.dot_product_attention(*even, is_causal=True, implementation="cudnn")[:, :num_tokens]
