import tracemalloc

import jax.numpy as jnp
import numpy as np

from satjax.training.feature_norms import SMALLEST_SPREAD, feature_norms


def test_standardized_features_have_mean_0_and_spread_1():
    feature = np.random.default_rng(0).normal(3.0, 0.2, (50, 4)).astype(np.float32)
    feature[:, 2] = 1.0
    norms = feature_norms(feature, 2)
    assert norms["ability/mean"].shape == norms["ability/spread"].shape == (2, 2)
    norms = {path: value.reshape(-1) for path, value in norms.items()}
    standard = (feature - np.asarray(norms["ability/mean"])) / np.asarray(norms["ability/spread"])
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(standard.std(axis=0)[[0, 1, 3]], 1, atol=1e-4)
    assert norms["ability/spread"][2] == np.float32(SMALLEST_SPREAD)
    assert norms["ability/mean"].dtype == norms["ability/spread"].dtype == jnp.float32


def test_many_instructions_are_added_up_exactly():
    feature = (20.1 + 0.01 * np.random.default_rng(0).standard_normal((200_000, 2))).astype(np.float32)
    norms = feature_norms(feature, 1)
    np.testing.assert_allclose(norms["ability/mean"][0], feature.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(norms["ability/spread"][0], feature.std(axis=0, dtype=np.float64), rtol=1e-5)


def test_no_copy_of_all_features_is_made():
    feature = np.ones((20_000, 50), np.float32)
    feature_norms(feature[:2], 1)
    tracemalloc.start()
    feature_norms(feature, 1)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < feature.nbytes / 2
