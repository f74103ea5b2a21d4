"""What a router has to beat: baselines under one contract, `fit(data, seed) -> Predictor`.

Each is fitted on the train fold and tuned on the validation fold; test outcomes are never passed. A uniformly random
candidate, the best single one and the oracle need no fitting: `satjax.metrics.routing` gives them for any outcomes.

`rerank` and `llm_text`, modules beside these, have a contract of their own (`zero_shot.ZeroShot`): they read texts, and nothing but a
calibration is fitted.
"""

from satjax.evaluation.baselines import factors, forest, logistic, means, neighbours
from satjax.evaluation.baselines.data import (
    BaselineData,
    Fold,
    Instructions,
    Predictor,
    aptitude_fold,
    aptitude_places,
    baseline_data,
    check_splits,
    fold_of,
)
from satjax.evaluation.baselines.kept import Fitted, fitted
from satjax.evaluation.baselines.tuning import Fit, FitUnseen, for_seen, for_unseen

BASELINES: dict[str, Fit] = {
    "candidate_means": for_seen(means.candidate_means),
    "subject_means": for_seen(means.subject_means),
    "neighbours": for_seen(neighbours.neighbours),
    "clusters": for_seen(neighbours.clusters),
    "logistic": for_seen(logistic.logistic),
    "mlp": for_seen(factors.mlp),
    "forest": for_seen(forest.forest),
    "matrix_factorization": for_seen(factors.matrix_factorization),
    "item_response": for_seen(factors.item_response),
}
"""`fit(data, seed)` by name. `subject_means` knows the true task of an instruction, which a router is not told."""
READ_APTITUDE = ("forest",)
"""Those of them that read what candidates made of the aptitude test."""

UNSEEN_BASELINES: dict[str, FitUnseen] = {
    "candidate_means": for_unseen(means.candidate_means),
    "subject_means": for_unseen(means.subject_means),
    "neighbours": for_unseen(neighbours.neighbours),
    "clusters": for_unseen(neighbours.clusters),
    "logistic": for_unseen(logistic.logistic),
    "mlp": for_unseen(factors.mlp_unseen),
    "forest": for_unseen(forest.forest_unseen),
    "matrix_factorization": for_unseen(factors.matrix_factorization_unseen),
    "item_response": for_unseen(factors.item_response_unseen),
}
"""`fit_unseen(data, anchor, seed)` by name: for candidates known by `anchor` only, their aptitude outcomes."""

__all__ = [
    "BASELINES",
    "READ_APTITUDE",
    "UNSEEN_BASELINES",
    "BaselineData",
    "Fit",
    "FitUnseen",
    "Fitted",
    "Fold",
    "Instructions",
    "Predictor",
    "aptitude_fold",
    "aptitude_places",
    "baseline_data",
    "check_splits",
    "fitted",
    "fold_of",
]
