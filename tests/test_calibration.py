"""Calibration: probabilities by hand, and the maximum likelihood fit by what defines it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from satjax.calibration import Calibration, Threshold, cross_fitted, fit_calibration, fit_isotonic, read_calibration
from satjax.errors import SatjaxError

NAN = np.nan


def planted(scale: float, offset: float, shape: tuple[int, int] = (4000, 5)) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and outcomes drawn with the probability `sigmoid(scale score + offset)`."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=shape).astype(np.float32)
    return score, (rng.random(shape) < 1 / (1 + np.exp(-scale * score - offset))).astype(np.float32)


def test_probability_by_hand():
    calibration = Calibration(scale=2.0, offset=-1.0)
    probability = calibration.probability(np.array([[0.5, 1.5], [-0.5, 0.0]], np.float32))
    e = np.e
    np.testing.assert_allclose(probability, [[0.5, 1 / (1 + e**-2)], [1 / (1 + e**2), 1 / (1 + e)]], rtol=1e-6)
    assert probability.dtype == np.float32
    assert len(set(calibration.probability(np.array([20.0, 10.0]), np.float64))) == 2, "1 both in float32"
    assert Calibration().probability(np.zeros((1, 1), np.float32)) == 0.5


@given(
    hnp.arrays(np.float32, (2, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
    st.floats(0.01, 100),
    st.floats(-100, 100),
)
def test_probabilities_are_in_0_1_and_keep_the_order_of_scores(score, scale, offset):
    probability = Calibration(scale, offset).probability(score)
    assert ((probability >= 0) & (probability <= 1)).all()
    order = np.argsort(score, axis=None)
    logit = np.clip(scale * score.ravel()[order].astype(np.float64) + offset, -1e9, 1e9)
    rise = np.diff(probability.ravel()[order].astype(np.float64))
    assert (rise >= 0).all()
    # Where float32 can tell two probabilities apart.
    apart = (np.diff(logit) > 1e-2) & (logit[:-1] > -10) & (logit[1:] < 10)
    assert (rise[apart] > 0).all(), "unequal scores stay unequal"


def test_planted_scale_and_offset_are_found():
    found = fit_calibration(*planted(1.7, -0.6))
    assert (found.scale, found.offset) == pytest.approx((1.7, -0.6), abs=0.06)
    assert found.fitted_on == 4000


@pytest.mark.parametrize("soft", [False, True])
def test_at_the_maximum_of_likelihood_the_residuals_vanish(soft):
    score, outcome = planted(3.0, 1.0, (400, 3))
    if soft:
        outcome = (0.8 * outcome + 0.1).astype(np.float32)
    outcome[np.random.default_rng(1).random(outcome.shape) < 0.3] = NAN
    seen = ~np.isnan(outcome)
    residual = fit_calibration(score, outcome).probability(score)[seen] - outcome[seen]
    assert abs(residual.mean()) < 1e-3
    assert abs((residual * score[seen]).mean()) < 1e-3


def test_a_soft_outcome_counts_for_both_classes_by_its_share():
    soft = fit_calibration(np.array([[0.0, 1.0]]), np.array([[0.25, 0.75]]))
    hard = fit_calibration(np.repeat([[0.0, 1.0]], 4, axis=0), np.array([[1, 1], [0, 1], [0, 1], [0, 0]], float))
    assert (soft.scale, soft.offset) == pytest.approx((hard.scale, hard.offset), rel=1e-2)
    assert (soft.scale, soft.offset) == pytest.approx((2 * np.log(3), -np.log(3)), rel=1e-2)  # logit of 1/4 and 3/4


def test_unobserved_outcomes_have_no_say():
    score, outcome = planted(1.0, 0.5, (300, 2))
    padded = np.concatenate([outcome, np.full((50, 2), NAN, np.float32)])
    wild = np.concatenate([score, np.full((50, 2), 1e6, np.float32)])
    assert fit_calibration(wild, padded) == fit_calibration(score, outcome)
    outcome[0, 0] = NAN  # still observed for the other candidate
    assert fit_calibration(score, outcome).fitted_on == 300


@pytest.mark.parametrize(
    "outcome",
    [np.ones((4, 3)), np.zeros((4, 3)), np.full((4, 3), NAN), np.ones((0, 3))],
    ids=["all right", "all wrong", "none observed", "no instructions"],
)
def test_outcomes_of_one_kind_leave_scores_as_they_are(outcome):
    assert fit_calibration(np.random.default_rng(0).normal(size=outcome.shape), outcome) == Calibration()


def test_scores_of_the_wrong_order_leave_scores_as_they_are():
    score, outcome = planted(2.0, 0.0, (200, 2))
    assert fit_calibration(-score, outcome) == Calibration()


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e6, 1e6), st.integers(0, 10**6))
def test_written_and_read_it_is_the_same(tmp_path_factory, scale, offset, fitted_on):
    path = tmp_path_factory.getbasetemp() / "calibration.json"
    Calibration(scale, offset, fitted_on).write(path)
    assert read_calibration(path) == Calibration(scale, offset, fitted_on)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
def test_the_size_of_scores_does_not_matter(size):
    score, outcome = planted(1.7, -0.6, (400, 3))
    scaled, expected = fit_calibration(size * score, outcome), fit_calibration(score, outcome)
    assert (scaled.scale, scaled.offset) == pytest.approx((expected.scale / size, expected.offset), rel=1e-4)
    np.testing.assert_allclose(scaled.probability(size * score), expected.probability(score), atol=1e-4)


@pytest.mark.parametrize("score", [0.0, 5.3])
def test_scores_that_are_all_the_same_leave_scores_as_they_are(score):
    same = np.float32(score) * (1 + 1e-8 * np.random.default_rng(0).normal(size=(50, 2)))
    outcome = (np.random.default_rng(1).random((50, 2)) < 0.4).astype(np.float32)
    for given_score in (same, same.astype(np.float32)):
        assert fit_calibration(given_score, outcome) == Calibration()


def test_a_steep_map_of_close_scores_keeps_their_order():
    score = np.arange(5.0, 5.0 + 5e-6, 5e-7).astype(np.float32)
    probability = Calibration(1.06e5, -5.3e5).probability(score)
    assert (np.diff(score) > 0).all()
    assert (np.diff(probability) > 0).all()


def test_an_isotonic_map_goes_through_its_knots_and_on_beyond_them():
    calibration = Calibration(2.0, 0.0, 9, knots=((-1.0, 0.2), (1.0, 0.5)))
    probability = calibration.probability(np.array([-1.0, 1.0, 0.0, 1.5, -2.0]))
    logits = np.log(probability / (1 - probability))
    np.testing.assert_allclose(logits, [np.log(0.25), 0.0, np.log(0.25) / 2, 1.0, np.log(0.25) - 2.0], atol=1e-5)


def test_what_platt_cannot_bend_to_an_isotonic_map_does():
    rng = np.random.default_rng(0)
    score = rng.normal(size=(20_000, 1))
    truth = np.where(score < 0, 0.1, 0.6) + 0.1 * np.tanh(score)
    outcome = (rng.random(score.shape) < truth).astype(np.float32)
    off = {
        fit: np.abs(fit(score, outcome).probability(score) - truth).mean() for fit in (fit_calibration, fit_isotonic)
    }
    assert off[fit_isotonic] < 0.03 < 0.06 < off[fit_calibration]


@given(
    hnp.arrays(np.float64, (30, 3), elements=st.floats(-50, 50)),
    hnp.arrays(np.float64, (30, 3), elements=st.sampled_from([0.0, 0.3, 1.0, NAN])),
)
def test_an_isotonic_map_keeps_the_order_of_all_scores(score, outcome):
    calibration = fit_isotonic(score, outcome)
    flat = np.sort(np.concatenate([score.ravel(), [-60.0, 60.0]]))
    probability = calibration.probability(flat).astype(np.float64)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) >= 0).all()
    apart = (np.diff(flat) > 1e-2) & (probability[:-1] > 1e-3) & (probability[1:] < 0.999) & (calibration.scale > 1e-2)
    assert (np.diff(probability)[apart] > 0).all(), "unequal scores stay unequal"


def test_steps_of_an_isotonic_map_rest_on_some_pairs():
    score, outcome = planted(1.0, 0.0, (500, 2))
    assert 3 <= len(fit_isotonic(score, outcome).knots) <= 100


def test_cross_fitting_never_sees_what_it_is_asked_for():
    score, outcome = planted(1.0, 0.0, (60, 2))
    fold = np.arange(60) % 3
    before = cross_fitted("platt", score, outcome, fold)
    altered = np.where(fold[:, None] == 1, 1 - outcome, outcome)
    after = cross_fitted("platt", score, altered, fold)
    np.testing.assert_array_equal(before[fold == 1], after[fold == 1])
    assert not np.array_equal(before[fold == 0], after[fold == 0])


def test_files_of_before_have_a_scale_and_an_offset(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text('{"scale": 2.0, "offset": -1.0, "fitted_on": 7}')
    assert read_calibration(path) == Calibration(2.0, -1.0, 7)


def test_knots_and_thresholds_come_back(tmp_path):
    path = tmp_path / "calibration.json"
    whole = Calibration(1.0, 0.5, 9, ((-1.0, 0.1), (2.0, 0.9)), (Threshold(0.95, 0.7, 0.6, 1e-3, 0.63, 2e-3),))
    whole.write(path)
    assert read_calibration(path) == whole


@pytest.mark.parametrize(
    "content",
    [
        '{"version": 3, "scale": 1.0, "offset": 0.0, "fitted_on": 3}',
        '{"version": 2, "scale": 1.0, "offset": 0.0, "fitted_on": 3, "knots": [[0, 0.5], [1, 0.4]]}',
        '{"version": 2, "scale": 1.0, "offset": 0.0, "fitted_on": 3, "knots": [[0, 0.0], [1, 0.4]]}',
        '{"version": 2, "scale": -1.0, "offset": 0.0, "fitted_on": 3, "knots": [[0, 0.1], [1, 0.4]]}',
        '{"version": 2, "scale": 1.0, "offset": 0.0, "fitted_on": 3, "knots": [[0, 0.1, 3]]}',
        '{"version": 2, "scale": 1.0, "offset": 0.0, "fitted_on": 3, "thresholds": [{"share": 1}]}',
        '{"version": 2, "scale": 1.0, "offset": 0.0, "fitted_on": 3, "thresholds": [7]}',
        "",
        "{",
        "[1.0, 0.0, 3]",
        "null",
        '{"scale": 1.0}',
        '{"scale": "high", "offset": 0.0, "fitted_on": 3}',
        '{"scale": 1.0, "offset": null, "fitted_on": 3}',
    ],
)
def test_damaged_files_are_one_line(tmp_path, content):
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(SatjaxError) as caught:
        read_calibration(path)
    assert f"{path} is no calibration" in str(caught.value)
    assert str(caught.value).endswith("copy the router again")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SatjaxError, match=r"calibration\.json is no calibration"):
        read_calibration(tmp_path / "calibration.json")
