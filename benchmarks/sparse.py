"""python benchmarks/sparse.py --outcomes DIR --workdir runs/sparse --out benchmarks/results/sparse_mmlu_pro.json

How good a router gets by the log of a service, which asks one or a few candidates an instruction: of a table in which all have answered, so many
outcomes of each training and validation instruction are kept, drawn by the seed, and the router is measured on all outcomes of the test split. How many
passes it takes is chosen with seed 0 by the log loss in validation, on what outcomes are left there. What is done already is not done again.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from satjax.config.load import load_config
from satjax.evaluation.evaluate import evaluate
from satjax.evaluation.provenance import made_of
from satjax.files import write_text
from satjax.outcomes import OutcomeTable, open_outcomes
from satjax.outcomes.parquet import write_table
from satjax.router import Router
from satjax.train import train
from satjax.training.run_log import LOG_LOSS, read_metrics

ROOT = Path(__file__).parents[1]
EACH = (1, 2, 4, 8)
"""Outcomes of an instruction that are kept."""
PASSES = (4, 8, 16)
ROWS = 128


def thinned(table: OutcomeTable, each: int, seed: int) -> OutcomeTable:
    """The table with so many outcomes of each instruction, those of the test split left as they are."""
    place_MN = np.random.default_rng((each, seed)).random(table.scores_MN.shape)
    place_MN[np.isnan(table.scores_MN)] = 2  # what is not observed comes last
    kept_MN = (place_MN.argsort(axis=0).argsort(axis=0) < each) | table.of_split("test")
    return replace(table, scores_MN=np.where(kept_MN, table.scores_MN, np.float32(np.nan)), cost_usd_MN=None)


def trained(table: OutcomeTable, each: int, seed: int, passes: int, workdir: Path) -> tuple[Router, float]:
    """The recipe on what is kept, and its last log loss in validation."""
    outcomes = workdir / f"{each}-{seed}" / "outcomes"
    if not outcomes.is_dir():
        write_table(thinned(table, each, seed), outcomes)
    steps = passes * int(table.of_split("train").sum()) // ROWS
    flags = {"data.outcomes": outcomes, "seed": seed, "stages[0].steps": steps, "stages[0].warmup_steps": steps // 17}
    config = load_config(
        str(ROOT / "configs" / "smollm2.py"), [f"--config.{name}={value}" for name, value in flags.items()]
    )
    run = workdir / f"{each}-{seed}" / f"{passes}-passes"
    router = Router.load(train(config, run), keep_features=True)
    return router, read_metrics(run / "metrics.jsonl")[-1][LOG_LOSS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outcomes", required=True, type=Path)
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--each", type=int, nargs="*", default=EACH)
    options = parser.parse_args()
    table = open_outcomes(options.outcomes)
    found: dict[str, Any] = {"made": made_of(options.outcomes.name, table), "each": {}}
    for each in options.each:
        losses = {passes: trained(table, each, 0, passes, options.workdir)[1] for passes in PASSES}
        passes = min(losses, key=lambda tried: losses[tried])
        fits = []
        for seed in range(options.seeds):
            router, _ = trained(table, each, seed, passes, options.workdir)
            figures = evaluate(
                router, thinned(table, each, seed)
            )  # the best single candidate is chosen by what is left, too
            routing = figures["routing"]["all"]
            fits.append(figures["correctness"] | {"routed": routing["router"], "best_single": routing["best_single"]})
        found["each"][str(each)] = {
            "outcomes_of_a_candidate": round(each * int(table.of_split("train").sum()) / len(table.candidates)),
            "validation_log_loss_by_passes": losses,
            "passes": passes,
            "mean": {name: float(np.mean([fit[name] for fit in fits])) for name in fits[0]},
            "deviation": {name: float(np.std([fit[name] for fit in fits], ddof=1)) for name in fits[0]},
            "seeds": options.seeds,
        }
        write_text(options.out, json.dumps(found, indent=1) + "\n")
        print(each, passes, json.dumps(found["each"][str(each)]["mean"]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
