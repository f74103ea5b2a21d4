"""A text that many continuations share, run once: its keys and values of every layer (a KV cache, for prompts instead of generation)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from satjax.models.decoder import Block, Decoder, Places
from satjax.models.rope import rope_tables


class Prefix(NamedTuple):
    """Keys and values `[layers, B, L, groups, head_width]` of B texts padded on the right to L, and their lengths."""

    key: Array
    value: Array
    length_B: Array


def read_prefix(decoder: Decoder, text_BLD: Float[Array, "b l d"], length_B: Int[Array, " b"]) -> Prefix:
    """Runs the texts, given as input embeddings, through an LLM whose candidates join at layer 0."""
    assert decoder.lower is None
    position_BL = jnp.broadcast_to(jnp.arange(text_BLD.shape[1]), text_BLD.shape[:2])
    config = decoder.config
    places = Places(length_B, rope_tables(config.rope, config.head_width, position_BL, length_B))
    graphdef, layers = nnx.split(decoder.upper)

    def body(text: Array, layer: nnx.State) -> tuple[Array, tuple[Array, Array]]:
        return _block(graphdef, layer).read_text(text, places)

    _, (key, value) = jax.lax.scan(body, text_BLD, layers)
    return Prefix(key, value, length_B)


def continue_prefix(
    decoder: Decoder, prefix: Prefix, more_BSLD: Float[Array, "b s l d"], length_BS: Int[Array, "b s"]
) -> Float[Array, "b s d"]:
    """Final normalized state of the last token of each continuation, as if it had been run after its prefix as one text.

    S continuations of each of the B prefixes, as input embeddings, padded on the right to L. Their own lengths do not change which
    factors `longrope` takes: all are taken to be of length L.
    """
    config, num_more = decoder.config, more_BSLD.shape[2]
    position_BL = prefix.length_B[:, None] + jnp.arange(num_more)
    cos, sin = rope_tables(config.rope, config.head_width, position_BL, prefix.length_B + num_more)
    places = Places(prefix.length_B, (cos, sin), (cos[:, None], sin[:, None]))
    graphdef, layers = nnx.split(decoder.upper)

    def body(more: Array, layer_and_read: tuple) -> tuple[Array, None]:
        layer, read = layer_and_read
        return _block(graphdef, layer).read_suffix(more, read, places), None

    more, _ = jax.lax.scan(body, more_BSLD, (layers, (prefix.key, prefix.value)))
    last_BSD = jnp.take_along_axis(more, (length_BS - 1)[:, :, None, None], axis=2)[:, :, 0]
    return decoder.norm(last_BSD)


def _block(graphdef: nnx.GraphDef, layer: Any) -> Block:
    block = nnx.merge(graphdef, layer)
    assert isinstance(block, Block)
    return block
