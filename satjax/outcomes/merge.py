"""Joins outcome tables, and finds what must not be joined: questions that stand in two splits."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TypeVar

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.responses import NONE, Responses
from satjax.outcomes.splits import folded
from satjax.outcomes.table import Candidate, Item, OutcomeTable, check_size

Entry = TypeVar("Entry", Item, Candidate)


def merge_tables(tables: Mapping[str, OutcomeTable]) -> OutcomeTable:
    """One table of all items and candidates, in the order of the tables, whose names the errors use; pairs that none observed stay NaN.

    An item or candidate of the same id in two tables is one; what only one of them says of it is kept. Raises SatjaxError, naming both
    tables, where they disagree on it or on an outcome, and where one question (blanks folded) stands in two splits.
    """
    if not tables:
        raise SatjaxError("there is nothing to merge; name at least one outcome table")
    items = _united("item", {name: table.items for name, table in tables.items()})
    candidates = _united("candidate", {name: table.candidates for name, table in tables.items()})
    row, column = ({key: i for i, key in enumerate(kept)} for kept in (candidates, items))
    shape = len(candidates), len(items)
    check_size(*shape)
    scores_MN, cost_MN = (np.full(shape, np.nan, np.float32) for _ in range(2))
    before: dict[str, OutcomeTable] = {}
    for name, table in tables.items():
        where = np.ix_([row[m] for m in table.candidate_ids], [column[i] for i in table.item_ids])
        _fill(scores_MN, where, "scores_MN", name, table, before)
        if table.cost_usd_MN is not None:
            _fill(cost_MN, where, "cost_usd_MN", name, table, before)
        before[name] = table
    costs = None if np.isnan(cost_MN).all() else cost_MN
    merged = OutcomeTable(tuple(items.values()), tuple(candidates.values()), scores_MN, costs)
    for a, b in leaks(merged):
        of_a, of_b = (next(name for name, table in tables.items() if entry.id in table.item_ids) for entry in (a, b))
        raise SatjaxError(
            f"one question stands in two splits: item {a.id!r} of {of_a} in {a.split}, item {b.id!r} of {of_b} in {b.split} "
            f"({_short(a.text)}); leave one of them out"
        )
    return merged


def leaks(table: OutcomeTable) -> list[tuple[Item, Item]]:
    """Pairs of items with one question, blanks folded, in two splits: of each question its first item in each of them, every two."""
    first: dict[str, dict[str, Item]] = {}
    for item in table.items:
        first.setdefault(folded(item.text), {}).setdefault(item.split, item)
    return [pair for of_split in first.values() for pair in combinations(of_split.values(), 2)]


def same_questions(table: OutcomeTable) -> list[tuple[Item, Item]]:
    """Pairs of items with one question, blanks folded, and outcomes of different candidates: of each such question its first item and the first such other."""
    seen_MN = ~np.isnan(table.scores_MN)
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for n, item in enumerate(table.items):
        before = first.setdefault(folded(item.text), n)
        if before not in found and (seen_MN[:, before] != seen_MN[:, n]).any():
            found[before] = n
    return [(table.items[a], table.items[b]) for a, b in found.items()]


def merge_responses(given: Mapping[str, Responses | None], table: OutcomeTable) -> Responses | None:
    """What candidates answered, of tables by name that were merged into `table`; None where none of them knows.

    Raises SatjaxError naming both tables where two differ on what a candidate answered to an item.
    """
    known = {name: responses for name, responses in given.items() if responses is not None}
    if not known:
        return None
    texts: dict[str, int] = {}
    place_BM = np.full((len(table.items), len(table.candidates)), NONE, np.int32)
    for name, responses in known.items():
        where = np.array([texts.setdefault(text, len(texts)) for text in responses.texts] + [NONE], np.int32)
        these_BM = where[responses.places(table)]  # the last one is that of NONE
        differ = (place_BM != NONE) & (these_BM != NONE) & (place_BM != these_BM)
        if differ.any():
            n, m = np.argwhere(differ)[0]
            first = next(other for other, said in known.items() if said.places(table)[n, m] != NONE)
            raise SatjaxError(
                f"responses of candidate {table.candidate_ids[m]!r} to item {table.item_ids[n]!r} differ between {first} and {name} "
                f"({int(differ.sum())} pairs); leave one of them out"
            )
        place_BM = np.where(these_BM == NONE, place_BM, these_BM)
    return Responses(table.candidate_ids, table.item_ids, tuple(texts), np.ascontiguousarray(place_BM.T))


def _united(kind: str, entries: Mapping[str, Sequence[Entry]]) -> dict[str, Entry]:
    kept: dict[str, Entry] = {}
    said_by: dict[str, str] = {}
    for name, several in entries.items():
        for entry in several:
            said_by.setdefault(entry.id, name)
            before = kept.setdefault(entry.id, entry)
            values = {}
            for field in dataclasses.fields(entry):
                old, new = getattr(before, field.name), getattr(entry, field.name)
                if old and new and old != new:
                    raise SatjaxError(
                        f"{said_by[entry.id]} and {name} disagree on the {field.name} of {kind} {entry.id!r} "
                        f"({_short(old)} and {_short(new)}); mend one of them"
                    )
                values[field.name] = old or new
            kept[entry.id] = dataclasses.replace(before, **values)
    return kept


WORDS = {"scores_MN": "outcomes", "cost_usd_MN": "costs"}


def _fill(
    whole_MN: np.ndarray,
    where: tuple,
    kind: str,
    name: str,
    table: OutcomeTable,
    before: Mapping[str, OutcomeTable],
) -> None:
    """Adds one `kind` of a table's matrices to those of the tables `before` it."""
    part_MN, before_MN = getattr(table, kind), whole_MN[where]
    differ = ~np.isnan(before_MN) & ~np.isnan(part_MN) & (before_MN != part_MN)
    if differ.any():
        m, n = np.argwhere(differ)[0]
        candidate, item = table.candidate_ids[m], table.item_ids[n]
        first = next(other for other, said in before.items() if not np.isnan(_value(said, kind, candidate, item)))
        raise SatjaxError(
            f"{WORDS[kind]} of candidate {candidate!r} on item {item!r} differ: {before_MN[m, n]:g} in {first}, "
            f"{part_MN[m, n]:g} in {name} ({int(differ.sum())} pairs); leave one of them out"
        )
    whole_MN[where] = np.where(np.isnan(part_MN), before_MN, part_MN)


def _value(table: OutcomeTable, kind: str, candidate: str, item: str) -> float:
    matrix_MN = getattr(table, kind)
    if matrix_MN is None or candidate not in table.candidate_ids or item not in table.item_ids:
        return np.nan
    return matrix_MN[table.candidate_ids.index(candidate), table.item_ids.index(item)]


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
