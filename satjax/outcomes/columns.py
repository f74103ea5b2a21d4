"""Importer of CSV and JSONL files whose columns are named: a row per outcome, or a row per item with a column per candidate."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError, unknown_name
from satjax.outcomes.collector import Collector
from satjax.outcomes.splits import digest, folded, split_of
from satjax.outcomes.table import SPLITS, Item, OutcomeTable
from satjax.outcomes.upstream import csv_rows, found, json_lines, listed, number

NATIVE = {
    "item": "item_id",
    "text": "text",
    "candidate": "model_id",
    "score": "score",
    "task": "task",
    "category": "category",
    "source": "source",
    "answer": "answer",
    "split": "split",
    "cost": "cost_usd",
}
"""What a column may hold, and its name where none is given: that of the native form."""
WIDE = "scores"


def import_csv(paths: Sequence[Path | str], columns: str | None = None) -> OutcomeTable:
    """Outcomes of CSV files with a header; see `import_jsonl`."""
    return _import(paths, columns, "*.csv", lambda path: csv_rows(path, "a CSV table"))


def import_jsonl(paths: Sequence[Path | str], columns: str | None = None) -> OutcomeTable:
    """Outcomes of JSONL files, an object a line; `columns` is `item=NAME,text=NAME,…` for columns named otherwise than in the native form.

    Text, candidate and score must be there, and what `columns` names. Rows without an item id have one by their text; without a split, the split that goes by
    it (`split_of`). An empty score is unobserved. `scores=NAME`, once for each candidate, makes it a table with a row per item and a column per candidate,
    which is named as its column. Raises SatjaxError naming file and row for missing columns, contradictions and scores outside [0, 1].
    """
    return _import(paths, columns, "*.jsonl", lambda path: json_lines(path, "a JSONL file"))


def _import(
    paths: Sequence[Path | str],
    columns: str | None,
    pattern: str,
    rows_of: Callable[[Path], Iterator[tuple[str, dict[str, Any]]]],
) -> OutcomeTable:
    names, wide = parse_columns(columns)
    needed = [names["text"], *(wide or (names["candidate"], names["score"]))]
    absent = {name for key, name in names.items() if name != NATIVE[key]}
    collector = Collector()
    said: dict[str, dict[str, str]] = {}
    for path in found(paths, pattern):
        seen = False
        for where, row in rows_of(path):
            # A JSONL object may leave out what it does not have, but not in all rows.
            missing = [name for name in needed if name not in row]
            if missing:
                raise SatjaxError(
                    f"{where} has no column {missing[0]!r}; name it with --columns ({listed(list(row)[:12])})"
                )
            seen = True
            absent -= row.keys()
            item = _item(row, names, where)
            _check_same(said.setdefault(item.id, {}), row, names, f"{where}: item {item.id!r}")
            if wide:
                for name in wide:
                    collector.add(name, item, number(row[name], where, name), where, fingerprint=folded(item.text))
            else:
                collector.add(
                    _plain(row, names["candidate"], where),
                    item,
                    number(row[names["score"]], where, names["score"]),
                    where,
                    cost=number(row.get(names["cost"]), where, names["cost"]),
                    fingerprint=folded(item.text),
                )
        if not seen:
            raise SatjaxError(f"{path} has no rows")
    if absent:
        raise SatjaxError(f"no row has a column {min(absent)!r}, which --columns names; mend the name, or leave it out")
    return collector.table("no files given; name at least one")


def parse_columns(columns: str | None) -> tuple[Mapping[str, str], list[str]]:
    """Names of columns by what they hold, and the candidates' columns of a wide table; raises SatjaxError for what no column can hold."""
    names, wide = dict(NATIVE), list[str]()
    for entry in (columns or "").split(",") if columns else ():
        key, equals, name = (part.strip() for part in entry.partition("="))
        if not equals or not name:
            raise SatjaxError(f"--columns has {entry!r}; write it as item=NAME,text=NAME,candidate=NAME,score=NAME")
        if key == WIDE:
            wide.append(name)
        elif key in names:
            names[key] = name
        else:
            if name in (*NATIVE, WIDE):
                raise SatjaxError(f"--columns has {key}={name}: what the column holds comes first; write {name}={key}")
            raise unknown_name("column", key, [*NATIVE, WIDE])
    if wide and (also := [key for key in ("candidate", "score", "cost") if names[key] != NATIVE[key]]):
        raise SatjaxError(
            f"--columns has {WIDE}={wide[0]} and {also[0]}={names[also[0]]}: a row per item, with a column per candidate, has no {also[0]} of its own; "
            "leave one of them out"
        )
    return names, wide


def _item(row: Mapping[str, Any], names: Mapping[str, str], where: str) -> Item:
    text = _plain(row, names["text"], where)
    split = _text(row.get(names["split"])) or split_of(text)
    if split not in SPLITS:
        raise SatjaxError(f"{where}: split {split[:40]!r} is none of {', '.join(SPLITS)}; mend or empty it")
    return Item(
        id=_text(row.get(names["item"])) or digest(text).hex()[:16],
        text=text,
        task=_text(row.get(names["task"])),
        category=_text(row.get(names["category"])),
        source=_text(row.get(names["source"])),
        split=split,
        answer=_text(row.get(names["answer"])) or None,
    )


def _check_same(said: dict[str, str], row: Mapping[str, Any], names: Mapping[str, str], where: str) -> None:
    """Raises SatjaxError where a row says something else of an item than rows before it, which is `said`."""
    for key in ("task", "category", "source", "answer", "split"):
        value = _text(row.get(names[key]))
        if value and said.setdefault(key, value) != value:
            raise SatjaxError(
                f"{where} has the {key} {value[:40]!r}, and {said[key][:40]!r} in a row before; mend one of them, or name the column that "
                f"holds it with --columns {key}=NAME"
            )


def _plain(row: Mapping[str, Any], name: str, where: str) -> str:
    """What may not be a list or an object, as text: what candidates are asked and are named would otherwise be Python's notation of it."""
    if isinstance(row[name], list | dict):
        raise SatjaxError(
            f"{where}: {folded(name)} is {'a list' if isinstance(row[name], list) else 'an object'}, not text; write what is meant as one text"
        )
    return _text(row[name])


def _text(value: Any) -> str:
    return "" if value is None else str(value)
