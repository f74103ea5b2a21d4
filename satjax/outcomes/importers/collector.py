"""Outcomes as they are read, one at a time, until they make a table."""

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.table import ROUNDING, Candidate, Item, OutcomeTable, check_size

MOST_TEXT = 2**31
"""Characters of all items."""
DEAREST = 1e30
"""US dollars; float32 holds not much more."""


class Collector:
    """Items and candidates in the order in which they are first met, with one outcome for each pair, or with `repeats` the mean of several.

    `where` is the file and place that an outcome comes from, as errors name it.
    """

    def __init__(self, repeats: bool = False) -> None:
        self._repeats = repeats
        self._items: dict[str, Item] = {}
        self._fingerprints: dict[str, str] = {}
        self._scores, self._costs = _Means(), _Means()
        # Of calls that may have failed, and been made again.
        self._costs_unscored = _Means()
        self._characters = 0

    def __contains__(self, candidate: str) -> bool:
        return candidate in self._scores.sums

    @property
    def num_repeated(self) -> int:
        """Pairs of several outcomes."""
        return len(self._scores.counts)

    def item(self, item: Item, where: str, fingerprint: str | None = None) -> Item:
        """The item as it was first met under this id.

        Raises SatjaxError for an empty text, for text that is no Unicode, and for another question than before: another `fingerprint`, which is the text unless given.
        """
        known = self._items.get(item.id)
        if known is None:
            if not item.text.strip():
                raise SatjaxError(f"{where}: item {item.id!r} has an empty text; leave it out")
            of_item = (item.id, item.text, item.task, item.category, item.source, item.answer or "")
            check_unicode(where, f"item {item.id!r}", *of_item)
            self._characters += len(item.text)
            if self._characters > MOST_TEXT:
                raise SatjaxError(f"{where}: the items have more than {MOST_TEXT:,} characters; import them in parts")
            known = self._items[item.id] = item
            self._fingerprints[item.id] = item.text if fingerprint is None else fingerprint
        elif self._fingerprints[item.id] != (item.text if fingerprint is None else fingerprint):
            raise SatjaxError(
                f"{where}: item {item.id!r} is another question than before; import files of one release together"
            )
        return known

    def add(
        self,
        candidate: str,
        item: Item,
        score: float,
        where: str,
        *,
        cost: float = np.nan,
        fingerprint: str | None = None,
    ) -> None:
        """Score in [0, 1] but for `ROUNDING`, and cost in US dollars, NaN where unobserved; a cost without a score counts only where the pair gets none.

        Raises SatjaxError for any other, and unless of `repeats` for a second outcome of a pair.
        """
        known = self.item(item, where, fingerprint)
        if not candidate:
            raise SatjaxError(f"{where}: the candidate has no name; give it one")
        if score < -ROUNDING or score > 1 + ROUNDING:
            raise SatjaxError(f"{where}: score {score:.9g} of {candidate!r} is outside [0, 1]; rescale the scores")
        if cost < 0 or cost > DEAREST:
            raise SatjaxError(f"{where}: cost {cost:g} of {candidate!r} is no amount of US dollars; mend it")
        if candidate not in self:
            check_unicode(where, f"the candidate's name {candidate!r}", candidate)
        if known.id in self._scores.of(candidate) and score == score and not self._repeats:
            raise SatjaxError(f"{where}: item {known.id!r} stands twice for candidate {candidate!r}; keep one")
        self._scores.add(candidate, known.id, min(max(score, 0.0), 1.0))  # NaN, which comes first, stays
        (self._costs if score == score else self._costs_unscored).add(candidate, known.id, cost)

    def table(self, nothing: str) -> OutcomeTable:
        """All of it; raises SatjaxError saying `nothing` where no outcome was added. Without any cost the table has none."""
        names = list(self._scores.sums)
        if not names:
            raise SatjaxError(nothing)
        check_size(len(names), len(self._items))
        column = {name: n for n, name in enumerate(self._items)}
        scores_MN = self._scores.matrix(names, column)
        cost_MN = None
        if any(any(costs.sums.values()) for costs in (self._costs, self._costs_unscored)):
            scored_MN, unscored_MN = (costs.matrix(names, column) for costs in (self._costs, self._costs_unscored))
            cost_MN = np.where(np.isnan(scores_MN), unscored_MN, scored_MN)
        return OutcomeTable(tuple(self._items.values()), tuple(map(Candidate, names)), scores_MN, cost_MN)


class _Means:
    """Means of numbers by candidate and item. `counts` has those of several numbers; most are of one."""

    def __init__(self) -> None:
        self.sums: dict[str, dict[str, float]] = {}
        self.counts: dict[tuple[str, str], int] = {}

    def of(self, candidate: str) -> dict[str, float]:
        """Sums by item, to which the candidate may have none yet."""
        return self.sums.setdefault(candidate, {})

    def add(self, candidate: str, item: str, value: float) -> None:
        """One more number; NaN is none."""
        sums = self.of(candidate)
        if value != value:
            return
        if item in sums:
            self.counts[candidate, item] = self.counts.get((candidate, item), 1) + 1
        sums[item] = sums.get(item, 0.0) + value

    def matrix(self, candidates: list[str], column: dict[str, int]) -> np.ndarray:
        """Float32 `[M, N]`, NaN where there is no number."""
        mean_MN = np.full((len(candidates), len(column)), np.nan, np.float32)
        for m, candidate in enumerate(candidates):
            if sums := self.sums.get(candidate):
                mean_MN[m, [column[item] for item in sums]] = list(sums.values())
        row = {candidate: m for m, candidate in enumerate(candidates)}
        for (candidate, item), count in self.counts.items():
            mean_MN[row[candidate], column[item]] = self.sums[candidate][item] / count
        return mean_MN


def check_unicode(where: str, what: str, *texts: str) -> None:
    """Raises SatjaxError for a text that no file can hold."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise SatjaxError(
            f"{where}: {what} has half of a surrogate pair, which is no character; mend it or leave it out"
        ) from error
