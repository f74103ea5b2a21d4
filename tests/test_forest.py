"""The forest: profiles by hand, ability read off them, known candidates kept from recognizing themselves."""

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.evaluation.baselines import BaselineData, Fold, Instructions
from satjax.evaluation.baselines.forest import forest, forest_unseen, profile
from satjax.evaluation.baselines.means import candidate_means
from satjax.evaluation.baselines.tuning import fit_seen, fit_unseen
from tests.planted import NAN, Planted, error, planted, unit


def test_profiles_by_hand():
    outcome = np.array([[1, NAN], [0, NAN], [1, 1]], np.float32)
    fold = Fold(Instructions(unit(np.ones((3, 2))), ("b", "b", "a")), outcome)
    np.testing.assert_allclose(profile(fold), [[1, 0.5, 2 / 3], [1, NAN, 1]], rtol=1e-6)


def test_profiles_are_of_the_tests_tasks_where_it_has_its_own():
    outcome = np.array([[1, NAN], [0, NAN], [1, 1]], np.float32)
    fold = Fold(Instructions(unit(np.ones((3, 2))), ("t", "t", "t"), ("y", "x", "y")), outcome)
    np.testing.assert_allclose(profile(fold), [[0, 1, 2 / 3], [NAN, 1, 1]], rtol=1e-6)


def test_without_aptitude_items_there_is_no_profile():
    data = planted("clusters", sizes=(60, 30, 0, 10)).data
    with pytest.raises(SatjaxError, match="baseline forest: the outcome table has none of the aptitude test's items"):
        fit_seen(forest, data, 0)


def test_known_candidates_are_told_apart_and_instructions_too():
    case = planted("item_response")
    constant = error(fit_seen(candidate_means, case.data, 0)(case.new), case.truth_BM)
    assert error(fit_seen(forest, case.data, 0)(case.new), case.truth_BM) < 0.8 * constant


def able(num_candidates: int = 14) -> Planted:
    """Candidates that differ in one ability; the last four are new."""
    rng = np.random.default_rng(0)
    ability_M = rng.permutation(np.linspace(0.05, 0.95, num_candidates))
    sizes, known = (300, 200, 200, 50), num_candidates - 4

    def fold(size: int) -> Fold:
        instructions = Instructions(unit(rng.normal(size=(size, 4))), tuple(f"t{i % 3}" for i in range(size)))
        return Fold(instructions, (rng.random((size, num_candidates)) < ability_M).astype(np.float32))

    train, val, aptitude, new = (fold(size) for size in sizes)
    first = [Fold(f.instructions, f.outcome_BM[:, :known]) for f in (train, val, aptitude)]
    truth = np.tile(ability_M, (50, 1))
    anchor = Fold(aptitude.instructions, aptitude.outcome_BM[:, known:])
    return Planted(BaselineData(*first), new.instructions, truth[:, :known], anchor, truth[:, known:])


def test_the_ability_of_new_candidates_is_read_off_their_profiles():
    case = able()
    assert error(fit_unseen(forest_unseen, case.data, case.anchor, 0)(case.new), case.truth_BN) < 0.12


def test_training_items_without_outcomes_are_one_line():
    data = planted("clusters", sizes=(40, 20, 20, 5)).data
    nothing = Fold(data.train.instructions, np.full_like(data.train.outcome_BM, NAN))
    with pytest.raises(SatjaxError, match="forest: the training split has no outcomes of 5 candidates"):
        next(forest(BaselineData(nothing, data.val, data.aptitude), nothing, 0))


def test_a_known_candidate_is_predicted_by_trees_that_never_saw_it():
    """Its training outcomes may say what they like."""
    case = able()
    everyone = Fold(case.data.aptitude.instructions, case.data.aptitude.outcome_BM)
    flipped = case.data.train.outcome_BM.copy()
    flipped[:, 0] = 1 - flipped[:, 0]
    other = BaselineData(Fold(case.data.train.instructions, flipped), case.data.val, case.data.aptitude)
    _, before = next(forest_unseen(case.data, everyone, 0))
    _, after = next(forest_unseen(other, everyone, 0))
    np.testing.assert_allclose(before(case.new)[:, 0], after(case.new)[:, 0], atol=1e-9)
    assert np.abs(before(case.new) - after(case.new)).max() > 0.01
