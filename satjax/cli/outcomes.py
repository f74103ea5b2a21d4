"""`satjax import` and `outcomes`: what candidates did, from upstream to an outcome table."""

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from satjax.cli.parser import Verb
from satjax.files import local_path

if TYPE_CHECKING:
    from satjax.outcomes import OutcomeTable

log = logging.getLogger("satjax")
FORMATS = ("mmlu-pro", "routerbench", "lm-eval", "inspect", "helm", "opencompass", "capit", "csv", "jsonl", "parquet")


def add_verbs(verb: Verb) -> None:
    """Adds `import`, `outcomes`."""
    imports = verb(
        "import",
        _import,
        "Convert upstream results to an outcome table.",
        "satjax import mmlu-pro model_outputs_*.zip --out outcomes/\n"
        "         satjax import lm-eval results/ --metric acc_norm --out outcomes/\n"
        "         satjax import csv log.csv --columns text=prompt,candidate=model,score=correct --out outcomes/",
    )
    imports.add_argument(
        "format", choices=FORMATS, metavar="FORMAT", help=f"{', '.join(FORMATS)}; capit is what the paper's code reads"
    )
    imports.add_argument("source", nargs="+", type=Path, metavar="SRC", help="files, or directories of them")
    imports.add_argument(
        "--metric",
        metavar="NAME",
        help="lm-eval, inspect, helm: which metric (or METRIC,FILTER), scorer or stat is the score",
    )
    imports.add_argument(
        "--columns",
        metavar="item=A,text=B,…",
        help="csv, jsonl, parquet: columns that hold item, text, candidate, score, task, category, source, answer, split or cost, "
        "if named otherwise than in an outcome table; scores=NAME for each candidate with a column of its own",
    )
    imports.add_argument(
        "--out",
        required=True,
        type=local_path,
        metavar="DIR",
        help="where the outcome table goes; one that is there is replaced",
    )

    outcomes = verb(
        "outcomes",
        lambda options: options.of(options),
        "Look into outcome tables, or join them.",
        "satjax outcomes describe DIR",
    )
    actions = outcomes.add_subparsers(dest="action", required=True, metavar="ACTION")
    what = "What is in a table, and what is missing."
    described = actions.add_parser("describe", help=what, description=what)
    described.add_argument("outcomes", metavar="DIR", help="an outcome table, or 'synthetic'")
    described.add_argument("--json", action="store_true", help="print JSON instead of tables")
    described.set_defaults(of=_describe)
    what = "Join tables into one; a question in two splits is an error."
    merged = actions.add_parser("merge", help=what, description=what)
    merged.add_argument("outcomes", nargs="+", metavar="DIR", help="outcome tables")
    merged.add_argument(
        "--out",
        required=True,
        type=local_path,
        metavar="DIR",
        help="where the joined table goes; one that is there is replaced",
    )
    merged.set_defaults(of=_merge)


def _import(options: argparse.Namespace) -> int:
    from satjax.outcomes import import_outcomes, import_routerbench_responses, write_table

    table = import_outcomes(options.format, options.source, metric=options.metric, columns=options.columns)
    responses = import_routerbench_responses(options.source, table) if options.format == "routerbench" else None
    write_table(table, options.out, responses)
    _say_written(table, options.out)
    return 0


def _say_written(table: "OutcomeTable", out: Path) -> None:
    from satjax.outcomes import questions_apart

    print(f"outcomes: {out} ({len(table.candidates)} candidates, {len(table.items)} items)")
    for line in questions_apart(table):
        log.warning("%s", line)


def _describe(options: argparse.Namespace) -> int:
    from satjax.outcomes import describe, read_outcomes
    from satjax.render.outcomes import description_tables

    figures = describe(read_outcomes(options.outcomes))
    if options.json:
        print(json.dumps(figures, ensure_ascii=False, indent=1))
    else:
        description_tables(figures)
    return 0


def _merge(options: argparse.Namespace) -> int:
    from satjax.outcomes import (
        merge_responses,
        merge_tables,
        read_outcomes,
        read_responses,
        with_common_validation,
        write_table,
    )

    tables = with_common_validation({name: read_outcomes(name) for name in options.outcomes})
    table = merge_tables(tables)
    responses = merge_responses({name: read_responses(name, each) for name, each in tables.items()}, table)
    write_table(table, options.out, responses)
    _say_written(table, options.out)
    return 0
