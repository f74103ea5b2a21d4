"""The calibration of scores that nothing was fitted to."""

import numpy as np
import pytest

from satjax.calibration import fit_calibration
from satjax.errors import SatjaxError
from satjax.evaluation.baselines.zero_shot import fit_order

RNG = np.random.default_rng(0)
SCORE = RNG.normal(size=(200, 3)).astype(np.float32) * 0.1 + 5
OUTCOME = (RNG.random((200, 3)) < 1 / (1 + np.exp(-20 * (SCORE - 5)))).astype(np.float32)


def test_scores_that_tell_are_calibrated_as_others_are():
    assert fit_order(SCORE, OUTCOME) == fit_calibration(SCORE, OUTCOME)


def test_scores_that_mislead_keep_their_order_and_give_the_mean():
    probability = fit_order(-SCORE, OUTCOME).probability(-SCORE)
    assert (np.diff(probability.ravel()[np.argsort(-SCORE.ravel())]) >= 0).all()
    assert len(np.unique(probability)) > 300
    assert probability.mean() == pytest.approx(OUTCOME.mean(), abs=1e-3)
    assert probability.std() < 0.01


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_outcomes_of_one_kind(outcome):
    probability = fit_order(SCORE, np.full_like(OUTCOME, outcome)).probability(SCORE)
    np.testing.assert_allclose(probability, outcome, atol=2e-3)


@pytest.mark.parametrize("mean", [0.3, 0.7])
@pytest.mark.parametrize("rounding", [0.0, 1e-8])
def test_scores_that_are_all_the_same_make_nothing_certain(mean, rounding):
    """A slope for their standard deviation would be that of their rounding."""
    score = (0.8 + rounding * RNG.normal(size=(200, 3))).astype(np.float32)
    outcome = (np.arange(600).reshape(200, 3) % 10 < 10 * mean).astype(np.float32)
    held = np.array([[0.1, 0.8, 0.99]], np.float32)
    probability = fit_order(score, outcome).probability(held)
    np.testing.assert_allclose(probability, outcome.mean(), atol=3e-3)
    assert (np.diff(probability) > 0).all()


def test_pairs_without_score_or_outcome_do_not_count():
    score, outcome = SCORE.copy(), OUTCOME.copy()
    score[:50, 0], outcome[50:90, 1] = np.nan, np.nan
    wrong = np.where(np.isnan(score), 1 - outcome, outcome)
    assert fit_order(score, outcome) == fit_order(score, wrong)
    with pytest.raises(SatjaxError, match="nothing to calibrate on"):
        fit_order(np.full_like(score, np.nan), outcome)
