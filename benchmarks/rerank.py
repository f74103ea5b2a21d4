"""python benchmarks/rerank.py --outcomes DIR --out benchmarks/results/rerank_routerbench.json

Re-ranking of actual responses (`satjax.evaluation.baselines.rerank`) beside the means on a table without a router: RouterBench with
`responses.parquet`. Items without responses are left out; a few-shot prompt is cut to its last question, since its examples
fill most of what the encoder reads; a validation split is drawn from the training split, which the table lacks.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from real_run import git, machine
from rich.console import Console

from satjax.config import EncoderWeights
from satjax.evaluation.baselines import BASELINES, BaselineData, fold_of
from satjax.evaluation.baselines.rerank import rerank
from satjax.evaluation.bench import READ_NO_TEXT, Method, compare
from satjax.outcomes import OutcomeTable, Responses, read_responses, read_table
from satjax.outcomes.routerbench import message_text
from satjax.weights.fetch import resolve

VAL = 300
"""Training instructions that become the validation split."""


def prepared(directory: str) -> tuple[OutcomeTable, Responses]:
    table = read_table(directory)
    responses = read_responses(directory, table)
    if responses is None:
        sys.exit(f"{directory} has no responses.parquet")
    table = table.select_items((responses.places(table) >= 0).all(axis=1))
    train = [n for n, item in enumerate(table.items) if item.split == "train"]
    val = set(np.random.default_rng(0).permutation(train)[:VAL].tolist())
    items = tuple(
        replace(item, text=item.text.rsplit("\n\n", 1)[-1], split="val" if n in val else item.split)
        for n, item in enumerate(table.items)
    )
    return replace(table, items=items), replace(responses, texts=tuple(map(message_text, responses.texts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", required=True)
    parser.add_argument("--encoder", default=EncoderWeights().weights, help="base weights of a text encoder")
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    table, responses = prepared(options.outcomes)
    held, val = table.split("test"), table.split("val")
    start = time.monotonic()
    found = rerank(resolve(options.encoder), responses, held, val)
    methods = {"rerank": Method(found.probability_BM[None], found.chosen, round(time.monotonic() - start, 1))}
    unread_NE = np.ones((len(table.items), 1), np.float32)
    folds = {
        split: fold_of(table, unread_NE, np.flatnonzero([item.split == split for item in table.items]))
        for split in ("train", "val", "test")
    }
    data = BaselineData(folds["train"], folds["val"], folds["train"])
    for name in READ_NO_TEXT:
        predictor = BASELINES[name](data, 0)
        methods[name] = Method(predictor(folds["test"].instructions)[None], predictor.chosen, None)
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "machine": machine(),
        "command": f"python benchmarks/rerank.py --outcomes DIR --encoder {options.encoder} --out {options.out}",
        "figures": compare(methods, table, "test", folds["test"].outcome_BM, {}),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    Console().print(f"record: {options.out}")


if __name__ == "__main__":
    main()
