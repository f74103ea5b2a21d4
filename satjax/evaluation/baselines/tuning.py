"""Settings of a baseline are chosen on the validation fold, for candidates seen in training and for new ones."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.special import logit

from satjax import metrics
from satjax.calibration import Calibration, fit_calibration
from satjax.errors import SatjaxError
from satjax.evaluation.baselines.data import BaselineData, Fold, Function, Instructions, Predictor


class Fitted(NamedTuple):
    """What was fitted under a setting, and what fitting chose by itself, such as its steps."""

    function: Function
    found: Mapping[str, Any] = {}


Settings = Iterator[tuple[dict[str, Any], Callable[[], Fitted]]]
"""Every setting of a baseline's grid, with what fits it: nothing is fitted that is not asked for."""
Family = Callable[[BaselineData, Fold, int], Settings]
"""`family(data, scored, seed)`: functions that predict the candidates of `scored`, those of `data` and perhaps more."""


class Fit(Protocol):
    """A baseline of the candidates of the training fold."""

    def __call__(self, data: BaselineData, seed: int, setting: Mapping[str, Any] | None = None) -> Predictor:
        """Chooses a setting; or fits the one that another fit has chosen."""


FitUnseen = Callable[[BaselineData, Fold, int], Predictor]

SMALLEST = 1e-6
"""Probabilities are kept this far from 0 and 1."""


def choose(settings: Settings, val: Fold, setting: Mapping[str, Any] | None = None) -> Predictor:
    """The setting with the lowest log-loss on the validation fold, the first of equals; or, where one is given, that one.

    Each is calibrated there first, by one logistic map for all candidates: what a router gets too. Candidates beyond
    those of the fold share the map.
    """
    best: Predictor | None = None
    for each, fit in settings:
        if setting is not None and each != setting:
            continue
        function, found = fit()
        score_BM = _score(function, val.instructions)[:, : val.num_candidates]
        calibration = fit_calibration(score_BM, val.outcome_BM)
        loss = metrics.log_loss(calibration.probability(score_BM), val.outcome_BM)
        assert loss is not None
        if best is None or loss < best.val_log_loss:
            best = Predictor(partial(_calibrated, function, calibration), each, found, loss)
    if best is None:
        raise SatjaxError("baselines: there is no setting to choose from")
    return best


def _calibrated(function: Function, calibration: Calibration, instructions: Instructions) -> np.ndarray:
    return calibration.probability(_score(function, instructions))


def _score(function: Function, instructions: Instructions) -> np.ndarray:
    return logit(np.clip(function(instructions), SMALLEST, 1 - SMALLEST))


def for_seen(family: Family) -> Fit:
    """The baseline for the candidates of the training fold."""

    def fit(data: BaselineData, seed: int, setting: Mapping[str, Any] | None = None) -> Predictor:
        return choose(family(data, data.train, seed), data.val, setting)

    return fit


def for_unseen(family: Family) -> FitUnseen:
    """The baseline for candidates of which only outcomes on the aptitude items are known.

    The known candidates are treated alike, from their aptitude outcomes alone, and their validation outcomes choose the
    setting and the calibration: aptitude items are drawn to divide candidates, so their means are not those of others.
    """

    def fit(data: BaselineData, anchor: Fold, seed: int) -> Predictor:
        known, new = data.aptitude.instructions, anchor.instructions
        if known.tasks != new.tasks or not np.array_equal(known.embedding_BE, new.embedding_BE):
            raise SatjaxError("baselines: new candidates' outcomes are not on the aptitude items, in their order")
        everyone = Fold(known, np.concatenate([data.aptitude.outcome_BM, anchor.outcome_BM], axis=1))
        all_of_them = choose(family(data, everyone, seed), data.val)
        return replace(all_of_them, function=lambda x: all_of_them(x)[:, data.num_candidates :])

    return fit
