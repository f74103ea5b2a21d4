"""Calibration: probabilities by hand, and the maximum likelihood fit by what defines it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from satjax.calibration import Calibration, fit_calibration, read_calibration
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
    assert Calibration().probability(np.zeros((1, 1), np.float32)) == 0.5


@given(
    hnp.arrays(np.float32, (2, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32)),
    st.floats(0.01, 100),
    st.floats(-100, 100),
)
def test_probabilities_are_in_0_1_and_keep_the_order_of_scores(score, scale, offset):
    probability = Calibration(scale, offset).probability(score)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability.ravel()[np.argsort(score, axis=None)]) >= 0).all()


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


@pytest.mark.parametrize(
    "content",
    [
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
    assert str(caught.value).endswith("export the router again")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SatjaxError, match=r"calibration\.json is no calibration"):
        read_calibration(tmp_path / "calibration.json")
