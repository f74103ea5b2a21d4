"""Few numbers per candidate: planted structure is found, and only by the family that can express it."""

from dataclasses import replace
from itertools import product, starmap

import jax
import numpy as np
import pytest

from satjax.evaluation.baselines import Fold, factors
from satjax.evaluation.baselines.factors import SLOWER, item_response, mlp
from satjax.evaluation.baselines.gradient import Training
from satjax.evaluation.baselines.means import candidate_means
from satjax.evaluation.baselines.tuning import fit_seen, fit_unseen
from satjax.metrics import log_loss
from tests.planted import NAN, error, planted, sigmoid

matrix_factorization = replace(factors.matrix_factorization, ranks=(4,))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(factors, "STARTS", 2)
    monkeypatch.setattr(factors, "HIDDEN", 64)
    monkeypatch.setattr(factors, "SLOWER", ())
    monkeypatch.setattr(factors, "GRID", tuple(starmap(Training, product((1.0, 10.0), (1e-3, 1e-4)))))


def test_low_rank_is_found():
    case = planted("low_rank", sizes=(600, 200, 20, 200))
    for family in (matrix_factorization.seen, mlp.seen):
        assert error(fit_seen(family, case.data, 0)(case.new), case.truth_BM) < 0.08


def test_difficulty_and_ability_are_found():
    case = planted("item_response", sizes=(600, 200, 20, 200))
    constant = error(fit_seen(candidate_means, case.data, 0)(case.new), case.truth_BM)
    fit = fit_seen(item_response.seen, case.data, 0)
    assert error(fit(case.new), case.truth_BM) < 0.5 * constant


def test_one_ability_orders_the_candidates_alike_everywhere():
    case = planted("item_response", sizes=(200, 100, 30, 50))
    probability = fit_seen(item_response.seen, case.data, 0)(case.new)
    order = np.argsort(probability.mean(axis=0))
    assert (np.diff(probability[:, order], axis=1) >= -1e-6).all()


UNSEEN = {"low_rank": (matrix_factorization.unseen, mlp.unseen), "item_response": (item_response.unseen, mlp.unseen)}


@pytest.mark.parametrize(
    ("kind", "family"), [(kind, family) for kind, families in UNSEEN.items() for family in families]
)
def test_a_new_candidate_known_by_few_outcomes_is_placed_in_what_the_known_ones_taught(kind, family):
    case = planted(kind, sizes=(900, 300, 60, 200))
    mean = error(fit_unseen(candidate_means, case.data, case.anchor, 0)(case.new), case.truth_BN)
    probability = fit_unseen(family, case.data, case.anchor, 0)(case.new)
    assert probability.shape == case.truth_BN.shape
    assert error(probability, case.truth_BN) < 0.6 * mean


def test_new_candidates_have_no_say_in_settings_calibration_or_what_is_shared():
    case = planted("low_rank", sizes=(300, 100, 60, 50))
    other = Fold(case.anchor.instructions, case.anchor.outcome_BM.copy())
    other.outcome_BM[:, 1] = 1 - other.outcome_BM[:, 1]
    fits = [fit_unseen(mlp.unseen, case.data, anchor, 0) for anchor in (case.anchor, other)]
    assert fits[0].chosen == fits[1].chosen
    assert fits[0].val_log_loss == fits[1].val_log_loss
    first, second = (fit(case.new) for fit in fits)
    np.testing.assert_array_equal(first[:, 0], second[:, 0])
    assert np.abs(first[:, 1] - second[:, 1]).max() > 0.1


def test_what_known_candidates_made_of_the_training_instructions_is_used():
    case = planted("low_rank", sizes=(300, 100, 60, 50))
    nothing = Fold(case.data.train.instructions, np.full_like(case.data.train.outcome_BM, NAN))
    with_training, without = (
        error(fit_unseen(matrix_factorization.unseen, data, case.anchor, 0)(case.new), case.truth_BN)
        for data in (case.data, replace(case.data, train=nothing))
    )
    assert with_training < 0.8 * without


def test_a_new_candidate_without_outcomes_is_the_average_of_the_known():
    case = planted("item_response", sizes=(300, 100, 60, 50))
    unknown = Fold(case.anchor.instructions, np.full_like(case.anchor.outcome_BM, NAN))
    known = Fold(case.anchor.instructions, case.data.aptitude.outcome_BM)
    unknown, known = (fit_unseen(item_response.unseen, case.data, fold, 0)(case.new) for fold in (unknown, known))
    np.testing.assert_array_equal(unknown[:, 0], unknown[:, 1])
    assert (unknown[:, 0] > known.min(axis=1)).all()
    assert (unknown[:, 0] < known.max(axis=1)).all()


def test_the_likeliest_weights_are_those_of_the_optimum():
    rng = np.random.default_rng(0)
    slope, offset = rng.normal(size=(400, 3)), rng.normal(size=400)
    outcome = (rng.random(400) < sigmoid(offset + slope @ [1.0, -2.0, 0.5])).astype(np.float32)
    outcome[:50] = NAN
    weight = factors._likeliest(slope, offset, outcome)
    np.testing.assert_allclose(weight, [1.0, -2.0, 0.5], atol=0.4)

    def surprise(weight):
        return 350 * log_loss(sigmoid(offset + slope @ weight)[:, None], outcome[:, None]) + weight @ weight / 2

    for step in 0.05 * np.concatenate([np.eye(3), -np.eye(3)]):
        assert surprise(weight) < surprise(weight + step)


@pytest.mark.parametrize("name", ["mlp", "factors", "item_response"])
def test_before_training_every_instruction_is_as_hard_as_the_mean(name):
    bias_M = np.array([-1.0, 0.5, 2.0], np.float32)
    params = getattr(factors, f"_start_{name}")(jax.random.key(0), 8, bias_M, 4)
    embedding_BE = planted("clusters", sizes=(20, 5, 5, 5)).data.train.instructions.embedding_BE[:, :8]
    logits = getattr(factors, f"_{name}")(params, embedding_BE)
    np.testing.assert_allclose(logits, np.tile(bias_M, (20, 1)), atol=1e-6)


def test_few_instructions_are_fitted_at_lower_rates_too(monkeypatch):
    case = planted("low_rank", sizes=(100, 60, 20, 20))
    monkeypatch.setattr(factors, "GRID", (Training(1.0, 1e-2),))
    monkeypatch.setattr(factors, "SLOWER", SLOWER)

    def rates() -> list[float]:
        return [setting["learning_rate"] for setting, _ in matrix_factorization.seen(case.data, case.data.train, 0)]

    assert rates() == [1e-2, 1e-4, 3e-4, 3e-4] == [1e-2, *(training.learning_rate for training in SLOWER)]
    monkeypatch.setattr(factors, "FEW_INSTRUCTIONS", 100)
    assert rates() == [1e-2]


def test_the_chosen_settings_name_the_steps_of_each_start():
    case = planted("low_rank", sizes=(100, 60, 20, 20))
    chosen = fit_seen(matrix_factorization.seen, case.data, 0).chosen
    assert chosen["rank"] in matrix_factorization.ranks
    training = Training(chosen["weight_decay"], chosen["learning_rate"], chosen["dropout"])
    assert training in factors.GRID + factors.SLOWER
    assert len(chosen["steps"]) == factors.STARTS
