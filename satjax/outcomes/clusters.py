"""Tasks for a source that names none, or too few: clusters of its instructions by their words."""

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.table import OutcomeTable

COMPONENTS = 100
"""Dimensions of the latent semantic space in which instructions are clustered."""
WITHOUT_BLANKS = re.compile(
    r"[\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\U00020000-\U0003ffff]+"
)
"""Runs of Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese, which are written without blanks between words."""


def cluster_tasks(table: OutcomeTable, num_clusters: int, seed: int) -> OutcomeTable:
    """The table with its training items sorted into `num_clusters` tasks by `cluster_numbers`."""
    return with_clusters(table, cluster_numbers(table, num_clusters, seed))


def with_clusters(table: OutcomeTable, number_N: np.ndarray) -> OutcomeTable:
    """The table with tasks `cluster 1` and so on, by the numbers of its training items; other items stay as they are."""
    items = list(table.items)
    for i, number in zip(np.flatnonzero(table.of_split("train")), number_N.tolist(), strict=True):
        items[i] = dataclasses.replace(items[i], task=f"cluster {number}")
    return dataclasses.replace(table, items=tuple(items))


def cluster_numbers(table: OutcomeTable, num_clusters: int, seed: int) -> np.ndarray:
    """For every training item the number of its cluster, int32 `[N]`: 1 is the largest. The texts of the training split are all that it reads.

    k-means on the unit sphere of latent semantic analysis (TF-IDF of words, or of one and two characters where there are no blanks between
    words; 100 components; Deerwester et al. 1990): on a machine with another number of
    cores, sums are rounded otherwise, and a few clusters may be others. Raises SatjaxError where there are fewer different texts than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    texts = [table.items[i].text for i in np.flatnonzero(table.of_split("train"))]
    if len(set(texts)) < num_clusters:
        raise SatjaxError(
            f"config aptitude.clusters = {num_clusters}: there are {len(set(texts))} different training instructions; lower it"
        )
    try:
        terms = _terms(TfidfVectorizer(stop_words="english").build_analyzer())
        words_NV = TfidfVectorizer(analyzer=terms, sublinear_tf=True).fit_transform(texts)
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
    number = np.empty(num_clusters, np.int32)
    number[order] = np.arange(1, num_clusters + 1)
    return number[cluster_N]


def _terms(words: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """What tells of a text what it is about: its words, and one and two characters at a time of what is written without blanks."""

    def terms(text: str) -> list[str]:
        runs = WITHOUT_BLANKS.findall(text)
        pairs = (run[n : n + 2] for run in runs for n in range(len(run) - 1))
        return [*words(WITHOUT_BLANKS.sub(" ", text)), *"".join(runs), *pairs]

    return terms
