"""The outcome table: items, candidates, and how well each candidate did on each item."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from satjax.errors import SatjaxError, unknown_name

SPLITS = ("train", "val", "test")
MOST_PAIRS = 2**29
"""Of a candidate and an item, observed or not, in a table: 2 GiB of scores."""
ROUNDING = 1e-6
"""By how much a score that was computed in float32 may lie outside [0, 1]; it counts as the end that it is at."""
FEWEST_OUTCOMES = 100
"""Of a candidate in training, from which an ability of its own is learned. In simulated logs of one candidate an instruction, a candidate's mean
probability was wrong by 0.15 with 10 outcomes, 0.09 with 30 and 0.06 with 100 where it was learned; where it was measured by the same
outcomes, with the other candidates as a prior, by 0.11, 0.07 and 0.04. A learned ability has no such prior."""
DATE = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?")
"""Of a release: as text such dates stand in their order."""


@dataclass(frozen=True, slots=True)
class Item:
    """One instruction as the candidates saw it; `task` is the fine subject, `category` the coarse one."""

    id: str
    text: str
    task: str
    category: str = ""
    source: str = ""
    split: str = "train"
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One LLM that could answer; sizes in billions of parameters, `release_date` as YYYY-MM or YYYY-MM-DD.

    Raises SatjaxError for any other date; None or an empty one is unknown. So too for an id with characters that do not print, which would go
    to terminals, pages and cards as they are.
    """

    id: str
    params_b: float | None = None
    active_params_b: float | None = None
    family: str | None = None
    tuned: str | None = None
    release_date: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        if not self.id.isprintable():
            raise SatjaxError(
                f"candidate {self.id[:40]!r} has characters in its id that do not print; rename it in the outcomes"
            )
        if self.release_date and not DATE.fullmatch(self.release_date):
            raise SatjaxError(
                f"candidate {self.id!r} has the release_date {self.release_date[:40]!r}; write it as YYYY-MM, or leave it out"
            )


