import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

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


def test_log_loss_by_hand():
    outcome = np.array([[1.0, NAN, 0.25]])
    expected = -(np.log(0.8) + 0.25 * np.log(0.5) + 0.75 * np.log(0.5)) / 2
    assert metrics.log_loss(np.array([[0.8, 0.3, 0.5]]), outcome) == pytest.approx(expected)
    # Certain and wrong: clipped at 1e-6, also in float32.
    assert metrics.log_loss(np.ones((1, 1), np.float32), np.zeros((1, 1), np.float32)) == pytest.approx(-np.log(1e-6))
    assert metrics.log_loss(np.ones((1, 1)), np.ones((1, 1))) == pytest.approx(1e-6)


def test_log_loss_equals_sklearn():
    probability, outcome = random_case(3)
    seen = ~np.isnan(outcome)
    assert metrics.log_loss(probability, outcome) == pytest.approx(sklearn_log_loss(outcome[seen], probability[seen]))


@given(st.integers(0, 10_000))
def test_proper_scores_are_best_at_the_true_probability(seed):
    truth, _ = random_case(seed, soft=True)
    wrong = np.random.default_rng(seed + 1).random(truth.shape)
    assert metrics.log_loss(truth, truth) <= metrics.log_loss(wrong, truth)
    assert metrics.brier(truth, truth) == 0


def test_reliability_by_hand():
    probability = np.array([[0.0, 0.06, 0.2, 1.0, 0.9]])
    found = metrics.reliability(probability, np.array([[0.0, 1.0, 0.5, 1.0, NAN]]))
    np.testing.assert_array_equal(found.low_K, [0.0, 0.2, 14 / 15])  # all others are empty
    np.testing.assert_array_equal(found.high_K, [1 / 15, 4 / 15, 1.0])
    np.testing.assert_allclose(found.probability_K, [0.03, 0.2, 1.0])
    np.testing.assert_allclose(found.outcome_K, [0.5, 0.5, 1.0])
    np.testing.assert_array_equal(found.count_K, [2, 1, 1])
    assert len(metrics.reliability(probability, np.full((1, 5), NAN)).count_K) == 0


def test_reliability_equals_sklearn():
    probability, outcome = random_case(4)
    seen = ~np.isnan(outcome)
    found = metrics.reliability(probability, outcome)
    mean_outcome, mean_probability = calibration_curve(outcome[seen], probability[seen], n_bins=metrics.ECE_BINS)
    np.testing.assert_allclose(found.outcome_K, mean_outcome)
    np.testing.assert_allclose(found.probability_K, mean_probability)
    assert found.count_K.sum() == seen.sum()


@given(st.integers(0, 10_000))
def test_bins_enclose_their_mean_probability(seed):
    found = metrics.reliability(*random_case(seed))
    assert (found.low_K <= found.probability_K).all()
    assert (found.probability_K <= found.high_K).all()


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
    found = metrics.routing(probability, outcome, best_single=2)
    np.testing.assert_array_equal(found["router"], [1, 0, 1])  # the unobserved candidate 0 cannot be chosen in row 3
    np.testing.assert_array_equal(found["best_single"], [1, 1, 0])
    np.testing.assert_allclose(found["random"], [2 / 3, 1 / 3, 1 / 2])
    np.testing.assert_array_equal(found["oracle"], [1, 1, 1])
    assert {
        name: len(each) for name, each in metrics.routing(probability, outcome, best_single=0).items()
    } == dict.fromkeys(found, 2)
    alone = np.where(np.arange(3) == 0, outcome[:1], [[NAN], [NAN], [1.0]] * np.ones(3))
    for best in (None, 0, 1):
        found = metrics.routing(probability, alone, best_single=best)
        assert {len(each) for each in found.values()} == {1}, "one outcome is no choice"
    np.testing.assert_array_equal(metrics.routed_outcomes(probability, alone), [NAN, NAN, 1])
    only = metrics.routing(probability[:, :1], outcome[:, :1], best_single=0)
    assert {len(each) for each in only.values()} == {2}, "of a single candidate there is nothing else to measure"
    nothing = metrics.routing(probability, np.full((3, 3), NAN), best_single=None)
    assert {name: len(each) for name, each in nothing.items()} == {"router": 0, "random": 0, "oracle": 0}


@given(st.integers(0, 10_000))
def test_no_router_beats_the_oracle(seed):
    found = metrics.routing(*random_case(seed), best_single=None)
    assert (found["router"] <= found["oracle"]).all()
    assert (found["random"] <= found["oracle"]).all()


def test_gap_recovered_by_hand():
    assert metrics.gap_recovered(0.75, 0.7, 0.9) == pytest.approx(0.25)
    assert metrics.gap_recovered(0.6, 0.7, 0.9) == pytest.approx(-0.5)
    assert metrics.gap_recovered(0.7, 0.9, 0.9) is None
    assert metrics.gap_recovered(None, None, None) is None


@given(st.integers(0, 10_000))
def test_no_router_recovers_more_than_the_gap(seed):
    probability, outcome = random_case(seed)
    found = metrics.routing(probability, outcome, best_single=0)
    oracle = metrics.routing(np.nan_to_num(outcome), outcome, best_single=0)
    names = ("router", "best_single", "oracle")
    assert metrics.gap_recovered(*(found[name].mean() for name in names)) <= 1
    assert metrics.gap_recovered(*(oracle[name].mean() for name in names)) == pytest.approx(1)


def test_selection_entropy_by_hand():
    everyone = np.zeros((4, 4))
    assert metrics.selection_entropy(np.eye(4), everyone) == pytest.approx(1.0)
    assert metrics.selection_entropy(np.tile([0.1, 0.9, 0.2, 0.3], (4, 1)), everyone) == 0.0
    half = metrics.selection_entropy(np.eye(4)[[0, 0, 1, 1]], everyone)
    assert half == pytest.approx(np.log(2) / np.log(4))
    # Row 1 falls to candidate 1 where candidate 0 is unobserved; row 2 has nothing to choose.
    probability = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    assert metrics.selection_entropy(probability, np.array([[1.0, 0.0], [NAN, 0.0], [NAN, NAN]])) == pytest.approx(1.0)
    assert metrics.selection_entropy(np.ones((2, 1)), np.ones((2, 1))) is None
    assert metrics.selection_entropy(np.ones((2, 2)), np.full((2, 2), NAN)) is None


@given(st.integers(0, 10_000))
def test_selection_entropy_is_a_share_and_ignores_order(seed):
    probability, outcome = random_case(seed, (12, 4))
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(12), rng.permutation(4)
    value = metrics.selection_entropy(probability, outcome)
    assert 0 <= value <= 1
    assert metrics.selection_entropy(probability[rows][:, columns], outcome[rows][:, columns]) == pytest.approx(value)


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
