"""Settings of a baseline are chosen on the validation fold, for candidates seen in training and for new ones."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from scipy.special import logit

from satjax import metrics
from satjax.calibration import Calibration, fit_calibration
from satjax.errors import SatjaxError
from satjax.evaluation.baselines.data import BaselineData, Fold, Function, Instructions, Predictor

Settings = Iterator[tuple[dict[str, Any], Function]]
"""Every setting of a baseline's grid, with what was fitted under it."""
Family = Callable[[BaselineData, Fold, int], Settings]
"""`family(data, scored, seed)`: functions that predict the candidates of `scored`, those of `data` and perhaps more."""

SMALLEST = 1e-6
"""Probabilities are kept this far from 0 and 1."""


def choose(settings: Settings, val: Fold) -> Predictor:
    """The setting with the lowest log-loss on the validation fold, the first of equals.

    Each is calibrated there first, by one logistic map for all candidates: what a router gets too. Candidates beyond
    those of the fold share the map.
    """
    best: Predictor | None = None
    for setting, function in settings:
        score_BM = _score(function, val.instructions)[:, : val.num_candidates]
        calibration = fit_calibration(score_BM, val.outcome_BM)
        loss = metrics.log_loss(calibration.probability(score_BM), val.outcome_BM)
        assert loss is not None
        if best is None or loss < best.val_log_loss:
            best = Predictor(partial(_calibrated, function, calibration), setting, loss)
    if best is None:
        raise SatjaxError("baselines: there is no setting to choose from")
    return best


def _calibrated(function: Function, calibration: Calibration, instructions: Instructions) -> np.ndarray:
    return calibration.probability(_score(function, instructions))


def _score(function: Function, instructions: Instructions) -> np.ndarray:
    return logit(np.clip(function(instructions), SMALLEST, 1 - SMALLEST))


def fit_seen(family: Family, data: BaselineData, seed: int) -> Predictor:
    """The baseline for the candidates of the training fold."""
    return choose(family(data, data.train, seed), data.val)


def fit_unseen(family: Family, data: BaselineData, anchor: Fold, seed: int) -> Predictor:
    """The baseline for candidates of which only outcomes on the aptitude items, `anchor`, are known.

    The known candidates are treated alike, from their aptitude outcomes alone, and their validation outcomes choose the
    setting and the calibration: aptitude items are drawn to divide candidates, so their means are not those of others.
    """
    known, new = data.aptitude.instructions, anchor.instructions
    if known.tasks != new.tasks or not np.array_equal(known.embedding_BE, new.embedding_BE):
        raise SatjaxError("baselines: new candidates' outcomes are not on the aptitude items, in their order")
    everyone = Fold(known, np.concatenate([data.aptitude.outcome_BM, anchor.outcome_BM], axis=1))
    chosen = choose(family(data, everyone, seed), data.val)
    return Predictor(lambda x: chosen(x)[:, data.num_candidates :], chosen.chosen, chosen.val_log_loss)
