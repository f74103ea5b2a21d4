"""Means by hand, and subjects that are found."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from satjax.evaluation.baselines import Instructions
from satjax.evaluation.baselines.means import (
    candidate_mean,
    candidate_means,
    group_means,
    subject_means,
    weighted_means,
)
from satjax.evaluation.baselines.tuning import fit_seen, fit_unseen
from tests.planted import NAN, error, planted

OUTCOME = np.array([[1, 0, NAN], [0, NAN, NAN], [1, 1, NAN], [NAN, 1, NAN]], np.float32)


def test_candidate_mean_by_hand():
    np.testing.assert_allclose(candidate_mean(OUTCOME), [2 / 3, 2 / 3, 4 / 6], rtol=1e-6)
    np.testing.assert_array_equal(candidate_mean(np.full((2, 2), NAN)), 0.5)


def test_weighted_means_by_hand():
    weight = np.array([[1, 1, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0]], float)
    mean = 2 / 3
    expected = [
        [(1 + 3 * mean) / 5, (0 + 3 * mean) / 4, mean],
        [mean, (2 + 3 * mean) / 5, mean],
        [mean, mean, mean],
    ]
    np.testing.assert_allclose(weighted_means(weight, OUTCOME, 3.0), expected, rtol=1e-6)
    np.testing.assert_allclose(weighted_means(csr_array(weight), OUTCOME, 3.0), expected, rtol=1e-6)


def test_group_means_are_weighted_means_of_members():
    group = np.array([0, 2, 2, 0])
    members = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]], float)
    np.testing.assert_allclose(group_means(group, 3, OUTCOME, 1.0), weighted_means(members, OUTCOME, 1.0))


def test_candidate_means_ignore_the_instruction():
    case = planted("clusters")
    probability = fit_seen(candidate_means, case.data, 0)(case.new)
    assert np.ptp(probability, axis=0).max() == 0
    order = np.argsort(candidate_mean(case.data.train.outcome_BM))
    assert (np.diff(probability[0, order]) >= 0).all()


def test_subjects_are_found_from_few_and_from_many_outcomes():
    case = planted("subjects")
    assert error(fit_seen(candidate_means, case.data, 0)(case.new), case.truth_BM) > 0.2
    assert error(fit_seen(subject_means, case.data, 0)(case.new), case.truth_BM) < 0.04
    assert error(fit_unseen(subject_means, case.data, case.anchor, 0)(case.new), case.truth_BN) < 0.06


def test_an_unknown_subject_has_the_candidates_mean():
    case = planted("subjects")
    _, function = next(subject_means(case.data, case.data.train, 0))
    lone = Instructions(case.new.embedding_BE[:1], ("task of another world",))
    assert function(lone)[0] == pytest.approx(candidate_mean(case.data.train.outcome_BM))
