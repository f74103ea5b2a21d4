import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from satjax.config import AbilityHeadConfig
from satjax.models.ability_head import AbilityHead, read_summary
from satjax.models.summary import Summary


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_layers_that_are_read_count_from_one(rng):
    mean, last = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
    config = AbilityHeadConfig(rank=1, mean_layers=(3, 1), last_layers=(2,))
    found = read_summary(Summary(jnp.asarray(mean), jnp.asarray(last)), config)
    np.testing.assert_array_equal(found, np.concatenate([mean[2], mean[0], last[1]], axis=1))


def test_by_hand(rng):
    head = AbilityHead(AbilityHeadConfig(rank=2, hidden=3, mean_layers=(1,), last_layers=(1,)), 4, nnx.Rngs(0))
    head.mean[...], head.spread[...] = jnp.full((2, 4), 2.0), jnp.full((2, 4), 0.5)
    feature = rng.normal(size=(3, 8)).astype(np.float32)
    soft = rng.normal(size=(3, 5, 2, 4)).astype(np.float32)

    def affine(linear, x, state=...):
        return x @ np.asarray(linear.kernel[state]) + np.asarray(linear.bias[state])

    np.testing.assert_array_equal(head(jnp.asarray(feature), jnp.asarray(soft)), np.zeros((3, 5)))
    head.ability.kernel[...] = jnp.asarray(rng.normal(size=(4, 3)).astype(np.float32))
    ability = affine(head.ability, soft.mean(axis=2))
    head.demand.kernel[...] = jnp.asarray(rng.normal(size=(2, 3, 3)).astype(np.float32))
    found = np.asarray(head(jnp.asarray(feature), jnp.asarray(soft)))
    demands = []
    for state in range(2):
        hidden = affine(head.read, (feature[:, 4 * state : 4 * state + 4] - 2.0) / 0.5, state)
        active = 0.5 * hidden * (1 + np.tanh((2 / np.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
        demands.append(affine(head.demand, active, state))
    demand = np.mean(demands, axis=0)
    for b in range(3):
        for m in range(5):
            expected = demand[b, :2] @ ability[b, m, :2] / 2**0.5 + demand[b, 2] + ability[b, m, 2]
            np.testing.assert_allclose(found[b, m], expected, atol=1e-4)


def test_candidates_that_all_instructions_share(rng):
    head = AbilityHead(AbilityHeadConfig(rank=2, hidden=3, mean_layers=(1,)), 4, nnx.Rngs(0), measured=True)
    head.demand.kernel[...] = jnp.asarray(rng.normal(size=(1, 3, 3)).astype(np.float32))
    feature, ability = (jnp.asarray(rng.normal(size=s).astype(np.float32)) for s in ((6, 4), (1, 5, 1, 3)))
    found = head(feature, ability)
    assert found.shape == (6, 5)
    np.testing.assert_allclose(found, head(feature, jnp.broadcast_to(ability, (6, 5, 1, 3))), atol=1e-5)


def test_a_hidden_feature_is_as_the_average_instruction_has_it(rng):
    head = AbilityHead(AbilityHeadConfig(rank=2, hidden=3, mean_layers=(1, 2)), 4, nnx.Rngs(0), measured=True)
    head.mean[...], head.spread[...] = jnp.full((2, 4), 2.0), jnp.full((2, 4), 0.5)
    head.demand.kernel[...] = jnp.asarray(rng.normal(size=(2, 3, 3)).astype(np.float32))
    feature = rng.normal(size=(6, 8)).astype(np.float32)
    kept = rng.integers(0, 2, (6, 8)).astype(np.float32)
    found = head.demands(jnp.asarray(feature), jnp.asarray(kept))
    np.testing.assert_allclose(found, head.demands(jnp.asarray(np.where(kept, feature, 2.0))), atol=1e-5)
    ability = jnp.asarray(rng.normal(size=(1, 5, 1, 3)).astype(np.float32))
    scores = head(jnp.asarray(feature), ability, jnp.asarray(kept))
    np.testing.assert_allclose(scores, head(jnp.asarray(np.where(kept, feature, 2.0)), ability), atol=1e-5)


def test_what_is_measured_is_not_trained(rng):
    head = AbilityHead(AbilityHeadConfig(rank=2, hidden=3, mean_layers=(1,)), 4, nnx.Rngs(0), measured=True)
    feature = jnp.asarray(rng.normal(size=(6, 4)).astype(np.float32))
    gradient = nnx.grad(lambda head: head.demands(feature).sum())(head)
    assert np.abs(gradient["read"]["kernel"][...]).max() > 0
    for name in ("mean", "spread"):
        np.testing.assert_array_equal(gradient[name][...], 0)
