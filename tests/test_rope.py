import jax.numpy as jnp
import numpy as np
import pytest

from satjax.models.rope import RopeConfig, rope_tables, rotate

CONFIGS = [
    RopeConfig(),
    RopeConfig(kind="linear", factor=4.0),
    RopeConfig(kind="llama3", factor=8.0, original_positions=32),
    RopeConfig(kind="longrope", original_positions=8, short_factors=(1.0, 1.2), long_factors=(2.0, 5.0)),
]


def rotated(config, x, positions, length):
    cos, sin = rope_tables(config, x.shape[-1], jnp.asarray(positions)[None], jnp.array([length]))
    return np.asarray(rotate(jnp.asarray(x, jnp.float32), cos, sin))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_scores_depend_on_the_distance_only(config):
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(1, 1, 1, 4)), rng.normal(size=(1, 1, 1, 4))
    scores = [float((rotated(config, q, [at], 64) * rotated(config, k, [at - 3], 64)).sum()) for at in (3, 10, 40)]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-4)
    np.testing.assert_allclose(np.linalg.norm(rotated(config, q, [17], 64)), np.linalg.norm(q), rtol=1e-5)


def test_linear_scaling_stretches_positions():
    x = np.random.default_rng(1).normal(size=(1, 1, 2, 8))
    np.testing.assert_allclose(
        rotated(RopeConfig(kind="linear", factor=4.0), x, [12], 16), rotated(RopeConfig(), x, [3], 16), atol=1e-5
    )


def test_longrope_takes_the_long_factors_row_by_row():
    config = CONFIGS[3]
    cos, _ = rope_tables(config, 4, jnp.array([[5], [5]]), jnp.array([8, 9]))
    np.testing.assert_allclose(np.asarray(cos)[0, 0], np.cos(5 * np.array([1.0, 0.01]) / [1.0, 1.2]), atol=1e-6)
    np.testing.assert_allclose(np.asarray(cos)[1, 0], np.cos(5 * np.array([1.0, 0.01]) / [2.0, 5.0]), atol=1e-6)
