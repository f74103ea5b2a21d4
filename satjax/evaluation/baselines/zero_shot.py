"""Methods to which nothing is fitted but how far their scores are to be trusted: what they give back, and that fit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logit

from satjax.calibration import Calibration, fit_calibration
from satjax.errors import SatjaxError

SMALLEST_SLOPE = 0.01
"""Of the logit, for a standard deviation of the score."""
SAME_SCORE = 1e-6
"""Scores are float32: what differs by less is the same, rounded."""


@dataclass(frozen=True)
class ZeroShot:
    """Probabilities float32 `[B, M]`, and how they came about."""

    probability_BM: np.ndarray
    chosen: Mapping[str, Any]


def fit_order(score_BM: np.ndarray, outcome_BM: np.ndarray) -> Calibration:
    """One logistic map for all candidates, over the pairs where neither is NaN, that keeps the order of the scores.

    Where low scores are the right ones the maximum of likelihood is a flat map: the smallest slope stands for it, so that the method still
    chooses as it does, and its probabilities are all but the mean outcome. So too where all these scores are the same, which tell no slope: it is
    of the score itself then. Raises SatjaxError where there is no pair.
    """
    outcome_BM = np.where(np.isnan(score_BM), np.nan, outcome_BM)
    observed = ~np.isnan(outcome_BM)
    if not observed.any():
        raise SatjaxError(
            "there is nothing to calibrate on: no score of a validation instruction whose outcome is known"
        )
    score, mean = score_BM[observed].astype(np.float64), float(outcome_BM[observed].mean())
    deviation = float(score.std())
    same = deviation <= SAME_SCORE * max(1.0, float(np.abs(score).max()))
    slope = SMALLEST_SLOPE / (1.0 if same else deviation)
    fitted = fit_calibration(np.where(observed, score_BM, 0.0), outcome_BM)
    if fitted.fitted_on and fitted.scale >= slope and not same:
        return fitted
    offset = float(logit(np.clip(mean, 0.5 / len(score), 1 - 0.5 / len(score)))) - slope * float(score.mean())
    return replace(fitted, scale=slope, offset=offset, fitted_on=int(observed.any(axis=1).sum()))
