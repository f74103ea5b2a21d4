"""The objectives against numbers worked by hand, with unobserved outcomes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from satjax.config import LossConfig
from satjax.training.losses import OBJECTIVES, over_candidates, over_instructions, pointwise, total_loss

NAN = math.nan


def contrast(score_AP: jax.Array, outcome_AP: jax.Array) -> jax.Array:
    """`over_instructions` of one group whose candidates are the rows."""
    return over_instructions(score_AP.T[None], outcome_AP.T[None])


def test_one_positive_against_its_negatives_is_cross_entropy():
    score = jnp.array([[2.0, 1.0, 0.0]])
    outcome = jnp.array([[1.0, 0.0, 0.0]])
    expected = -math.log(math.exp(2) / (math.exp(2) + math.exp(1) + 1))
    assert float(contrast(score, outcome)) == pytest.approx(expected, rel=1e-6)


def test_positives_do_not_compete_and_unobserved_entries_do_not_count():
    score = jnp.array([[2.0, 1.0, 0.0, 9.0]])
    outcome = jnp.array([[1.0, 1.0, 0.0, NAN]])
    first = math.log(1 + math.exp(0 - 2))
    second = math.log(1 + math.exp(0 - 1))
    assert float(contrast(score, outcome)) == pytest.approx((first + second) / 2, rel=1e-6)


def test_soft_outcomes_weigh_a_pair_by_their_difference():
    score = jnp.array([[1.0, 0.5]])
    outcome = jnp.array([[0.9, 0.5]])
    expected = math.log(1 + 0.4 * math.exp(0.5 - 1.0))
    assert float(contrast(score, outcome)) == pytest.approx(expected, rel=1e-5)


def test_rows_without_a_contrast_add_nothing():
    score = jnp.array([[3.0, -1.0], [0.0, 0.0]])
    outcome = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    assert float(contrast(score, outcome)) == pytest.approx(math.log(1 + math.exp(-4)), rel=1e-5)
    assert float(contrast(score, jnp.ones((2, 2)))) == 0.0


def test_rows_and_columns():
    score = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    outcome = jnp.array([[1.0, 0.0], [NAN, 1.0]])
    assert float(over_candidates(score[None], outcome[None])) == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)
    assert float(over_instructions(score[None], outcome[None])) == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


def test_candidates_are_compared_pair_by_pair():
    score = jnp.array([[2.0, 1.0, 0.0, 9.0]])
    outcome = jnp.array([[1.0, 0.0, 0.5, NAN]])
    pairs = [(1.0, 2.0 - 1.0), (0.5, 2.0 - 0.0), (0.5, 0.0 - 1.0)]
    expected = sum(weight * math.log(1 + math.exp(-gap)) for weight, gap in pairs) / 2
    assert float(over_candidates(score[None], outcome[None])) == pytest.approx(expected, rel=1e-6)
    assert float(over_candidates(score[None], jnp.ones((1, 1, 4)))) == 0.0


def test_the_pairwise_objective_asks_for_the_scores_that_are_the_log_odds():
    """Its gradient is zero in expectation at `s = logit p`, as that of the pointwise one is."""
    p = jnp.array([0.8, 0.3])
    score = jnp.log(p / (1 - p))[None]
    total = jnp.zeros((1, 2))
    for first in (0.0, 1.0):
        for second in (0.0, 1.0):
            chance = (p[0] if first else 1 - p[0]) * (p[1] if second else 1 - p[1])
            outcome = jnp.array([[first, second]])
            total += chance * jax.grad(over_candidates)(score[None], outcome[None])[0]
    np.testing.assert_allclose(total, 0, atol=1e-6)


def test_pointwise_is_binary_cross_entropy_over_the_observed():
    score = jnp.array([[0.0, 1.0], [2.0, 5.0]])
    outcome = jnp.array([[1.0, 0.25], [0.0, NAN]])
    p = 1 / (1 + math.exp(-1))
    expected = (math.log(2) - 0.25 * math.log(p) - 0.75 * math.log(1 - p) + math.log(1 + math.exp(2))) / 3
    assert float(pointwise(score[None], outcome[None])) == pytest.approx(expected, rel=1e-6)


def test_gradient_is_finite_and_zero_where_unobserved():
    score = jnp.array(np.random.default_rng(0).normal(size=(1, 4, 5)) * 50, jnp.float32)
    outcome = (
        jnp.array(np.random.default_rng(1).random((1, 4, 5)) > 0.5, jnp.float32).at[0, 1, 2].set(NAN).at[0, 3].set(NAN)
    )
    config = LossConfig(over_instructions=1.0, over_candidates=1.0, pointwise=1.0)
    gradient = jax.grad(lambda s: total_loss(s, outcome, config)[0])(score)
    assert np.isfinite(gradient).all()
    assert gradient[0, 1, 2] == 0
    assert not gradient[0, 3].any()
    assert np.abs(gradient[0, 0]).max() > 0


def test_nothing_observed_is_zero_not_nan():
    loss, parts = total_loss(jnp.ones((2, 3, 4)), jnp.full((2, 3, 4), NAN), LossConfig())
    assert float(loss) == 0.0
    assert set(parts) == {"over_instructions", "over_candidates", "pointwise"}


def test_what_weighs_nothing_is_not_differentiated(monkeypatch):
    """Of many candidates the gradient of a comparison in pairs is most of a step."""
    broken = {**OBJECTIVES, "over_instructions": lambda score, outcome: jnp.sqrt(jnp.sum(0 * score))}
    monkeypatch.setattr("satjax.training.losses.OBJECTIVES", broken)
    score, outcome = jnp.ones((1, 3, 2)), jnp.ones((1, 3, 2))
    weights = LossConfig(over_instructions=0.0, over_candidates=0.0, pointwise=1.0)
    gradient = jax.grad(lambda score: total_loss(score, outcome, weights)[0])(score)
    np.testing.assert_allclose(gradient, (jax.nn.sigmoid(score) - outcome) / outcome.size, rtol=1e-6)


def a_batch(shape: tuple[int, int, int]) -> tuple[jax.Array, jax.Array]:
    """Scores and soft outcomes, some unobserved, and one instruction of which nothing is known."""
    rng = np.random.default_rng(3)
    outcome = np.where(rng.random(shape) < 0.2, np.nan, rng.integers(0, 5, shape) / 4)
    outcome[0, 1] = np.nan
    return jnp.array(rng.normal(size=shape), jnp.float32), jnp.array(outcome, jnp.float32)


@pytest.mark.parametrize("pairs", [2, 2 * 36, 4 * 49, 300])
def test_in_parts_the_loss_and_its_gradient_are_the_same(monkeypatch, pairs):
    """One row at a time, some with a rest, of one group and of several."""
    score, outcome = a_batch((3, 7, 6))
    value_and_grad = jax.value_and_grad(
        functools.partial(total_loss, config=LossConfig(over_instructions=0.5, over_candidates=0.25)), has_aux=True
    )
    (whole, parts), gradient = value_and_grad(score, outcome)
    monkeypatch.setattr("satjax.training.losses.PAIRS_AT_ONCE", pairs)
    (value, parts_of_it), other = value_and_grad(score, outcome)
    np.testing.assert_allclose(value, whole, rtol=1e-6)
    for name, part in parts.items():
        np.testing.assert_allclose(parts_of_it[name], part, rtol=1e-6)
    np.testing.assert_allclose(other, gradient, rtol=1e-5, atol=1e-8)


def test_what_the_pairs_of_thousands_of_candidates_take_does_not_grow_with_the_batch():
    shape = jax.ShapeDtypeStruct((1, 128, 2000), jnp.float32)
    loss = functools.partial(total_loss, config=LossConfig(over_candidates=0.25))
    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(shape, shape).compile()
    one_instruction = 4 * 2000**2
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * one_instruction + 2**24
