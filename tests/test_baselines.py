"""The contract that all baselines share."""

from dataclasses import replace
from itertools import product, starmap

import numpy as np
import pytest

from satjax.evaluation.baselines import BASELINES, Baseline, BaselineData, Fold, factors
from satjax.evaluation.baselines.gradient import Training
from satjax.metrics import log_loss
from tests.planted import columns, error, planted, rows

CASE = planted("clusters", sizes=(300, 150, 120, 60))


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "STARTS": 1,
            "HIDDEN": 64,
            "SLOWER": (),
            "GRID": tuple(starmap(Training, product((1.0, 10.0), (1e-3, 1e-4)))),
        }.items():
            patch.setattr(factors, name, value)
        low = replace(factors.matrix_factorization, ranks=(4,))
        patch.setitem(BASELINES, "matrix_factorization", Baseline(low.seen, low.unseen))
        yield


# k-means starts and bootstraps are drawn from other rows; sums in another order grow apart over hundreds of steps.
CLOSE = {"clusters": 0.05, "forest": 0.1, "mlp": 2e-3, "matrix_factorization": 2e-3, "item_response": 2e-3}


@pytest.fixture(scope="module", params=BASELINES)
def fitted(request):
    """Name, fit, and what it predicts for the new instructions."""
    fit = BASELINES[request.param].fit
    predictor = fit(CASE.data, 0)
    return request.param, fit, predictor, predictor(CASE.new)


def test_probabilities_and_settings(fitted):
    _, _, predictor, probability = fitted
    assert probability.shape == (60, 5)
    assert probability.dtype == np.float32
    assert ((probability >= 0) & (probability <= 1)).all()
    assert isinstance(predictor.chosen, dict)
    assert predictor.val_log_loss == pytest.approx(
        log_loss(predictor(CASE.data.val.instructions), CASE.data.val.outcome_BM), abs=1e-4
    )


def test_the_seed_decides(fitted):
    _, fit, _, probability = fitted
    np.testing.assert_array_equal(fit(CASE.data, 0)(CASE.new), probability)


def test_a_baseline_goes_by_what_it_says(fitted):
    name, fit, _, probability = fitted
    baseline, rng = BASELINES[name], np.random.default_rng(1)

    def other_texts(instructions):
        return replace(instructions, embedding_BE=np.roll(instructions.embedding_BE, 1, axis=1))

    def other_tasks(instructions):
        return replace(instructions, tasks=tuple(rng.permutation(instructions.tasks).tolist()))

    def of_folds(change):
        folds = (replace(fold, instructions=change(fold.instructions)) for fold in (CASE.data.train, CASE.data.val))
        return BaselineData(*folds, CASE.data.aptitude), change(CASE.new)

    aptitude = replace(CASE.data.aptitude, outcome_BM=1 - CASE.data.aptitude.outcome_BM)
    for goes_by, (data, new), seed in (
        (baseline.random, (CASE.data, CASE.new), 1),
        (baseline.reads_aptitude, (replace(CASE.data, aptitude=aptitude), CASE.new), 0),
        (baseline.knows_tasks, of_folds(other_tasks), 0),
    ):
        assert np.array_equal(fit(data, seed)(new), probability) != goes_by
    if not baseline.reads_text:
        data, new = of_folds(other_texts)
        np.testing.assert_array_equal(fit(data, 0)(new), probability)


def test_order_of_rows_and_candidates_changes_nothing(fitted):
    name, fit, _, probability = fitted
    rng = np.random.default_rng(0)
    candidates = rng.permutation(5)
    folds = (CASE.data.train, CASE.data.val, CASE.data.aptitude)
    turned = BaselineData(*(rows(fold, rng.permutation(len(fold.outcome_BM))) for fold in folds))
    again = fit(columns(turned, candidates), 0)(CASE.new)
    assert error(again, probability[:, candidates]) < CLOSE.get(name, 1e-4)


def test_an_instruction_alone_is_predicted_as_among_others(fitted):
    _, _, predictor, probability = fitted
    alone = rows(Fold(CASE.new, np.zeros((60, 5), np.float32)), np.array([7])).instructions
    np.testing.assert_allclose(predictor(alone), probability[7:8], atol=1e-5)


@pytest.mark.parametrize("name", ["neighbours", "clusters", "logistic", "mlp"])
def test_structure_is_found_with_half_of_the_outcomes_unobserved(name):
    case = planted("clusters", sizes=(500, 200, 20, 100), unobserved=0.5)
    constant = error(BASELINES["candidate_means"].fit(case.data, 0)(case.new), case.truth_BM)
    assert error(BASELINES[name].fit(case.data, 0)(case.new), case.truth_BM) < 0.4 * constant


@pytest.mark.parametrize("name", BASELINES)
def test_new_candidates_one_at_a_time_are_as_all_at_once(name):
    fit = BASELINES[name].fit_unseen
    together = fit(CASE.data, CASE.anchor, 0)(CASE.new)
    assert together.shape == (60, 2)
    assert ((together >= 0) & (together <= 1)).all()
    second = Fold(CASE.anchor.instructions, CASE.anchor.outcome_BM[:, 1:])
    np.testing.assert_allclose(fit(CASE.data, second, 0)(CASE.new), together[:, 1:], atol=1e-6)
