import jax.numpy as jnp
import numpy as np
import pytest

from satjax.models.summary import summarize


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_mean_and_last_of_unit_states_of_the_row(rng):
    states = rng.normal(size=(2, 5, 8)).astype(np.float32)
    length = np.array([5, 2])
    mean, last = map(np.asarray, summarize(jnp.asarray(states), jnp.asarray(length)))
    unit = states / np.sqrt((states**2).mean(axis=-1, keepdims=True))
    np.testing.assert_allclose(mean, [unit[0].mean(axis=0), unit[1, :2].mean(axis=0)], atol=1e-4)
    np.testing.assert_allclose(last, [unit[0, 4], unit[1, 1]], atol=1e-4)


def test_how_loud_a_token_is_does_not_matter(rng):
    states = rng.normal(size=(2, 5, 8)).astype(np.float32)
    loud = states.copy()
    loud[:, 0] *= 1000
    length = jnp.array([5, 3])
    for found, expected in zip(
        summarize(jnp.asarray(loud), length), summarize(jnp.asarray(states), length), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)
