"""A prefix run once is the same as its text before every continuation."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from satjax.models.decoder import Decoder, DecoderConfig
from satjax.models.prefix import Prefix, continue_prefix, read_prefix

RNG = np.random.default_rng(0)
TEXT, MORE = RNG.normal(size=(2, 9, 16)).astype(np.float32), RNG.normal(size=(2, 3, 5, 16)).astype(np.float32)
LENGTH, MORE_LENGTH = np.array([9, 6], np.int32), np.array([[5, 1, 3], [2, 5, 4]], np.int32)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(DecoderConfig(50, 16, 3, 4, 2, 4, 32), nnx.Rngs(0))


@nnx.jit
def both(decoder: Decoder, text, length, more, more_length):
    return continue_prefix(decoder, read_prefix(decoder, text, length), more, more_length)


def test_as_one_text(decoder):
    ours = both(decoder, *map(jnp.asarray, (TEXT, LENGTH, MORE, MORE_LENGTH)))
    assert ours.shape == (2, 3, 16)
    for b in range(2):
        for s in range(3):
            whole = np.concatenate([TEXT[b, : LENGTH[b]], MORE[b, s, : MORE_LENGTH[b, s]]])
            padded = jnp.asarray(np.pad(whole, ((0, 14 - len(whole)), (0, 0)))[None])
            states = nnx.jit(lambda d, x, n: d(x, n).text)(decoder, padded, jnp.asarray([len(whole)]))
            np.testing.assert_allclose(ours[b, s], states[0, len(whole) - 1], atol=2e-5)


def test_padding_and_neighbours_change_nothing(decoder):
    ours = both(decoder, *map(jnp.asarray, (TEXT, LENGTH, MORE, MORE_LENGTH)))
    text, more = TEXT.copy(), MORE.copy()
    text[1, 6:] += 100
    more[0, 1, 1:] += 100
    more[1, 0] += 1
    changed = both(decoder, *map(jnp.asarray, (text, LENGTH, more, MORE_LENGTH)))
    np.testing.assert_array_equal(ours[0], changed[0])
    np.testing.assert_array_equal(ours[1, 1:], changed[1, 1:])
    assert np.abs(ours[1, 0] - changed[1, 0]).max() > 1e-3


def test_keys_and_values_of_every_layer(decoder):
    prefix = nnx.jit(read_prefix)(decoder, jnp.asarray(TEXT), jnp.asarray(LENGTH))
    assert isinstance(prefix, Prefix)
    assert prefix.key.shape == prefix.value.shape == (3, 2, 9, 2, 4)
