"""Baselines that average outcomes over similar instructions: nearest neighbours and clusters of embeddings."""

from functools import partial
from itertools import product
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.cluster import KMeans
from sklearn.neighbors import NearestNeighbors

from satjax.evaluation.baselines.data import BaselineData, Fold, Instructions
from satjax.evaluation.baselines.means import group_means, weighted_means
from satjax.evaluation.baselines.tuning import Settings

NEIGHBOURS = (12, 25, 50, 100, 200, 400)
TEMPERATURE = (0.1, 0.2, 1.0)
"""Of cosines; at 1 neighbours weigh almost the same."""
CLUSTERS = (4, 8, 16, 32, 64, 128, 256)
SMOOTHING = (1.0, 10.0)


def neighbours(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """Each candidate's mean outcome on the k nearest instructions by cosine, smoothed (RouterBench, arXiv 2403.12031).

    A neighbour weighs `exp((cosine - nearest cosine) / temperature)`.
    """
    search = NearestNeighbors(metric="cosine", algorithm="brute").fit(scored.instructions.embedding_BE)
    most = len(scored.instructions.tasks)
    for count, temperature, smoothing in product(sorted({min(k, most) for k in NEIGHBOURS}), TEMPERATURE, SMOOTHING):
        setting: dict[str, Any] = {"neighbours": count, "temperature": temperature, "smoothing": smoothing}
        yield setting, partial(_near_means, search, scored.outcome_BM, **setting)


def _near_means(
    search: NearestNeighbors,
    outcome_BM: np.ndarray,
    instructions: Instructions,
    *,
    neighbours: int,
    temperature: float,
    smoothing: float,
) -> np.ndarray:
    distance_QK, index_QK = search.kneighbors(instructions.embedding_BE, neighbours)
    weight_QK = np.exp((distance_QK[:, :1] - distance_QK) / temperature)
    start_Q = np.arange(len(index_QK) + 1) * neighbours
    shape = (len(index_QK), len(outcome_BM))
    return weighted_means(csr_array((weight_QK.ravel(), index_QK.ravel(), start_Q), shape=shape), outcome_BM, smoothing)


def clusters(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """Each candidate's mean outcome on the instruction's k-means cluster, smoothed.

    Clusters are of the training instructions' embeddings, whose outcomes they do not need; the means are over the
    scored instructions (UniRoute, arXiv 2502.08773; the Avengers, arXiv 2505.19797).
    """
    space_BE = data.train.instructions.embedding_BE
    for count in sorted({min(k, len(space_BE)) for k in CLUSTERS}):
        means = KMeans(count, random_state=seed).fit(space_BE)
        group_B = means.predict(scored.instructions.embedding_BE)
        for smoothing in SMOOTHING:
            mean_GM = group_means(group_B, count, scored.outcome_BM, smoothing)

            def function(
                instructions: Instructions, means: KMeans = means, mean_GM: np.ndarray = mean_GM
            ) -> np.ndarray:
                return mean_GM[means.predict(instructions.embedding_BE)]

            yield {"clusters": count, "smoothing": smoothing}, function
