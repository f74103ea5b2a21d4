import jax.numpy as jnp
import numpy as np

from satjax.feature_norms import SMALLEST_SPREAD, feature_norms


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
