"""Five keywords per task: curated for MMLU's subjects, class-based TF-IDF for any other."""

import re
from collections.abc import Sequence

import numpy as np

from satjax.aptitude.mmlu_keywords import MMLU_KEYWORDS
from satjax.outcomes import OutcomeTable

NUM_KEYWORDS = 5
WORD = r"(?u)\b[^\W\d_]{3,}\b"


def task_keywords(table: OutcomeTable, tasks: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Five distinct words for each task, from the texts of `table` where they are not curated."""
    open_tasks = [task for task in tasks if task not in MMLU_KEYWORDS]
    found = _class_tfidf(table, open_tasks) if open_tasks else {}
    return {task: MMLU_KEYWORDS.get(task) or found[task] for task in tasks}


def _class_tfidf(table: OutcomeTable, tasks: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """c-TF-IDF (Grootendorst 2022): a term's share of a task's words times `log(1 + A / f)`.

    A is the mean number of words in a task and f the term's count over all tasks of the table; equal weights go by the alphabet.
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import CountVectorizer

    every = list(table.tasks)
    texts: dict[str, list[str]] = {task: [] for task in every}
    for item in table.items:
        texts[item.task].append(item.text)
    vectorizer = CountVectorizer(stop_words="english", token_pattern=WORD, strip_accents=None)
    try:
        # A row for each task, which stays sparse: thousands of tasks have hundreds of thousands of words.
        counts = csr_array(vectorizer.fit_transform([" ".join(texts[task]) for task in every]), dtype=np.float64)
        words = vectorizer.get_feature_names_out()
    except ValueError:  # nothing but stop words
        counts, words = csr_array((len(every), 0), dtype=np.float64), np.array([], str)
    size = np.maximum(counts.sum(axis=1), 1)
    rarity = np.log(1 + size.mean() / np.maximum(counts.sum(axis=0), 1))
    keywords = {}
    for task in tasks:
        place = every.index(task)
        row = counts[[place]]
        own, weight = words[row.indices], row.data / size[place] * rarity[row.indices]
        best = [str(own[i]) for i in np.lexsort((own, -weight))]
        fallback = [word.lower() for word in re.findall(r"[^\W\d_]+", task)] + [
            f"topic{i}" for i in range(1, NUM_KEYWORDS + 1)
        ]
        keywords[task] = tuple(dict.fromkeys([*best[:NUM_KEYWORDS], *fallback]))[:NUM_KEYWORDS]
    return keywords
