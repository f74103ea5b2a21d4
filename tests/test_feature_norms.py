import jax.numpy as jnp
import numpy as np
import pytest

from satjax.feature_norms import feature_norms
from satjax.models.router_model import abstract_model, bind
from satjax.train import place_params, prepare, training_set
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    home = tmp_path_factory.mktemp("tiny")
    return prepare(tiny_config(home, router__ability_head__rank=2), home / "run")


def test_standardized_features_have_mean_0_and_spread_1(job):
    graphdef, _ = abstract_model(job.assembly.model)
    params, data = place_params(job), training_set(job)
    norms = feature_norms(graphdef, params, data, seed=1)
    chosen = np.random.default_rng((1, 3)).permutation(len(data.rows))[:256]
    rows = data.rows.take(chosen[:64], int(data.width.max()))
    arrays = jnp.asarray(rows.token), jnp.asarray(rows.length)
    features = np.asarray(bind(graphdef, params).features(*arrays))
    standard = (features - np.asarray(norms["ability/mean"])) / np.asarray(norms["ability/spread"])
    # 64 of the 256 that were measured
    assert np.abs(standard.mean(axis=0)).max() < 0.5
    assert standard.std(axis=0) == pytest.approx(np.ones(standard.shape[1]), abs=0.4)
    assert norms["ability/mean"].dtype == norms["ability/spread"].dtype == np.float32


def test_the_seed_chooses_the_sample(job):
    graphdef, _ = abstract_model(job.assembly.model)
    params, data = place_params(job), training_set(job)
    a, b, c = (np.asarray(feature_norms(graphdef, params, data, seed)["ability/mean"]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 0
