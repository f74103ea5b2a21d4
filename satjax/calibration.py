"""Calibration of a router's probabilities: Platt's logistic map of the score (Platt 1999)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from satjax.errors import SatjaxError
from satjax.files import write_text


@dataclass(frozen=True)
class Calibration:
    """`probability = sigmoid(scale * score + offset)`; the default leaves scores as trained."""

    scale: float = 1.0
    offset: float = 0.0
    fitted_on: int = 0

    def probability(self, score_BM: np.ndarray) -> np.ndarray:
        """Probabilities, float32 of the shape of `score_BM`."""
        return (1.0 / (1.0 + np.exp(-np.clip(self.scale * score_BM + self.offset, -60, 60)))).astype(np.float32)

    def write(self, path: Path) -> None:
        """As JSON."""
        write_text(path, json.dumps(asdict(self), indent=1))


def read_calibration(path: Path) -> Calibration:
    """Reads what `Calibration.write` wrote."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return Calibration(float(value["scale"]), float(value["offset"]), int(value["fitted_on"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SatjaxError(f"{path} is no calibration ({error}); export the router again") from error


def fit_calibration(score_BM: np.ndarray, outcome_BM: np.ndarray) -> Calibration:
    """Maximum likelihood over the observed outcomes; soft outcomes count for both classes by their share.

    Scores that are right for no candidate, or carry no order (a non-positive scale), leave the calibration as it is.
    """
    from sklearn.linear_model import LogisticRegression

    observed = ~np.isnan(outcome_BM)
    score, outcome = score_BM[observed].astype(np.float64), outcome_BM[observed].astype(np.float64)
    if not 0 < outcome.sum() < len(outcome):
        return Calibration()
    twice, label = np.concatenate([score, score])[:, None], np.repeat([1, 0], len(score))
    fit = LogisticRegression(C=1e4).fit(twice, label, sample_weight=np.concatenate([outcome, 1 - outcome]))
    scale = float(fit.coef_[0, 0])
    return (
        Calibration(scale, float(fit.intercept_[0]), int((observed.any(axis=1)).sum())) if scale > 0 else Calibration()
    )
