"""Few numbers per candidate: planted structure is found, and only by the family that can express it."""

import jax
import numpy as np
import pytest

from satjax.evaluation.baselines import factors
from satjax.evaluation.baselines.factors import item_response, matrix_factorization, mlp
from satjax.evaluation.baselines.means import candidate_means
from satjax.evaluation.baselines.tuning import for_seen
from tests.planted import error, planted


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(factors, "STARTS", 2)
    monkeypatch.setattr(factors, "FACTORS", (4,))
    monkeypatch.setattr(factors, "HIDDEN", 64)


def test_low_rank_is_found():
    case = planted("low_rank", sizes=(600, 200, 20, 200))
    for family in (matrix_factorization, mlp):
        assert error(for_seen(family)(case.data, 0)(case.new), case.truth_BM) < 0.08


def test_difficulty_and_ability_are_found():
    case = planted("item_response", sizes=(600, 200, 20, 200))
    constant = error(for_seen(candidate_means)(case.data, 0)(case.new), case.truth_BM)
    fit = for_seen(item_response)(case.data, 0)
    assert error(fit(case.new), case.truth_BM) < 0.5 * constant


def test_one_ability_orders_the_candidates_alike_everywhere():
    case = planted("item_response", sizes=(200, 100, 30, 50))
    probability = for_seen(item_response)(case.data, 0)(case.new)
    order = np.argsort(probability.mean(axis=0))
    assert (np.diff(probability[:, order], axis=1) >= -1e-6).all()


@pytest.mark.parametrize("name", ["mlp", "factors", "item_response"])
def test_before_training_every_instruction_is_as_hard_as_the_mean(name):
    bias_M = np.array([-1.0, 0.5, 2.0], np.float32)
    params = getattr(factors, f"_start_{name}")(jax.random.key(0), 8, bias_M, 4)
    embedding_BE = planted("clusters", sizes=(20, 5, 5, 5)).data.train.instructions.embedding_BE[:, :8]
    logits = getattr(factors, f"_{name}")(params, embedding_BE)
    np.testing.assert_allclose(logits, np.tile(bias_M, (20, 1)), atol=1e-6)


def test_the_chosen_settings_name_the_steps_of_each_start():
    case = planted("low_rank", sizes=(100, 60, 20, 20))
    chosen = for_seen(matrix_factorization)(case.data, 0).chosen
    assert chosen["rank"] in factors.FACTORS
    assert chosen["weight_decay"] in factors.WEIGHT_DECAY
    assert chosen["learning_rate"] in factors.LEARNING_RATE
    assert len(chosen["steps"]) == factors.STARTS
