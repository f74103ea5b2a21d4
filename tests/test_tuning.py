"""Choosing on the validation fold: the likeliest setting, calibrated, for known and for new candidates."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from satjax.errors import SatjaxError
from satjax.evaluation.baselines import Fold
from satjax.evaluation.baselines.tuning import choose, fit_seen, fit_unseen
from satjax.metrics import log_loss
from tests.planted import error, planted, rows


def truth_or_not(case):
    """Two settings: noise, and the truth made over-confident."""
    by_row = {row.tobytes(): truth for row, truth in zip(case.new.embedding_BE, case.truth_BM, strict=True)}

    def true(instructions):
        return expit(3 * logit(np.array([by_row[row.tobytes()] for row in instructions.embedding_BE])))

    yield {"noise": True}, lambda instructions: np.random.default_rng(0).random((len(instructions.tasks), 5))
    yield {"noise": False}, true
    yield {"noise": "again"}, true


def test_the_likeliest_is_chosen_and_calibrated():
    case = planted("clusters", sizes=(20, 10, 10, 2000))
    outcome = (np.random.default_rng(1).random(case.truth_BM.shape) < case.truth_BM).astype(np.float32)
    chosen = choose(truth_or_not(case), Fold(case.new, outcome))
    assert chosen.chosen == {"noise": False}
    assert error(chosen(case.new), case.truth_BM) < 0.02
    assert chosen.val_log_loss == pytest.approx(log_loss(chosen(case.new), outcome), abs=1e-5)


def test_no_setting_is_an_error():
    with pytest.raises(SatjaxError, match="no setting"):
        choose(iter(()), planted("clusters", sizes=(20, 10, 10, 5)).data.val)


def remember(data, scored, seed):
    """Notes what it is given; predicts by column of `scored`."""
    remember.given = (data, scored, seed)
    value = np.linspace(0.1, 0.9, scored.num_candidates)
    yield {}, lambda instructions: np.tile(value, (len(instructions.tasks), 1))


def test_known_candidates_are_scored_on_the_training_fold():
    case = planted("clusters", sizes=(20, 10, 10, 5))
    assert fit_seen(remember, case.data, 7)(case.new).shape == (5, 5)
    assert remember.given == (case.data, case.data.train, 7)


def test_new_candidates_are_scored_on_the_aptitude_items_beside_the_known():
    case = planted("clusters", sizes=(20, 50, 10, 5))
    probability = fit_unseen(remember, case.data, case.anchor, 7)(case.new)
    assert probability.shape == (5, 2)
    data, scored, seed = remember.given
    assert (data, seed) == (case.data, 7)
    np.testing.assert_array_equal(scored.outcome_BM, np.hstack([data.aptitude.outcome_BM, case.anchor.outcome_BM]))
    assert scored.instructions is data.aptitude.instructions


def test_new_candidates_must_have_taken_the_same_test():
    case = planted("clusters", sizes=(20, 10, 10, 5))
    turned = rows(case.anchor, np.arange(10)[::-1])
    with pytest.raises(SatjaxError, match="not on the aptitude items"):
        fit_unseen(remember, case.data, turned, 0)


def test_outcomes_of_new_candidates_choose_nothing():
    case = planted("clusters", sizes=(200, 100, 60, 50))
    other = replace(case, anchor=Fold(case.anchor.instructions, 1 - case.anchor.outcome_BM))
    fits = [fit_unseen(remember, each.data, each.anchor, 0) for each in (case, other)]
    np.testing.assert_array_equal(fits[0](case.new), fits[1](case.new))
