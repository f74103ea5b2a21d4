"""Tasks for a source that names none, or too few: clusters of its instructions by their words."""

import dataclasses

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.table import OutcomeTable

COMPONENTS = 100
"""Dimensions of the latent semantic space in which instructions are clustered."""


def cluster_tasks(table: OutcomeTable, num_clusters: int, seed: int) -> OutcomeTable:
    """The table with its training items sorted into `num_clusters` tasks, `cluster 1` and so on, the largest first; other items stay as they are.

    k-means on the unit sphere of latent semantic analysis (TF-IDF, 100 components; Deerwester et al. 1990). The texts of the training split
    are all that it reads. Raises SatjaxError where there are fewer different texts than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    train = [i for i, item in enumerate(table.items) if item.split == "train"]
    texts = [table.items[i].text for i in train]
    if len(set(texts)) < num_clusters:
        raise SatjaxError(
            f"config aptitude.clusters = {num_clusters}: there are {len(set(texts))} different training instructions; lower it"
        )
    try:
        words_NV = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(texts)
    except ValueError as error:
        raise SatjaxError(
            f"config aptitude.clusters = {num_clusters}: the training instructions hold no words to cluster by; set it to 0"
        ) from error
    dimensions = min(COMPONENTS, min(words_NV.shape) - 1)
    place_ND = (
        normalize(TruncatedSVD(dimensions, random_state=seed).fit_transform(words_NV)) if dimensions else words_NV
    )
    cluster_N = KMeans(num_clusters, n_init=4, random_state=seed).fit_predict(place_ND)
    order = np.argsort(-np.bincount(cluster_N, minlength=num_clusters), kind="stable")
    number_of = {int(cluster): number for number, cluster in enumerate(order, start=1)}
    items = list(table.items)
    for i, cluster in zip(train, cluster_N, strict=True):
        items[i] = dataclasses.replace(items[i], task=f"cluster {number_of[int(cluster)]}")
    return dataclasses.replace(table, items=tuple(items))
