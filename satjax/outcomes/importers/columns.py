"""Importer of CSV, JSONL and Parquet files whose columns are named: a row per outcome, or a row per item with a column per candidate."""

import difflib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError, unknown_name
from satjax.outcomes.importers.collector import Collector, check_unicode
from satjax.outcomes.importers.guarded import check_values
from satjax.outcomes.importers.upstream import csv_rows, found, json_lines, listed, number, parquet_rows
from satjax.outcomes.splits import digest, folded, split_of
from satjax.outcomes.table import SPLITS, Item, OutcomeTable
from satjax.policy.conversation import scored_text

log = logging.getLogger("satjax")
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
KEYS = {name: key for key, name in NATIVE.items()}
"""The same the other way round: people write the native name first where an error has named it."""
WIDE = "scores"


def import_csv(paths: Sequence[Path | str], columns: str | None = None) -> OutcomeTable:
    """Outcomes of CSV files with a header; see `import_jsonl`."""
    return _import(paths, columns, "*.csv", lambda path: csv_rows(path, "a CSV table"))


def import_jsonl(paths: Sequence[Path | str], columns: str | None = None) -> OutcomeTable:
    """Outcomes of JSONL files, an object a line; `columns` is `item=NAME,text=NAME,…` (or `item_id=NAME`) for columns named otherwise than in the native form.

    Text, candidate and score must be there, and what `columns` names. A text that is a list of chat messages, or JSON of one, counts with what of it
    serving scores (`scored_text`). Rows without an item id have one by their text; what one row of an item says of it
    holds for all of them, and where none has a split, the one that goes by the text (`split_of`). Blanks around names do not count. An empty score is unobserved;
    several scores of one pair are averaged, and counted in a warning. `scores=NAME`, once for each candidate, makes it a table with a row per item and a column per candidate,
    which is named as its column. Raises SatjaxError naming file and row for missing columns, contradictions and scores outside [0, 1].
    """
    return _import(paths, columns, "*.jsonl", lambda path: json_lines(path, "a JSONL file"))


def import_parquet(paths: Sequence[Path | str], columns: str | None = None) -> OutcomeTable:
    """Outcomes of Parquet files, which are read piece by piece; see `import_jsonl`."""
    names, wide = parse_columns(columns)
    wanted = {*names.values(), *wide}
    return _import(paths, columns, "*.parquet", lambda path: parquet_rows(path, "a Parquet table", wanted))


