import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from satjax.models.profile_encoder import AbilityTable, TaskSetConnector, TextConnector

T, E, M = 7, 12, 3


def case(from_average=False):
    rng = np.random.default_rng(0)
    connector = TaskSetConnector(E, 16, 20, 2, nnx.Rngs(0), from_average=from_average)
    embedding = rng.normal(size=(T, E))
    accuracy, certainty = rng.normal(size=(M, T)), rng.uniform(0.2, 1, size=(M, T))
    return connector, *(jnp.asarray(x, jnp.float32) for x in (embedding, accuracy, certainty))


def affine(linear, x):
    """Its own kernel and bias, by hand."""
    return x @ np.asarray(linear.kernel[...]) + (0 if linear.bias is None else np.asarray(linear.bias[...]))


def gelu(x):
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("from_average", [False, True])
def test_the_set_of_tasks_by_hand(from_average):
    connector, embedding, accuracy, certainty = case(from_average)
    for linear in (connector.task, connector.task_gain, connector.project):
        linear.bias[...] = jnp.linspace(-1, 1, len(linear.bias[...]))
    e, a, c = np.asarray(embedding) * E**0.5, np.asarray(accuracy * certainty), np.asarray(certainty)

    def hidden(a):
        active = gelu(affine(connector.task, e) + affine(connector.number, np.stack([a, c], axis=-1)))
        return active + affine(connector.task_gain, e) * a[..., None]

    weight = scipy.special.softmax(affine(connector.query, e), axis=0)
    from_there = hidden(a) - hidden(0 * a) if from_average else hidden(a)
    total = a.sum(axis=1, keepdims=True) / c.sum(axis=1, keepdims=True)
    pooled = np.einsum("tk,mtw->mkw", weight, from_there)
    expected = affine(connector.project, pooled) + affine(connector.strength, total).reshape(M, 2, 20)
    np.testing.assert_allclose(connector(embedding, accuracy, certainty), expected, atol=1e-4)


def test_the_order_of_tasks_does_not_matter():
    connector, embedding, accuracy, certainty = case()
    order = np.random.default_rng(1).permutation(T)
    np.testing.assert_allclose(
        connector(embedding, accuracy, certainty),
        connector(embedding[order], accuracy[:, order], certainty[:, order]),
        atol=1e-5,
    )


def test_soft_tokens_of_one_candidate_depend_on_its_profile_only():
    connector, embedding, accuracy, certainty = case()
    before = connector(embedding, accuracy, certainty)
    after = connector(embedding, accuracy.at[1].add(1.0), certainty)
    assert before.shape == (M, 2, 20)
    np.testing.assert_array_equal(before[jnp.array([0, 2])], after[jnp.array([0, 2])])
    assert np.abs(before[1] - after[1]).max() > 1e-3


def test_the_average_candidate_has_the_bias_for_a_token_however_much_is_known_of_it():
    connector, embedding, accuracy, certainty = case(from_average=True)
    connector.project.bias[...] = jnp.arange(20.0)
    tokens = connector(embedding, jnp.zeros_like(accuracy), certainty)
    np.testing.assert_allclose(tokens, np.broadcast_to(np.arange(20.0), (M, 2, 20)), atol=1e-6)


def test_an_unobserved_task_says_nothing():
    connector, embedding, accuracy, certainty = case()
    certainty = certainty.at[:, 3].set(0.0)
    np.testing.assert_array_equal(
        connector(embedding, accuracy, certainty), connector(embedding, accuracy.at[:, 3].set(9.0), certainty)
    )
    fewer = np.delete(np.arange(T), 3)
    np.testing.assert_allclose(
        connector(embedding, accuracy, certainty),
        connector(embedding[fewer], accuracy[:, fewer], certainty[:, fewer]),
        atol=1e-5,
    )


def test_a_table_holds_an_ability_of_each_candidate():
    table = AbilityTable(4, 3, nnx.Rngs(0))
    np.testing.assert_array_equal(table()[:, 0], table.ability[...])
    assert table().shape == (4, 1, 3)
    assert 0.03 < float(jnp.std(AbilityTable(200, 33, nnx.Rngs(0)).ability[...])) < 0.3


@pytest.mark.parametrize("soft_tokens", [1, 3])
def test_the_text_connector_is_one_affine_map(soft_tokens):
    connector = TextConnector(E, 20, soft_tokens, nnx.Rngs(0))
    a, b = (jnp.asarray(np.random.default_rng(i).normal(size=(1, E)), jnp.float32) for i in (0, 1))
    expected = affine(connector.project, np.asarray(a) * E**0.5).reshape(1, soft_tokens, 20)
    np.testing.assert_allclose(connector(a), expected, atol=1e-5)
    np.testing.assert_allclose(connector((a + b) / 2), (connector(a) + connector(b)) / 2, atol=1e-5)
