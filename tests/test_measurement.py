"""Abilities by item outcomes, against what was planted and against scikit-learn's logistic regression."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from satjax.aptitude import CapabilityProfile, accuracy_and_count
from satjax.aptitude.measurement import AbilityScale, population
from satjax.calibration import Calibration
from satjax.errors import SatjaxError

R = 3
SCORES = np.array([1, 0], np.float32)


def profile(outcome_TK: np.ndarray, name: str = "new") -> CapabilityProfile:
    tasks = tuple(f"task {t}" for t in range(len(outcome_TK)))
    keywords = tuple(("a", "b", "c", "d", "e") for _ in tasks)
    return CapabilityProfile(name, "f" * 64, tasks, keywords, *accuracy_and_count(outcome_TK), outcome_TK)


def planted(num_tasks: int, shots: int, seed: int = 0) -> tuple[AbilityScale, np.ndarray, np.random.Generator]:
    """A scale with a wide population, and the ability of 40 candidates of it."""
    rng = np.random.default_rng(seed)
    ability_MR = rng.normal(size=(40, R + 1))
    demand = rng.normal(size=(num_tasks, shots, R + 1))
    return AbilityScale.of(demand, ability_MR), ability_MR, rng


def answers(scale: AbilityScale, ability_R: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    demand = scale.demand_TKR
    logit = demand[..., :-1] @ ability_R[:-1] + demand[..., -1] + ability_R[-1]
    return (rng.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(np.float32)


def test_many_items_recover_the_ability_that_was_planted():
    scale, ability_MR, rng = planted(100, 100)
    profiles = [profile(answers(scale, ability, rng)) for ability in ability_MR]
    np.testing.assert_allclose(scale.abilities(profiles), ability_MR, atol=0.15)


def test_more_items_are_nearer_the_truth():
    errors = []
    for shots in (1, 10, 100):
        scale, ability_MR, rng = planted(10, shots)
        found = scale.abilities([profile(answers(scale, ability, rng)) for ability in ability_MR])
        errors.append(float(np.mean((np.asarray(found) - ability_MR) ** 2)))
    assert errors[0] > 2 * errors[1] > 8 * errors[2]


def test_it_is_the_logistic_regression_with_the_population_as_prior():
    scale, ability_MR, rng = planted(20, 10)
    outcome = answers(scale, ability_MR[0], rng)
    demand = scale.demand_TKR.reshape(-1, R + 1) * np.array([1.0, 1.0, 1.0, 0.0])
    plain = AbilityScale(
        demand.reshape(20, 10, R + 1), np.zeros(R + 1, np.float32), 0.5 * np.eye(R + 1, dtype=np.float32), SCORES
    )
    load = np.concatenate([demand[:, :-1], np.ones((200, 1))], axis=1)
    theirs = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-9, max_iter=1000).fit(load, outcome.reshape(-1))
    np.testing.assert_allclose(plain.abilities([profile(outcome)])[0], theirs.coef_[0], atol=1e-3)


def test_unobserved_items_say_nothing_and_none_at_all_leaves_the_average_candidate():
    scale, ability_MR, rng = planted(6, 5)
    outcome = answers(scale, ability_MR[0], rng)
    outcome[3:] = np.nan
    shorter = replace(scale, demand_TKR=scale.demand_TKR[:3])
    np.testing.assert_allclose(
        scale.abilities([profile(outcome)]), shorter.abilities([profile(outcome[:3])]), atol=1e-5
    )
    np.testing.assert_allclose(scale.abilities([profile(np.full((6, 5), np.nan))])[0], scale.mean_R, atol=1e-6)


def test_a_head_that_is_too_sure_of_new_items_does_not_bend_the_ability():
    """Scores of instructions that were not trained on are too wide, and off; the calibration says by how much."""
    scale, ability_MR, rng = planted(40, 25)
    calibration = Calibration(scale=0.5, offset=-0.4)
    linked = scale.linked(calibration.scale, calibration.offset)
    errors: dict[str, list[float]] = {"linked": [], "as if scores were log odds": []}
    for ability in ability_MR[:10]:
        load = scale.demand_TKR[..., :-1] @ ability[:-1] + scale.demand_TKR[..., -1] + ability[-1]
        chance = calibration.probability(load)
        taken = profile((rng.random(chance.shape) < chance).astype(np.float32))
        for name, measure in zip(errors, (linked, scale), strict=True):
            found = np.asarray(measure.abilities([taken])[0])
            score = scale.demand_TKR[..., :-1] @ found[:-1] + scale.demand_TKR[..., -1] + found[-1]
            errors[name].append(float(np.mean((calibration.probability(score) - chance) ** 2)))
    assert np.mean(errors["linked"]) < 0.5 * np.mean(errors["as if scores were log odds"])


@given(st.integers(0, 2**32), st.sampled_from([0.0, 1.0, None]), st.floats(0.0, 30.0))
@settings(max_examples=30)
def test_any_outcomes_have_a_finite_ability_at_which_nothing_pulls(seed, constant, size):
    rng = np.random.default_rng(seed)
    scale = AbilityScale.of(size * rng.normal(size=(4, 3, R + 1)), rng.normal(size=(rng.integers(1, 9), R + 1)))
    outcome = rng.random((4, 3)).astype(np.float32) if constant is None else np.full((4, 3), constant, np.float32)
    ability = np.asarray(scale.abilities([profile(outcome)])[0], np.float64)
    assert np.isfinite(ability).all()
    demand = scale.demand_TKR.reshape(-1, R + 1).astype(np.float64)
    load = np.concatenate([demand[:, :-1], np.ones((12, 1))], axis=1)
    share = 1 / (1 + np.exp(-np.clip(load @ ability + demand[:, -1], -500, 500)))
    pull = load.T @ (outcome.reshape(-1) - share) - scale.precision_RR @ (ability - scale.mean_R)
    assert np.abs(pull).max() < 1e-3 * (1 + size)


def test_the_population_is_the_candidates_with_no_direction_ruled_out():
    ability = np.random.default_rng(0).normal(size=(5, 8)) * 3 + 1
    mean, precision = population(ability)
    np.testing.assert_allclose(mean, ability.mean(axis=0), atol=1e-5)
    covariance = np.cov(ability.T)
    expected = covariance + np.trace(covariance) / 8 * np.eye(8)
    np.testing.assert_allclose(np.linalg.inv(precision), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(population(ability[:1])[1], np.eye(8), "one candidate has no spread to go by")


def test_the_deviation_is_how_far_probabilities_are_off():
    """Of candidates of the population, by the number of items that they answered."""
    scale, _, rng = planted(20, 10)
    covariance, load = np.linalg.inv(scale.precision_RR), scale.demand_TKR.reshape(-1, R + 1)
    ability_MR = rng.multivariate_normal(scale.mean_R, covariance, 60)

    def probability(score):
        return 1 / (1 + np.exp(-score))

    def of_items(ability):
        return probability(load[:, :-1] @ ability[:-1] + load[:, -1] + ability[-1])

    for items in (0, 4, 20, 200):
        off, said = [], []
        for ability in ability_MR:
            outcome = answers(scale, ability, rng).reshape(-1)
            outcome[rng.permutation(200)[items:]] = np.nan
            outcome_TK = outcome.reshape(20, 10)
            off.append((of_items(scale.abilities([profile(outcome_TK)])[0]) - of_items(ability)) ** 2)
            said.append(scale.deviation(outcome_TK, probability) ** 2)
        assert np.sqrt(np.mean(said)) == pytest.approx(np.sqrt(np.mean(off)), rel=0.15)


def test_it_comes_back_from_the_parameters():
    scale, ability_MR, rng = planted(6, 5)
    scale = scale.linked(0.8, -0.1)
    again = AbilityScale.from_params(scale.params())
    one = profile(answers(scale, ability_MR[0], rng))
    np.testing.assert_array_equal(again.abilities([one]), scale.abilities([one]))


def test_a_summary_cannot_be_measured():
    scale, _, _ = planted(6, 5)
    whole = profile(np.zeros((6, 5), np.float32))
    with pytest.raises(SatjaxError, match="profile of 'short' is a summary; this router measures by the outcome"):
        scale.abilities([whole, replace(whole, candidate="short").summary()])
