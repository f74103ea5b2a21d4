"""Calibration of a router's probabilities, as data: Platt's logistic map of the score (Platt 1999), or an isotonic one (Zadrozny and Elkan 2002)."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from satjax.errors import SatjaxError
from satjax.files import write_text

VERSION = 2
SMALLEST_BLOCK = 0.01
"""Share of the pairs that a step of an isotonic map rests on at least."""
ROUNDING = 1e-7
"""Of a score, which is float32: scores that differ by no more are all the same."""


@dataclass(frozen=True)
class Threshold:
    """Where "the cheapest candidate whose probability is at least `threshold`" keeps a `share` of the mean outcome of always asking the best one.

    `outcome` and `cost_usd` are means per instruction, of held-out instructions that the threshold was not chosen on; `best_outcome` and
    `best_cost_usd` those of always asking the best one there.
    """

    share: float
    threshold: float
    outcome: float
    cost_usd: float
    best_outcome: float
    best_cost_usd: float


@dataclass(frozen=True)
class Calibration:
    """`probability = sigmoid(scale * score + offset)`; the default leaves scores as trained.

    With `knots`, pairs of score and probability that rise strictly, the map is isotonic: the log odds are linear between knots, and go on
    beyond the outer ones with slope `scale`. `fitted_on` counts instructions.
    """

    scale: float = 1.0
    offset: float = 0.0
    fitted_on: int = 0
    knots: tuple[tuple[float, float], ...] = ()
    thresholds: tuple[Threshold, ...] = ()

    def __post_init__(self) -> None:
        if self.knots:
            score_K, probability_K = np.array(self.knots, np.float64).T
            rises = bool(np.all(np.diff(score_K) > 0) and np.all(np.diff(probability_K) > 0) and self.scale > 0)
            if not rises or not probability_K[0] > 0 or not probability_K[-1] < 1 or not np.isfinite(score_K).all():
                raise SatjaxError(
                    "calibration: the knots of an isotonic map rise in score and in probability, inside (0, 1)"
                )

    def probability(self, score_BM: np.ndarray, dtype: type[np.floating] = np.float32) -> np.ndarray:
        """Probabilities, of the shape of `score_BM`: float64 ones keep apart what float32 rounds to 1."""
        # A steep map of close scores takes a small difference of large products.
        score_BM = np.asarray(score_BM, np.float64)
        if not self.knots:
            return _sigmoid(self.scale * score_BM + self.offset).astype(dtype)
        score_K, probability_K = np.array(self.knots, np.float64).T
        inside_BM = np.interp(score_BM, score_K, np.log(probability_K / (1 - probability_K)))
        beyond_BM = score_BM - np.clip(score_BM, score_K[0], score_K[-1])
        return _sigmoid(inside_BM + self.scale * beyond_BM).astype(dtype)

    def write(self, path: Path) -> None:
        """As JSON."""
        write_text(path, json.dumps({"version": VERSION, **asdict(self)}, indent=1))


def _sigmoid(log_odds_BM: np.ndarray) -> np.ndarray:
    """SciPy has one, but takes half a second to import, and ranking needs nothing else of it."""
    return 1 / (1 + np.exp(-np.clip(log_odds_BM, -60, 60)))


def read_calibration(path: Path) -> Calibration:
    """Reads what `Calibration.write` wrote, and the files of before, which had a scale and an offset only."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value.get("version", 1) not in (1, VERSION):
            raise ValueError(f"it has version {value['version']!r}")
        knots = tuple((float(score), float(probability)) for score, probability in value.get("knots", ()))
        thresholds = tuple(_threshold(entry) for entry in value.get("thresholds", ()))
        return Calibration(float(value["scale"]), float(value["offset"]), int(value["fitted_on"]), knots, thresholds)
    except (
        OSError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        SatjaxError,
    ) as error:
        raise SatjaxError(f"{path} is no calibration ({error}); copy the router again") from error


def _threshold(entry: dict[str, Any]) -> Threshold:
    return Threshold(**{name: float(value) for name, value in entry.items()})


