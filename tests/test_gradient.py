"""Fitting by gradients: the optimum of a convex loss, stopped on the validation fold, unobserved pairs left out."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression

from satjax.evaluation.baselines import Fold
from satjax.evaluation.baselines.gradient import Training, _advance, _left_out, fit_logits
from satjax.metrics import log_loss
from tests.planted import NAN, planted, rows, sigmoid
from tests.xla import compilations

RATE = 1e-3
KEY = jax.random.key(0)


def linear(params, embedding_BE):
    return embedding_BE @ params["weight"] * 100.0 + params["bias"]


def zeros(data):
    width = data.train.instructions.embedding_BE.shape[1]
    return {"weight": jnp.zeros((width, data.num_candidates)), "bias": jnp.zeros(data.num_candidates)}


def test_it_reaches_the_optimum_where_training_tells_nothing_else():
    data = planted("low_rank", sizes=(800, 20, 20, 20)).data
    params, step = fit_logits(linear, zeros(data), data.train, data.train, Training(0.0, RATE), KEY)
    assert step > 0
    embedding_BE, outcome_BM = data.train.instructions.embedding_BE, data.train.outcome_BM
    ours = log_loss(sigmoid(np.asarray(linear(params, embedding_BE))), outcome_BM)
    best = []
    for outcome_B in outcome_BM.T:
        seen = ~np.isnan(outcome_B)
        fit = LogisticRegression(C=1e4, max_iter=1000).fit(embedding_BE[seen], outcome_B[seen])
        best.append(fit.predict_proba(embedding_BE)[:, 1])
    assert ours < log_loss(np.stack(best, axis=1), outcome_BM) + 0.01


def test_unobserved_pairs_have_no_say():
    data = planted("low_rank", sizes=(100, 60, 20, 20), unobserved=0.0).data
    outcome = data.train.outcome_BM.copy()
    outcome[50:] = NAN
    half = Fold(data.train.instructions, outcome)
    rest = type(half.instructions)(half.instructions.embedding_BE[:50], half.instructions.tasks[:50])
    alone = Fold(rest, outcome[:50])
    masked, cut = (
        fit_logits(linear, zeros(data), fold, data.val, Training(0.1, RATE), KEY)[0] for fold in (half, alone)
    )
    np.testing.assert_allclose(masked["weight"], cut["weight"], atol=1e-4)


def test_what_is_best_on_the_validation_fold_is_kept():
    data = planted("low_rank", sizes=(100, 60, 20, 20)).data
    wrong = Fold(data.train.instructions, 1 - data.train.outcome_BM)
    start = zeros(data)
    params, step = fit_logits(linear, start, data.train, wrong, Training(0.0, RATE), KEY)
    assert step == 0
    np.testing.assert_array_equal(params["weight"], start["weight"])


def test_decay_is_on_matrices_only():
    data = planted("low_rank", sizes=(400, 200, 20, 20)).data
    params, _ = fit_logits(linear, zeros(data), data.train, data.train, Training(1000.0, RATE), KEY)
    assert np.abs(params["weight"]).max() < 0.01
    np.testing.assert_allclose(
        sigmoid(np.asarray(params["bias"])), np.nanmean(data.train.outcome_BM, axis=0), atol=0.05
    )


def test_with_entries_left_out_the_order_of_rows_has_no_say():
    data = planted("low_rank", sizes=(100, 60, 20, 20)).data
    turned = rows(data.train, np.random.default_rng(0).permutation(100))
    training = Training(0.0, RATE, 0.5)
    first, again = (fit_logits(linear, zeros(data), fold, data.val, training, KEY)[0] for fold in (data.train, turned))
    np.testing.assert_array_equal(first["weight"], again["weight"])
    other, _ = fit_logits(linear, zeros(data), data.train, data.val, training, jax.random.key(1))
    assert np.abs(first["weight"] - other["weight"]).max() > 1e-3


def test_leaving_entries_out_keeps_the_mean():
    embedding_BE = jnp.ones((500, 40))
    left = _left_out(embedding_BE, 0.75, KEY)
    assert set(np.unique(left)) == {0.0, 4.0}
    np.testing.assert_allclose(left.mean(), 1.0, atol=0.05)
    assert (np.asarray(left[0]) != np.asarray(left[1])).any()
    np.testing.assert_array_equal(_left_out(embedding_BE, 0.0, KEY), embedding_BE)


def test_settings_of_a_grid_share_their_programs():
    data = planted("low_rank", sizes=(100, 60, 20, 20)).data
    _advance.clear_cache()
    with compilations() as compiled:
        for decay, rate, dropout in ((0.0, 1e-3, 0.0), (1.0, 1e-2, 0.0), (0.0, 1e-3, 0.5), (1.0, 3e-3, 0.7)):
            training = Training(decay, rate, dropout)
            fit_logits(linear, zeros(data), data.train, data.train, training, KEY)
    assert compiled.count("_advance") == 2
