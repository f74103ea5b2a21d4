import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from satjax import metrics
from satjax.evaluation import intervals
from satjax.evaluation.figures import correctness_of
from satjax.evaluation.intervals import (
    RESAMPLES,
    Interval,
    figure_intervals,
    interval_about,
    mean_interval,
    paired_interval,
)

NAN = np.nan


def test_mean_interval_is_the_normal_one_for_large_samples(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES_OF_MEANS", 4000)
    a = np.random.default_rng(0).normal(0.3, 1, 4000)
    found = mean_interval(a)
    half = norm.ppf(0.975) * a.std() / np.sqrt(len(a))
    assert found.mean == pytest.approx(a.mean())
    assert found.n == 4000
    assert (found.low, found.high) == pytest.approx((a.mean() - half, a.mean() + half), abs=0.06 * half)


def test_two_values_by_hand():
    # The resampled means are 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4.
    found = mean_interval(np.array([0.0, 1.0]))
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)


def test_unobserved_values_are_left_out():
    a, b = np.array([1.0, NAN, 0.0, 1.0, 0.5]), np.array([0.0, 1.0, NAN, 1.0, 0.5])
    assert mean_interval(a) == mean_interval(a[~np.isnan(a)])
    assert paired_interval(a, b) == mean_interval(np.array([1.0, 0.0, 0.0]))
    assert paired_interval(a, b).n == 3


def test_degenerate_samples():
    assert mean_interval(np.array([NAN, NAN])) == Interval(None, None, None, 0)
    assert mean_interval(np.zeros(0)) == Interval(None, None, None, 0)
    assert mean_interval(np.array([0.25, NAN])) == Interval(0.25, None, None, 1)
    assert mean_interval(np.full(5, 0.25)) == Interval(0.25, 0.25, 0.25, 5)
    assert paired_interval(np.ones(4), np.ones(4)) == Interval(0.0, 0.0, 0.0, 4)