def fit_calibration(score_BM: np.ndarray, outcome_BM: np.ndarray) -> Calibration:
    """Platt's map: maximum likelihood over the observed outcomes; soft outcomes count for both classes by their share.

    Scores that are right for no candidate, or carry no order (all the same, or a non-positive scale), leave the calibration as it is.
    """
    from sklearn.linear_model import LogisticRegression

    observed = ~np.isnan(outcome_BM)
    score, outcome = score_BM[observed].astype(np.float64), outcome_BM[observed].astype(np.float64)
    if not 0 < outcome.sum() < len(outcome) or score.std() <= ROUNDING * np.abs(score).max():
        return Calibration()
    # Standardized, since the solver stops at a gradient that scores of a small spread never exceed.
    mean, spread = float(score.mean()), float(score.std())
    twice, label = np.tile((score - mean) / spread, 2)[:, None], np.repeat([1, 0], len(score))
    fit = LogisticRegression(C=1e4, tol=1e-8, max_iter=1000)
    fit.fit(twice, label, sample_weight=np.concatenate([outcome, 1 - outcome]))
    scale = float(fit.coef_[0, 0]) / spread
    offset = float(fit.intercept_[0]) - scale * mean
    return Calibration(scale, offset, int(observed.any(axis=1).sum())) if scale > 0 else Calibration()


def fit_isotonic(score_BM: np.ndarray, outcome_BM: np.ndarray) -> Calibration:
    """The isotonic map: mean outcomes of the blocks that isotonic regression pools, at their mean scores.

    Between these the log odds are linear, so that unlike plain isotonic regression it keeps the order of all scores, which ranking needs. Small
    blocks are joined to their neighbours; beyond the outer ones, Platt's map goes on. Where that finds no order, or there are no two blocks,
    it is Platt's.
    """
    from sklearn.isotonic import IsotonicRegression

    platt = fit_calibration(score_BM, outcome_BM)
    observed = ~np.isnan(outcome_BM)
    score, outcome = score_BM[observed].astype(np.float64), outcome_BM[observed].astype(np.float64)
    if not platt.fitted_on:
        return platt
    pooled = IsotonicRegression(y_min=0, y_max=1).fit_transform(score, outcome)
    _, block, count_K = np.unique(pooled, return_inverse=True, return_counts=True)
    group_K = _groups(count_K, SMALLEST_BLOCK * len(score))
    of_pair = group_K[block]
    count = np.bincount(of_pair)
    score_K = np.bincount(of_pair, weights=score) / count
    certain = 0.5 / len(score)
    probability_K = np.clip(np.bincount(of_pair, weights=outcome) / count, certain, 1 - certain)
    if len(count) < 2 or np.any(np.diff(score_K) <= 0) or np.any(np.diff(probability_K) <= 0):
        return platt
    knots = tuple(zip(score_K.tolist(), probability_K.tolist(), strict=True))
    return Calibration(platt.scale, platt.offset, platt.fitted_on, knots)


def _groups(count_K: np.ndarray, least: float) -> np.ndarray:
    """A number for each block, in order, such that the blocks of each number have at least `least` pairs together."""
    group_K, group, held = np.zeros(len(count_K), int), 0, 0
    for k, count in enumerate(count_K):
        group_K[k], held = group, held + count
        if held >= least and count_K[k + 1 :].sum() >= least:
            group, held = group + 1, 0
    return group_K


FITS: dict[str, Callable[[np.ndarray, np.ndarray], Calibration]] = {"platt": fit_calibration, "isotonic": fit_isotonic}


def cross_fitted(method: str, score_BM: np.ndarray, outcome_BM: np.ndarray, fold_B: np.ndarray) -> np.ndarray:
    """Probabilities float32 `[B, M]`, each by a map that was fitted on the instructions of other folds; `fold_B` int says which each is in."""
    probability_BM = np.empty(score_BM.shape, np.float32)
    for fold in np.unique(fold_B):
        inside = fold_B == fold
        fit = FITS[method](score_BM[~inside], outcome_BM[~inside])
        probability_BM[inside] = fit.probability(score_BM[inside])
    return probability_BM
