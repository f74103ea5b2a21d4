"""Baseline: one logistic regression on the embedding for each candidate."""

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from satjax.evaluation.baselines.data import BaselineData, Fold, Instructions
from satjax.evaluation.baselines.means import candidate_mean
from satjax.evaluation.baselines.tuning import SMALLEST, Settings

INVERSE_PENALTY = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def logistic(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """Logistic regression with an L2 penalty, the same for every candidate; soft outcomes weigh in both classes."""
    embedding_BE = scored.instructions.embedding_BE
    mean_M = candidate_mean(scored.outcome_BM)
    for inverse_penalty in INVERSE_PENALTY:
        columns = [
            _fit(embedding_BE, outcome_B, mean, inverse_penalty)
            for outcome_B, mean in zip(scored.outcome_BM.T, mean_M, strict=True)
        ]
        weight_EM = np.stack([weight_E for weight_E, _ in columns], axis=1)
        offset_M = np.array([offset for _, offset in columns])

        def function(
            instructions: Instructions, weight_EM: np.ndarray = weight_EM, offset_M: np.ndarray = offset_M
        ) -> np.ndarray:
            return expit(instructions.embedding_BE @ weight_EM + offset_M)

        yield {"inverse_penalty": inverse_penalty}, function


def _fit(
    embedding_BE: np.ndarray, outcome_B: np.ndarray, mean: float, inverse_penalty: float
) -> tuple[np.ndarray, float]:
    """Weights `[E]` and offset of one candidate; its smoothed mean alone where all its outcomes are of one class, and `mean` where it has none."""
    seen = ~np.isnan(outcome_B)
    if not seen.any():
        return np.zeros(embedding_BE.shape[1]), float(logit(np.clip(mean, SMALLEST, 1 - SMALLEST)))
    share = np.concatenate([outcome_B[seen], 1 - outcome_B[seen]])
    label, used = np.repeat([1, 0], seen.sum()), share > 0
    if len(set(label[used])) < 2:
        mean = (seen.sum() * mean + 0.5) / (seen.sum() + 1)
        return np.zeros(embedding_BE.shape[1]), float(logit(mean))
    twice = np.concatenate([embedding_BE[seen], embedding_BE[seen]])
    model = LogisticRegression(C=inverse_penalty, solver="newton-cholesky", max_iter=100)
    fit = model.fit(twice[used].astype(np.float64), label[used], sample_weight=share[used])
    return fit.coef_[0], float(fit.intercept_[0])
