"""Importer of RouterBench's CSV files: one row per prompt, one column per candidate with its score, and its cost."""

import ast
from collections.abc import Sequence
from pathlib import Path

from satjax.errors import SatjaxError
from satjax.outcomes.collector import Collector
from satjax.outcomes.splits import split_of
from satjax.outcomes.table import Item, OutcomeTable
from satjax.outcomes.upstream import csv_rows, number

NEEDED = ("sample_id", "prompt", "eval_name")
COST, RESPONSE = "|total_cost", "|model_response"


def import_routerbench(paths: Sequence[Path | str]) -> OutcomeTable:
    """Outcomes and costs (US dollars per call) of all candidates, each a column `NAME` beside a column `NAME|model_response`, sorted by name.

    An empty cell, or a candidate that a file lacks, is unobserved. Splits go by the text of the prompt (`split_of`). Raises SatjaxError naming file and row for anything that is not such a table.
    """
    collector = Collector()
    for path in map(Path, paths):
        for where, row in csv_rows(path, "a RouterBench table", NEEDED):
            item = _item(row, where)
            for column in row:
                if column.endswith(RESPONSE) and (name := column.removesuffix(RESPONSE)) in row:
                    cost = number(row.get(name + COST), where, name + COST)
                    collector.add(name, item, number(row[name], where, name), where, cost=cost)
    table = collector.table(
        "no candidate found: RouterBench files name each by a column NAME and a column NAME|model_response"
    )
    return table.select_candidates(sorted(table.candidate_ids))


def _item(row: dict[str, str], where: str) -> Item:
    text = _prompt(row["prompt"])
    if not text.strip() or not row["sample_id"]:
        raise SatjaxError(f"{where}: the prompt or its sample_id is empty; leave the row out")
    task = row["eval_name"].replace("-", "_")
    return Item(f"routerbench/{row['sample_id']}", text, task, row["eval_name"], "routerbench", split_of(text))


def _prompt(text: str) -> str:
    """Prompts come as the Python form of a list of messages."""
    if text.startswith("["):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            return "\n".join(value)
    return text
