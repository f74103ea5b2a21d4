"""What of an outcome table is measured on, and random parts of it for methods that cost too much to be measured on all."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes import OutcomeTable
from satjax.outcomes.splits import asking_the_same

SEED = 0
"""One drawing for everybody: what is measured on equally many instructions of a table is measured on the same ones."""


def evaluated(table: OutcomeTable, split: str, aptitude_items: Collection[str]) -> np.ndarray:
    """bool `[N]`: the split's items that are not of the aptitude test, and ask nothing that it asks.

    Raises SatjaxError naming the splits that have any if this one has none.
    """
    split_of_N = np.array([item.split for item in table.items], str)
    split_of_N[asking_the_same(aptitude_items, table.items)] = ""
    if split not in split_of_N:
        present = ", ".join(sorted(set(split_of_N) - {""})) or "none at all"
        raise SatjaxError(
            f"the outcome table has no items of split {split!r} that are not of the aptitude test; it has {present}"
        )
    return split_of_N == split


def draw_items(table: OutcomeTable, split: str, limit: int, aptitude_items: Collection[str] = ()) -> OutcomeTable:
    """The table with only `limit` of a split's `evaluated` items; its other splits stay whole.

    A larger drawing holds every smaller one. Raises SatjaxError for a limit below 2, which has no interval.
    """
    if limit < 2:
        raise SatjaxError(f"limit {limit}: at least 2 instructions are needed")
    open_N = evaluated(table, split, aptitude_items)
    drawn = np.random.default_rng(SEED).permutation(np.flatnonzero(open_N))[:limit]
    kept_N = ~table.of_split(split)
    kept_N[drawn] = True
    return table.select_items(kept_N)


def draw_pairs(table: OutcomeTable, each: int) -> OutcomeTable:
    """The items of `each` outcomes of every candidate, on items of its own drawn at random; all others are unobserved.

    So few outcomes say more together than the same number on few items would.
    """
    rng = np.random.default_rng(SEED)
    drawn_MN = np.zeros(table.scores_MN.shape, bool)
    for drawn_N, scores_N in zip(drawn_MN, table.scores_MN, strict=True):
        drawn_N[rng.permutation(np.flatnonzero(~np.isnan(scores_N)))[:each]] = True
    scores_MN = np.where(drawn_MN, table.scores_MN, np.float32(np.nan))
    return replace(table, scores_MN=scores_MN).select_items(np.flatnonzero(drawn_MN.any(axis=0)))
