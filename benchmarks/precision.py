"""python benchmarks/precision.py --outcomes DIR --out benchmarks/results/precision_cpu.json

What products of bfloat16 cost the router that comes with satjax on a CPU: its figures on the test split, exact and as it ranks by default.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from real_run import git, machine
from rich.console import Console
from rich.table import Table

from satjax import Router
from satjax.evaluation.evaluate import figures_of, scored
from satjax.evaluation.zoos import read_zoos
from satjax.models.narrow import cpu_multiplies_bfloat16
from satjax.outcomes import read_table

ZOOS = Path(__file__).parents[1] / "configs" / "zoos.toml"
FIGURES = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    options = parser.parse_args()
    if not cpu_multiplies_bfloat16():
        sys.exit("this CPU does not multiply bfloat16: both ways would be the same")
    table, zoos = read_table(options.outcomes), read_zoos(ZOOS)
    routers = {"float32": Router.load(exact=True, keep_features=True), "bfloat16": Router.load()}
    of_routers = {name: scored(router, table) for name, router in routers.items()}
    probabilities = [found.probability_BM for found in of_routers.values()]
    reports = {name: figures_of(found, table, zoos) for name, found in of_routers.items()}
    figures = {
        name: report["correctness"] | {f"routing, {zoo}": found["router"] for zoo, found in report["routing"].items()}
        for name, report in reports.items()
    }
    difference = float(np.abs(np.subtract(*probabilities)).max())
    moved = float(np.mean(np.argmax(probabilities[0], axis=1) != np.argmax(probabilities[1], axis=1)))
    shown = Table("", *routers, box=None)
    for name in figures["float32"]:
        shown.add_row(name, *(f"{found[name]:.4f}" for found in figures.values()))
    Console().print(shown)
    print(
        f"probabilities differ by {difference:.4f} at most; another candidate is first for {moved:.2%} of the instructions"
    )
    record = {
        "command": " ".join(["python", *sys.argv]).replace(str(options.outcomes), "DIR"),
        "commit": git("rev-parse", "HEAD"),
        "machine": machine(),
        "figures": figures,
        "largest_difference_of_probabilities": difference,
        "share_with_another_first_candidate": moved,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
