import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from satjax import metrics
from satjax.outcomes import read_table

NAN = np.nan


def random_case(seed: int, shape: tuple[int, int] = (40, 6), soft: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probability = rng.random(shape)
    outcome = rng.random(shape) if soft else (rng.random(shape) < probability).astype(float)
    return probability, np.where(rng.random(shape) < 0.2, NAN, outcome)


def test_auroc_by_hand():
    probability = np.array([[0.9, 0.1], [0.4, 0.4]])
    outcome = np.array([[1.0, 0.0], [1.0, NAN]])
    assert metrics.auroc_pooled(probability, outcome) == 1.0
    assert metrics.auroc_within_instruction(probability, outcome) == 1.0
    assert metrics.auroc_per_candidate(probability, outcome) is None  # no candidate has both classes
    assert metrics.auroc_pooled(np.full((1, 4), 0.5), np.array([[1.0, 0, 1, 0]])) == 0.5


def test_auroc_equals_sklearn():
    probability, outcome = random_case(0)
    probability = probability.round(1)  # with ties
    seen = ~np.isnan(outcome)
    assert metrics.auroc_pooled(probability, outcome) == pytest.approx(roc_auc_score(outcome[seen], probability[seen]))
    each = [roc_auc_score(outcome[seen[:, m], m], probability[seen[:, m], m]) for m in range(6)]
    assert metrics.auroc_per_candidate(probability, outcome) == pytest.approx(np.mean(each))


def test_brier_and_ece_by_hand():
    probability, outcome = np.array([[0.8, 0.2, 0.81]]), np.array([[1.0, NAN, 0.0]])
    assert metrics.brier(probability, outcome) == pytest.approx((0.2**2 + 0.81**2) / 2)
    # Both stand in the bin of 0.8 to 0.8667: mean probability 0.805 against mean outcome 0.5.
    assert metrics.ece(probability, outcome) == pytest.approx(0.305)
    assert metrics.ece(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]])) == 0.0


def test_brier_equals_sklearn():
    probability, outcome = random_case(1)
    seen = ~np.isnan(outcome)
    assert metrics.brier(probability, outcome) == pytest.approx(brier_score_loss(outcome[seen], probability[seen]))


def test_soft_outcomes_cut_at_one_half_for_classes_only():
    probability, outcome = random_case(2, soft=True)
    hard = np.where(np.isnan(outcome), NAN, outcome > 0.5)
    assert metrics.auroc_pooled(probability, outcome) == metrics.auroc_pooled(probability, hard)
    assert metrics.brier(probability, outcome) != metrics.brier(probability, hard)


@given(st.integers(0, 10_000))
def test_order_of_instructions_and_candidates_changes_nothing(seed):
    probability, outcome = random_case(seed, (12, 4))
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(12), rng.permutation(4)
    before = metrics.correctness(probability, outcome)
    after = metrics.correctness(probability[rows][:, columns], outcome[rows][:, columns])
    assert before == pytest.approx(after)


def test_nothing_observed_is_none_everywhere():
    assert set(metrics.correctness(np.full((2, 2), 0.5), np.full((2, 2), NAN)).values()) == {None}


def test_routing_by_hand():
    probability = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.3], [0.9, 0.2, 0.1]])
    outcome = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [NAN, 1.0, 0.0]])
    figures = metrics.routing(probability, outcome, best_single=2)
    assert figures["router"] == pytest.approx((1 + 0 + 1) / 3)  # the unobserved candidate 0 cannot be chosen in row 3
    assert figures["best_single"] == pytest.approx(2 / 3)
    assert figures["random"] == pytest.approx((2 / 3 + 1 / 3 + 1 / 2) / 3)
    assert figures["oracle"] == 1.0
    assert figures["n"] == 3
    assert metrics.routing(probability, outcome, best_single=0)["n"] == 2
    assert metrics.routing(probability, np.full((3, 3), NAN), best_single=None)["n"] == 0


@given(st.integers(0, 10_000))
def test_no_router_beats_the_oracle(seed):
    figures = metrics.routing(*random_case(seed), best_single=None)
    assert figures["router"] <= figures["oracle"]
    assert figures["random"] <= figures["oracle"]


def test_reference_figures_of_the_real_outcomes(shared_data):
    """Candidate means, and per-subject means that know the true subject: what the README compares with."""
    table = read_table(shared_data / "mmlu_pro")
    train, test = table.split("train"), table.split("test")
    outcome = test.scores_MN.T
    mean_M = np.nanmean(train.scores_MN, axis=1)
    means = metrics.correctness(np.broadcast_to(mean_M, outcome.shape), outcome)
    assert list(means.values())[:4] == pytest.approx([0.654, 0.500, 0.731, 0.221], abs=2e-3)
    task_of = np.array([item.task for item in train.items])
    subject_MT = {
        task: (np.nansum(train.scores_MN[:, task_of == task], axis=1) + 5 * mean_M)
        / ((~np.isnan(train.scores_MN[:, task_of == task])).sum(axis=1) + 5)
        for task in train.tasks
    }
    subjects = metrics.correctness(np.stack([subject_MT.get(item.task, mean_M) for item in test.items]), outcome)
    assert list(subjects.values())[:4] == pytest.approx([0.738, 0.690, 0.733, 0.198], abs=4e-3)