def _import(
    paths: Sequence[Path | str],
    columns: str | None,
    pattern: str,
    rows_of: Callable[[Path], Iterator[tuple[str, dict[str, Any]]]],
) -> OutcomeTable:
    names, wide = parse_columns(columns)
    needed = [names["text"], *(wide or (names["candidate"], names["score"]))]
    absent = {name for key, name in names.items() if name != NATIVE[key]}
    collector = Collector(repeats=True)
    said: dict[str, dict[str, Any]] = {}
    for path in found(paths, pattern):
        seen = False
        for where, row in rows_of(path):
            # A JSONL object may leave out what it does not have, but not in all rows.
            missing = [name for name in needed if name not in row]
            if missing:
                raise SatjaxError(_without(missing[0], names, where, row))
            seen = True
            absent -= row.keys()
            item = _item(row, names, where)
            _add_said(said.setdefault(item.id, {}), row, names, f"{where}: item {item.id!r}")
            if wide:
                for name in wide:
                    collector.add(name, item, number(row[name], where, name), where, fingerprint=folded(item.text))
            else:
                collector.add(
                    _candidate(row, names["candidate"], where),
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
    table = collector.table("no files given; name at least one")
    if collector.num_repeated:
        log.warning(
            "%d pairs of an instruction and a candidate have several scores; each counts with their mean",
            collector.num_repeated,
        )
    return replace(table, items=tuple(replace(item, **said[item.id]) for item in table.items))


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
        elif key in KEYS:
            names[KEYS[key]] = name
        else:
            if name in (*NATIVE, WIDE):
                raise SatjaxError(f"--columns has {key}={name}: what the column holds comes first; write {name}={key}")
            if not difflib.get_close_matches(key, [*NATIVE, WIDE]):
                raise SatjaxError(
                    f"--columns has {entry!r}: to the left of = stands one of {', '.join([*NATIVE, WIDE])}"
                )
            raise unknown_name("column", key, [*NATIVE, WIDE])
    if wide and (also := [key for key in ("candidate", "score", "cost") if names[key] != NATIVE[key]]):
        raise SatjaxError(
            f"--columns has {WIDE}={wide[0]} and {also[0]}={names[also[0]]}: a row per item, with a column per candidate, has no {also[0]} of its own; "
            "leave one of them out"
        )
    return names, wide


def _without(name: str, names: Mapping[str, str], where: str, row: Mapping[str, Any]) -> str:
    """What is wrong with a row that has no column of this name."""
    there = listed(list(row)[:12])
    if len(row) == 1 and any(mark in "".join(row) for mark in ";\t|"):
        return f"{where} has a single column, {there}: its columns have to be separated by commas"
    key = next((key for key, column in names.items() if column == name), WIDE)
    if name != NATIVE.get(key):
        return f"{where} has no column {name!r}, which --columns names for the {key}; it has {there}"
    return f"{where} has no column {name!r} for the {key}; say which one holds it: --columns {key}=NAME ({there})"


def _item(row: Mapping[str, Any], names: Mapping[str, str], where: str) -> Item:
    text = _instruction(row, names["text"], where)
    split = _said(row, names, "split") or split_of(text)
    if split not in SPLITS:
        raise SatjaxError(f"{where}: split {split[:40]!r} is none of {', '.join(SPLITS)}; mend or empty it")
    return Item(
        id=_text(row.get(names["item"])) or digest(text).hex()[:16],
        text=text,
        task=_said(row, names, "task"),
        category=_said(row, names, "category"),
        source=_said(row, names, "source"),
        split=split,
        answer=_said(row, names, "answer") or None,
    )


def _said(row: Mapping[str, Any], names: Mapping[str, str], key: str) -> str:
    """What a row says of its item, or nothing."""
    value = _text(row.get(names[key]))
    return value if key == "answer" else value.strip()


def _add_said(said: dict[str, Any], row: Mapping[str, Any], names: Mapping[str, str], where: str) -> None:
    """Adds what a row says of an item to what rows before it `said`; raises SatjaxError where it says something else."""
    for key in ("task", "category", "source", "answer", "split"):
        value = _said(row, names, key)
        if value and key not in said:
            check_unicode(where, f"its {key}", value)
        if value and said.setdefault(key, value) != value:
            raise SatjaxError(
                f"{where} has the {key} {value[:40]!r}, and {said[key][:40]!r} in a row before; mend one of them, or name the column that "
                f"holds it with --columns {key}=NAME"
            )


def _instruction(row: Mapping[str, Any], name: str, where: str) -> str:
    """The text, or of a chat, as it is or as JSON, what is scored of it when it is served."""
    value = row[name]
    messages = _parsed(value) if isinstance(value, str) else value
    if not _is_chat(messages):
        return _plain(row, name, where)
    text = scored_text(messages)
    if not text:
        raise SatjaxError(f"{where}: {folded(name)} is a chat without any text of the user; leave it out")
    return text


def _parsed(text: str) -> Any:
    """The value of JSON of a list of objects, or nothing."""
    if text.lstrip().startswith("["):
        try:
            check_values(text.encode(errors="surrogatepass"))
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return None


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, list)
        and value != []
        and all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in value)
    )


def _plain(row: Mapping[str, Any], name: str, where: str) -> str:
    """What may not be a list or an object, as text: what candidates are asked and are named would otherwise be Python's notation of it."""
    if isinstance(row[name], list | dict):
        raise SatjaxError(
            f"{where}: {folded(name)} is {'a list' if isinstance(row[name], list) else 'an object'}, not text; write what is meant as one text, "
            "or an instruction as a list of chat messages with role and content"
        )
    return _text(row[name])


def _candidate(row: Mapping[str, Any], name: str, where: str) -> str:
    candidate = _plain(row, name, where).strip()
    if len(candidate.splitlines()) > 1:
        raise SatjaxError(f"{where}: the candidate's name {candidate[:40]!r} has several lines; write it on one")
    return candidate


def _text(value: Any) -> str:
    """Empty for None, and for NaN: as such JSON of pandas writes what is absent."""
    return "" if value is None or value != value else str(value)