@dataclass(frozen=True)
class OutcomeTable:
    """Scores `float32[M, N]` of M candidates on N items: in [0, 1], NaN where unobserved; `cost_usd_MN` likewise, in US dollars.

    Raises SatjaxError on construction for shapes that do not fit, ids that stand twice, empty texts, unknown splits and scores
    outside [0, 1], naming the first offender.
    """

    items: tuple[Item, ...]
    candidates: tuple[Candidate, ...]
    scores_MN: np.ndarray
    cost_usd_MN: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = (len(self.candidates), len(self.items))
        for name, matrix in (("scores", self.scores_MN), ("cost_usd", self.cost_usd_MN)):
            if matrix is not None and (matrix.shape != shape or matrix.dtype != np.float32):
                raise SatjaxError(f"outcome table: {name} are {matrix.dtype}{matrix.shape}; float32{shape} is expected")
        _unique("item", [item.id for item in self.items])
        _unique("candidate", [candidate.id for candidate in self.candidates])
        for item in self.items:
            if not item.text.strip():
                raise SatjaxError(f"outcome table: item {item.id!r} has an empty text; give it one, or leave it out")
            if item.split not in SPLITS:
                raise SatjaxError(
                    f"outcome table: item {item.id!r} has split {item.split!r}; use one of {', '.join(SPLITS)}"
                )
        bad = ~np.isnan(self.scores_MN) & ~((self.scores_MN >= 0) & (self.scores_MN <= 1))
        if bad.any():
            m, n = np.argwhere(bad)[0]
            raise SatjaxError(
                f"outcome table: score {self.scores_MN[m, n]:g} of candidate {self.candidates[m].id!r} on item {self.items[n].id!r} "
                "is outside [0, 1]; rescale the scores"
            )
        cost = self.cost_usd_MN
        if cost is not None and (bad := np.isinf(cost) | (cost < 0)).any():
            m, n = np.argwhere(bad)[0]
            raise SatjaxError(
                f"outcome table: cost {cost[m, n]:g} of candidate {self.candidates[m].id!r} on item {self.items[n].id!r} "
                "is no amount of US dollars; mend it, or leave it out"
            )

    @property
    def candidate_ids(self) -> tuple[str, ...]:
        """Ids in the order of the rows."""
        return tuple(candidate.id for candidate in self.candidates)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids in the order of the columns."""
        return tuple(item.id for item in self.items)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task of the items, sorted."""
        return tuple(sorted({item.task for item in self.items}))

    @property
    def categories(self) -> tuple[str, ...]:
        """Every category of the items, sorted."""
        return tuple(sorted({item.category for item in self.items}))

    def of_split(self, name: str) -> np.ndarray:
        """bool `[N]`: the items of one split; none where it has none."""
        return np.array([item.split == name for item in self.items], bool)

    def split(self, name: str) -> "OutcomeTable":
        """The items of one split; raises SatjaxError naming the splits that are there if it has none."""
        chosen = self.of_split(name)
        if not chosen.any():
            present = sorted({item.split for item in self.items})
            raise SatjaxError(
                f"the outcome table has no items of split {name!r}; it has {', '.join(present) or 'none at all'}"
            )
        return self.select_items(chosen)

    def select_items(self, index: np.ndarray) -> "OutcomeTable":
        """The items of a boolean mask `[N]` or of an integer index, in that order."""
        index = np.asarray(index)
        if index.dtype == bool and index.shape != (len(self.items),):
            raise SatjaxError(f"outcome table: a mask of shape {index.shape} does not fit its {len(self.items)} items")
        columns = np.flatnonzero(index) if index.dtype == bool else index.astype(np.intp)
        cost = None if self.cost_usd_MN is None else self.cost_usd_MN[:, columns]
        return replace(
            self, items=tuple(self.items[i] for i in columns), scores_MN=self.scores_MN[:, columns], cost_usd_MN=cost
        )

    def without_categories(self, names: Sequence[str]) -> "OutcomeTable":
        """The items of all other categories; raises SatjaxError with the nearest names for one that is not there."""
        for name in names:
            if name not in self.categories:
                raise unknown_name("category", name, self.categories)
        return self.select_items(np.array([item.category not in names for item in self.items], bool)) if names else self

    def select_candidates(self, ids: Sequence[str]) -> "OutcomeTable":
        """These candidates, in that order; raises SatjaxError with the nearest names for one that is not there."""
        row = {name: i for i, name in enumerate(self.candidate_ids)}
        for name in ids:
            if name not in row:
                raise unknown_name("candidate", name, row)
        rows = np.array([row[name] for name in ids], int)
        cost = None if self.cost_usd_MN is None else self.cost_usd_MN[rows]
        return replace(
            self, candidates=tuple(self.candidates[i] for i in rows), scores_MN=self.scores_MN[rows], cost_usd_MN=cost
        )


def often_tried(scores_MN: np.ndarray) -> np.ndarray:
    """bool `[M]`: candidates that were tried on at least half as many items as the most tried one.

    In a table of several sources another one's mean says little: a single outcome can make it the best.
    """
    count_M = (~np.isnan(scores_MN)).sum(axis=1)
    return (count_M > 0) & (2 * count_M >= count_M.max(initial=0))


def seldom_tried(scores_MN: np.ndarray) -> np.ndarray:
    """bool `[M]`: candidates with too few outcomes to learn an ability from, where others have more: in a small table few are enough."""
    return ((~np.isnan(scores_MN)).sum(axis=1) < FEWEST_OUTCOMES) & ~often_tried(scores_MN)


def check_size(num_candidates: int, num_items: int) -> None:
    """Raises SatjaxError for a table that would not fit into memory, however few of its outcomes are observed."""
    if num_candidates * num_items > MOST_PAIRS:
        raise SatjaxError(
            f"{num_candidates:,} candidates and {num_items:,} items make more than {MOST_PAIRS:,} pairs, which are held in memory whole; "
            "is the column of the candidates the right one? Otherwise, leave some out"
        )


def _unique(kind: str, ids: list[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise SatjaxError(f"outcome table: {kind} {name!r} stands twice; keep one of them")
        seen.add(name)