def test_vectors_of_different_length_are_not_paired():
    with pytest.raises(ValueError, match="not paired"):
        paired_interval(np.ones(3), np.ones(1))


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=500)
    a, b = hardness + 0.1 * rng.normal(size=500) + 0.05, hardness + 0.1 * rng.normal(size=500)
    single, paired = mean_interval(a), paired_interval(a, b)
    assert paired.high - paired.low < (single.high - single.low) / 4
    assert paired.low > 0


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30))
def test_ends_enclose_the_middle_and_stay_inside_the_values(values):
    a = np.array(values)
    found = mean_interval(a)
    assert a.min() - 1e-12 <= found.low <= found.high <= a.max() + 1e-12
    flipped = paired_interval(np.zeros(len(a)), a)
    assert (flipped.mean, flipped.low, flipped.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_the_same_values_have_the_same_interval_and_float32_is_averaged_in_double(monkeypatch):
    a = np.random.default_rng(0).random(50)
    assert mean_interval(a) == mean_interval(a)
    monkeypatch.setattr(intervals, "RESAMPLES_OF_MEANS", 10)
    assert mean_interval(np.full(10**5, 0.1, np.float32)).mean == pytest.approx(np.float32(0.1), abs=1e-12)


def test_coverage_of_paired_outcomes(monkeypatch):
    """The true difference, 0.1, lies inside about 95 % of the intervals."""
    monkeypatch.setattr(intervals, "RESAMPLES_OF_MEANS", 400)
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        b = (rng.random(150) < 0.6).astype(float)
        a = np.where(rng.random(150) < 0.25, 1.0, b)  # raises the mean by a quarter of 0.4
        found = paired_interval(a, b)
        inside += found.low <= 0.1 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def statistic_interval(statistic, probability: np.ndarray, outcome: np.ndarray) -> Interval:
    """The interval of one figure of whole matrices."""
    (found,) = figure_intervals(lambda rows: [statistic(probability[rows], outcome[rows])], len(outcome))
    return found


def test_statistic_interval_of_a_mean_is_the_mean_interval(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 2000)
    outcome = (np.random.default_rng(0).random((300, 1)) < 0.4).astype(float)
    found = statistic_interval(lambda p, y: float(y.mean()), outcome, outcome)
    expected = mean_interval(outcome[:, 0])
    assert found.mean == expected.mean
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_coverage_of_the_brier_score():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        probability = rng.random((80, 3))
        outcome = (rng.random((80, 3)) < probability).astype(float)
        outcome[rng.random((80, 3)) < 0.2] = NAN
        found = statistic_interval(metrics.brier, probability, outcome)
        inside += found.low <= 1 / 6 <= found.high  # the mean of p (1 - p)
    assert 0.90 <= inside / 200 <= 0.98


def test_a_calibration_error_lies_within_its_interval():
    """Resampling adds to it; of a calibrated table, plain percentiles are above it every other time."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        probability = rng.random((400, 5))
        outcome = (rng.random((400, 5)) < probability).astype(float)
        found = statistic_interval(metrics.ece, probability, outcome)
        assert 0 <= found.low < found.mean < found.high < 0.1


def test_a_share_has_no_end_beyond_1():
    outcome = np.array([1.0] * 30 + [0.0])
    (found,) = figure_intervals(lambda rows: [float(outcome[rows].max())], 31)
    assert (found.mean, found.high) == (1.0, 1.0)
    (found,) = figure_intervals(lambda rows: [1.0 - float(outcome[rows].min())], 31)
    assert 0 <= found.low <= found.mean == found.high == 1.0


def test_a_difference_may_be_on_either_side_of_0():
    """All resamples happen to lie above 0, and the figure so near to it that the lower end does not."""
    drawn = [0.0, 0.1, 0.2, 0.3]
    assert interval_about(0.02, drawn, 9, is_difference=True).low < 0
    assert interval_about(0.02, drawn, 9).low == 0


def test_candidates_of_one_instruction_are_one_piece_of_evidence():
    rng = np.random.default_rng(0)
    probability, outcome = rng.random((100, 1)), (rng.random((100, 1)) < 0.5).astype(float)
    one = statistic_interval(metrics.brier, probability, outcome)
    copies = statistic_interval(metrics.brier, np.tile(probability, 8), np.tile(outcome, 8))
    assert (copies.mean, copies.low, copies.high) == pytest.approx((one.mean, one.low, one.high))


def test_rows_without_outcomes_do_not_count():
    probability, outcome = np.random.default_rng(0).random((2, 20, 3))
    outcome[5:] = NAN
    found = correctness_of(probability[None], outcome)
    assert found == correctness_of(probability[None, :5], outcome[:5])
    assert (found.n, len(found.resamples)) == (5, RESAMPLES)
    none = correctness_of(probability[None, 5:], outcome[5:])
    assert (none.n, none.resamples, set(none.fits[0].values())) == (0, [], {None})
    assert statistic_interval(metrics.brier, probability[5:5], outcome[5:5]) == Interval(None, None, None, 0)
    assert statistic_interval(metrics.brier, probability[:1], outcome[:1]).low is None


def test_resamples_without_a_figure_are_left_out():
    probability, outcome = np.array([[0.1], [0.2], [0.9]]), np.array([[0.0], [0.0], [1.0]])
    # A third of the resamples lacks a class; the others rank as the whole does.
    assert statistic_interval(metrics.auroc_pooled, probability, outcome) == Interval(1.0, 1.0, 1.0, 3)
    assert statistic_interval(only_without_repeats, probability, outcome) == Interval(1.0, None, None, 3)  # 2 of 9


def only_without_repeats(probability: np.ndarray, outcome: np.ndarray) -> float | None:
    return 1.0 if len(np.unique(probability)) == len(probability) else None


def test_several_figures_share_their_resamples():
    a = np.random.default_rng(0).random(40)
    mean, double, never, rare = figure_intervals(
        lambda rows: [a[rows].mean(), 2 * a[rows].mean(), None, 1.0 if len(set(rows)) == 40 else None], 40
    )
    assert mean == figure_intervals(lambda rows: [a[rows].mean()], 40)[0]
    assert mean == statistic_interval(lambda p, _: float(p.mean()), a[:, None], np.ones((40, 1)))
    assert (double.mean, double.low, double.high) == pytest.approx((2 * mean.mean, 2 * mean.low, 2 * mean.high))
    assert mean.low < a.mean() == mean.mean < mean.high
    assert never == Interval(None, None, None, 40)
    assert rare == Interval(1.0, None, None, 40)  # of all instructions, but of hardly any resample
    assert figure_intervals(lambda rows: [0.5, None], 1) == [
        Interval(0.5, None, None, 1),
        Interval(None, None, None, 1),
    ]
