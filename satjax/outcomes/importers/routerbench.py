"""Importer of RouterBench's CSV files: one row per prompt, one column per candidate with its score, its response and its cost."""

import ast
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.importers.collector import Collector
from satjax.outcomes.importers.upstream import csv_rows, found, number
from satjax.outcomes.responses import NONE, Responses
from satjax.outcomes.splits import split_of
from satjax.outcomes.table import Item, OutcomeTable

NEEDED = ("sample_id", "prompt", "eval_name")
COST, RESPONSE = "|total_cost", "|model_response"


def import_routerbench(paths: Sequence[Path | str]) -> OutcomeTable:
    """Outcomes and costs (US dollars per call) of all candidates, each a column `NAME` beside a column `NAME|model_response`, sorted by name.

    An empty cell, or a candidate that a file lacks, is unobserved. Splits go by the text of the prompt (`split_of`). Raises SatjaxError naming file and row for anything that is not such a table.
    """
    collector = Collector()
    for path in found(paths, "*.csv"):
        for where, row in csv_rows(path, "a RouterBench table", NEEDED):
            item = _item(row, where)
            for name in _candidates(row):
                cost = number(row.get(name + COST), where, name + COST)
                collector.add(name, item, number(row[name], where, name), where, cost=cost)
    table = collector.table(
        "no candidate found: RouterBench files name each by a column NAME and a column NAME|model_response"
    )
    return table.select_candidates(sorted(table.candidate_ids))


def import_routerbench_responses(paths: Sequence[Path | str], table: OutcomeTable) -> Responses:
    """What the candidates of `table`, imported from the same files, answered; an empty cell is no response."""
    row = {name: m for m, name in enumerate(table.candidate_ids)}
    column = {name: n for n, name in enumerate(table.item_ids)}
    places: dict[str, int] = {}
    place_MN = np.full(table.scores_MN.shape, NONE, np.int32)
    for path in found(paths, "*.csv"):
        for where, cells in csv_rows(path, "a RouterBench table", NEEDED):
            n = column[_item(cells, where).id]
            for name in _candidates(cells):
                if cell := cells[name + RESPONSE]:
                    place_MN[row[name], n] = places.setdefault(message_text(cell), len(places))
    return Responses(table.candidate_ids, table.item_ids, tuple(places), place_MN)


def _candidates(row: dict[str, str]) -> list[str]:
    return [name for column in row if column.endswith(RESPONSE) and (name := column.removesuffix(RESPONSE)) in row]


def _item(row: dict[str, str], where: str) -> Item:
    text = message_text(row["prompt"])
    if not text.strip() or not row["sample_id"]:
        raise SatjaxError(f"{where}: the prompt or its sample_id is empty; leave the row out")
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
