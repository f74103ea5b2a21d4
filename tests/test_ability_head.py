import jax.numpy as jnp
import numpy as np
from flax import nnx

from satjax.models.ability_head import AbilityHead, text_features

RNG = np.random.default_rng(0)


def test_features_are_the_mean_of_unit_states_of_the_row():
    states = RNG.normal(size=(2, 5, 8)).astype(np.float32)
    length = np.array([5, 2])
    found = np.asarray(text_features(jnp.asarray(states), jnp.asarray(length)))
    unit = states / np.sqrt((states**2).mean(axis=-1, keepdims=True))
    np.testing.assert_allclose(found[0], unit[0].mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(found[1], unit[1, :2].mean(axis=0), atol=1e-4)
    loud = states.copy()
    loud[:, 0] *= 1000
    np.testing.assert_allclose(text_features(jnp.asarray(loud), jnp.asarray(length)), found, atol=1e-4)


def test_by_hand():
    head = AbilityHead(4, 2, 3, nnx.Rngs(0))
    head.mean[...], head.spread[...] = jnp.full(4, 2.0), jnp.full(4, 0.5)
    feature = RNG.normal(size=(3, 4)).astype(np.float32)
    soft = RNG.normal(size=(3, 5, 2, 4)).astype(np.float32)
    found = np.asarray(head(jnp.asarray(feature), jnp.asarray(soft)))

    def affine(linear, x):
        return x @ np.asarray(linear.kernel[...]) + np.asarray(linear.bias[...])

    hidden = affine(head.read, (feature - 2.0) / 0.5)
    demand = affine(head.demand, 0.5 * hidden * (1 + np.tanh((2 / np.pi) ** 0.5 * (hidden + 0.044715 * hidden**3))))
    ability = affine(head.ability, soft.mean(axis=2))
    for b in range(3):
        for m in range(5):
            expected = demand[b, :2] @ ability[b, m, :2] / 2**0.5 + demand[b, 2] + ability[b, m, 2]
            np.testing.assert_allclose(found[b, m], expected, atol=1e-4)
