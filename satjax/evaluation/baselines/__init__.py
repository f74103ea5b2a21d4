"""What a router has to beat: baselines under one contract, `Baseline.fit(data, seed) -> Predictor`.

Each is fitted on the train fold and tuned on the validation fold; test outcomes are never passed. A uniformly random
candidate, the best single one and the oracle need no fitting: `satjax.metrics.routing` gives them for any outcomes.

`rerank` and `llm_text`, modules beside these, have a contract of their own (`zero_shot.ZeroShot`): they read texts, and nothing but a
calibration is fitted.
"""

from dataclasses import dataclass

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
from satjax.evaluation.baselines.tuning import Family, fit_seen, fit_unseen


@dataclass(frozen=True)
class Baseline:
    """A family for the candidates of the training fold, `seen`, one for new ones, `unseen`, and what they go by.

    `reads_text`: embeddings of the instructions. `knows_tasks`: an instruction's true task, which a router is not told; such a baseline has
    nothing to say of a category that it has never met. `reads_aptitude`: what candidates of the training fold made of the aptitude test.
    `random`: chance, so that another seed is another fit.
    """

    seen: Family
    unseen: Family
    reads_text: bool = True
    knows_tasks: bool = False
    reads_aptitude: bool = False
    random: bool = True

    def fit(self, data: BaselineData, seed: int) -> Predictor:
        """For the candidates of the training fold."""
        return fit_seen(self.seen, data, seed)

    def fit_unseen(self, data: BaselineData, anchor: Fold, seed: int) -> Predictor:
        """For candidates known by `anchor` only, their aptitude outcomes."""
        return fit_unseen(self.unseen, data, anchor, seed)


BASELINES = {
    "candidate_means": Baseline(means.candidate_means, means.candidate_means, reads_text=False, random=False),
    "subject_means": Baseline(
        means.subject_means, means.subject_means, reads_text=False, knows_tasks=True, random=False
    ),
    "neighbours": Baseline(neighbours.neighbours, neighbours.neighbours, random=False),
    "clusters": Baseline(neighbours.clusters, neighbours.clusters),
    "logistic": Baseline(logistic.logistic, logistic.logistic, random=False),
    "mlp": Baseline(factors.mlp.seen, factors.mlp.unseen),
    "forest": Baseline(forest.forest, forest.forest_unseen, reads_aptitude=True),
    "matrix_factorization": Baseline(factors.matrix_factorization.seen, factors.matrix_factorization.unseen),
    "item_response": Baseline(factors.item_response.seen, factors.item_response.unseen),
}
"""By name."""

__all__ = [
    "BASELINES",
    "Baseline",
    "BaselineData",
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
