"""Importer of RouterBench's CSV files: one row per prompt, one column per candidate with its score, its response and its cost."""

import ast
import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.responses import NONE, Responses
from satjax.outcomes.splits import split_of
from satjax.outcomes.table import Candidate, Item, OutcomeTable

LARGEST_FIELD = 4 * 2**20
NEEDED = ("sample_id", "prompt", "eval_name")
COST, RESPONSE = "|total_cost", "|model_response"


def import_routerbench(paths: Sequence[Path | str]) -> OutcomeTable:
    """Outcomes and costs (US dollars per call) of all candidates, each a column `NAME` beside a column `NAME|model_response`, sorted by name.

    An empty cell, or a candidate that a file lacks, is unobserved. Splits go by the text of the prompt (`split_of`). Raises SatjaxError naming file and row for anything that is not such a table.
    """
    items: dict[str, Item] = {}
    scores: dict[str, dict[str, float]] = {}
    costs: dict[str, dict[str, float]] = {}
    for path in map(Path, paths):
        for number, row in _rows(path):
            item = _item(row, path, number)
            if item.id in items:
                raise SatjaxError(f"{path} row {number}: sample {row['sample_id']!r} stands twice; keep one")
            items[item.id] = item
            for name in _candidates(row):
                scores.setdefault(name, {})[item.id] = _score(row[name], path, number, name)
                costs.setdefault(name, {})[item.id] = _number(row.get(name + COST, ""), path, number, name + COST)
    if not scores:
        raise SatjaxError(
            "no candidate found: RouterBench files name each by a column NAME and a column NAME|model_response"
        )
    names = sorted(scores)
    cost = _matrix(costs, names, items)
    return OutcomeTable(
        tuple(items.values()),
        tuple(Candidate(name) for name in names),
        _matrix(scores, names, items),
        None if np.isnan(cost).all() else cost,
    )


def import_routerbench_responses(paths: Sequence[Path | str], table: OutcomeTable) -> Responses:
    """What the candidates of `table`, imported from the same files, answered; an empty cell is no response."""
    row = {name: m for m, name in enumerate(table.candidate_ids)}
    column = {name: n for n, name in enumerate(table.item_ids)}
    places: dict[str, int] = {}
    place_MN = np.full(table.scores_MN.shape, NONE, np.int32)
    for path in map(Path, paths):
        for number, cells in _rows(path):
            n = column[_item(cells, path, number).id]
            for name in _candidates(cells):
                if cell := cells[name + RESPONSE]:
                    place_MN[row[name], n] = places.setdefault(message_text(cell), len(places))
    return Responses(table.candidate_ids, table.item_ids, tuple(places), place_MN)


def _candidates(row: dict[str, str]) -> list[str]:
    return [name for column in row if column.endswith(RESPONSE) and (name := column.removesuffix(RESPONSE)) in row]


def _matrix(found: dict[str, dict[str, float]], names: Iterable[str], items: Iterable[str]) -> np.ndarray:
    return np.array([[found[name].get(item, np.nan) for item in items] for name in names], np.float32)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    before = csv.field_size_limit(LARGEST_FIELD)
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, strict=True)
            missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
            if missing:
                raise SatjaxError(f"{path}: column {missing[0]!r} is missing; give a table in RouterBench's format")
            for number, row in enumerate(reader, start=2):
                if None in row or None in row.values():
                    raise SatjaxError(
                        f"{path} row {number}: it has another number of fields than the header; the file is cut short or altered, download it again"
                    )
                yield number, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SatjaxError(f"{path} cannot be read as a RouterBench table ({error}); download it again") from error
    finally:
        csv.field_size_limit(before)


def _item(row: dict[str, str], path: Path, number: int) -> Item:
    text = message_text(row["prompt"])
    if not text.strip() or not row["sample_id"]:
        raise SatjaxError(f"{path} row {number}: the prompt or its sample_id is empty; leave the row out")
    task = row["eval_name"].replace("-", "_")
    return Item(f"routerbench/{row['sample_id']}", text, task, row["eval_name"], "routerbench", split_of(text))


def message_text(text: str) -> str:
    """Prompts and responses come as the Python form of a list of messages: their text, line by line; any other text as it is."""
    if text.startswith("["):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            return "\n".join(value)
    return text


def _score(text: str, path: Path, number: int, column: str) -> float:
    score = _number(text, path, number, column)
    if score < 0 or score > 1:
        raise SatjaxError(f"{path} row {number}: score {score:g} of {column!r} is outside [0, 1]; rescale the scores")
    return score


def _number(text: str, path: Path, number: int, column: str) -> float:
    if not text.strip():
        return float("nan")
    try:
        return float(text)
    except ValueError as error:
        raise SatjaxError(
            f"{path} row {number}: {column} is {text[:40]!r}, not a number; mend or empty that cell"
        ) from error
