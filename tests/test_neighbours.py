"""Neighbours and clusters by hand, and clusters that are found."""

import numpy as np

from satjax.evaluation.baselines import BaselineData, Fold, Instructions
from satjax.evaluation.baselines import neighbours as module
from satjax.evaluation.baselines.means import candidate_mean
from satjax.evaluation.baselines.neighbours import clusters, neighbours
from satjax.evaluation.baselines.tuning import fit_seen, fit_unseen
from tests.planted import NAN, error, planted, unit


def test_neighbours_by_hand():
    case = planted("clusters", sizes=(120, 30, 30, 8), unobserved=0.3)
    embedding_BE, outcome_BM = case.data.train.instructions.embedding_BE, case.data.train.outcome_BM
    mean_M = candidate_mean(outcome_BM)
    settings = list(neighbours(case.data, case.data.train, 0))
    assert {setting["neighbours"] for setting, _ in settings} == {12, 25, 50, 100, 120}
    for setting, function in settings:
        smoothing = setting["smoothing"]
        for row, probability in zip(case.new.embedding_BE, function(case.new), strict=True):
            cosine = embedding_BE @ row
            near = np.argsort(-cosine)[: setting["neighbours"]]
            weight = np.exp((cosine[near] - cosine.max()) / setting["temperature"])
            total = np.nansum(weight[:, None] * outcome_BM[near], axis=0)
            count = (weight[:, None] * ~np.isnan(outcome_BM[near])).sum(axis=0)
            np.testing.assert_allclose(probability, (total + smoothing * mean_M) / (count + smoothing), atol=1e-5)


def test_clusters_are_found_by_both():
    case = planted("clusters")
    for family in (neighbours, clusters):
        assert error(fit_seen(family, case.data, 0)(case.new), case.truth_BM) < 0.05
        assert error(fit_unseen(family, case.data, case.anchor, 0)(case.new), case.truth_BN) < 0.1


def test_clusters_are_those_of_the_training_instructions_whatever_their_outcomes():
    case = planted("clusters", sizes=(200, 30, 60, 20))
    unlabelled = Fold(case.data.train.instructions, np.full_like(case.data.train.outcome_BM, NAN))
    blind = BaselineData(unlabelled, case.data.val, case.data.aptitude)
    for (_, with_outcomes), (_, without) in zip(
        clusters(case.data, case.data.aptitude, 0), clusters(blind, blind.aptitude, 0), strict=True
    ):
        np.testing.assert_array_equal(with_outcomes(case.new), without(case.new))


def test_a_cluster_without_outcomes_has_the_candidates_mean(monkeypatch):
    """Of two clusters the aptitude items know one."""
    monkeypatch.setattr(module, "CLUSTERS", (2,))
    here, there = unit(np.array([[1.0, 0.0]])), unit(np.array([[0.0, 1.0]]))
    both = Instructions(np.repeat(np.concatenate([here, there]), 8, axis=0), ("t",) * 16)
    known = Instructions(np.repeat(here, 4, axis=0), ("t",) * 4)
    rng = np.random.default_rng(0)
    train = Fold(both, rng.integers(0, 2, (16, 1)).astype(np.float32))
    aptitude = Fold(known, np.array([[1], [1], [1], [0]], np.float32))
    for _, function in clusters(BaselineData(train, train, aptitude), aptitude, 0):
        np.testing.assert_allclose(function(Instructions(there, ("t",))), [[0.75]])
