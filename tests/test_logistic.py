"""Logistic regression: linear logits are found, soft outcomes count by their share."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from satjax.evaluation.baselines import BaselineData, Fold, Instructions
from satjax.evaluation.baselines.logistic import _fit, logistic
from satjax.evaluation.baselines.tuning import fit_seen, fit_unseen
from tests.planted import NAN, error, planted


def test_linear_logits_are_found():
    case = planted("low_rank")
    assert error(fit_seen(logistic, case.data, 0)(case.new), case.truth_BM) < 0.05
    assert error(fit_unseen(logistic, case.data, case.anchor, 0)(case.new), case.truth_BN) < 0.12


def test_a_weak_penalty_can_be_chosen():
    """Outcomes that the embedding tells for certain ask for weights that a strong penalty does not allow."""
    data = planted("low_rank").data
    direction_E = np.random.default_rng(0).normal(size=12)

    def told(fold):
        handled_B = (fold.instructions.embedding_BE @ direction_E > 0).astype(np.float32)
        return Fold(fold.instructions, np.tile(handled_B[:, None], (1, 5)))

    certain = BaselineData(told(data.train), told(data.val), told(data.aptitude))
    assert fit_seen(logistic, certain, 0).chosen["inverse_penalty"] > 1


def test_hard_outcomes_as_sklearn_has_them_and_soft_ones_as_repeated():
    data = planted("low_rank").data
    embedding_BE, outcome_B = data.train.instructions.embedding_BE, data.train.outcome_BM[:, 0]
    seen = ~np.isnan(outcome_B)
    reference = LogisticRegression(C=3.0, max_iter=1000).fit(embedding_BE[seen], outcome_B[seen] > 0.5)
    weight_E, offset = _fit(embedding_BE, outcome_B, 0.5, 3.0)
    np.testing.assert_allclose(weight_E, reference.coef_[0], atol=2e-3)
    np.testing.assert_allclose(offset, reference.intercept_[0], atol=2e-3)

    few, soft = embedding_BE[:40], np.tile([0.25, 0.5, 1.0, 0.0], 10).astype(np.float32)
    repeated = np.repeat(few, 4, axis=0)
    classes = np.concatenate([np.repeat([1.0, 0.0], [round(4 * s), 4 - round(4 * s)]) for s in soft]).astype(np.float32)
    once, four_times = _fit(few, soft, 0.5, 4.0), _fit(repeated, classes, 0.5, 1.0)
    np.testing.assert_allclose(once[0], four_times[0], atol=5e-3)


def test_a_candidate_of_one_class_or_without_outcomes_has_a_constant():
    case = planted("low_rank", sizes=(100, 50, 50, 20))
    outcome_BM = case.data.train.outcome_BM.copy()
    outcome_BM[:, 0], outcome_BM[:, 1] = 1.0, NAN
    fold = Fold(Instructions(case.data.train.instructions.embedding_BE, case.data.train.instructions.tasks), outcome_BM)
    _, function = next(logistic(case.data, fold, 0))
    probability = function(case.new)
    assert np.ptp(probability[:, :2], axis=0).max() == 0
    assert 0.95 < probability[0, 0] < 1
    np.testing.assert_allclose(probability[:, 1], np.nanmean(outcome_BM), rtol=1e-5)  # as candidate_means has it
    outcome_BM[:, 2:] = np.where(np.isnan(outcome_BM[:, 2:]), NAN, 1)
    _, function = next(logistic(case.data, Fold(fold.instructions, outcome_BM), 0))
    assert 0.999 < function(case.new)[0, 1] < 1
