"""python benchmarks/ablations.py --outcomes DIR --workdir runs/ablations --out benchmarks/results/ablations.json

Trains the default recipe with one thing changed at a time, several seeds each, and records what `satjax evaluate` finds on validation and
test split. Settings that change what is read of an instruction (layers, prompt) read all of them anew, 15 minutes on two CPU cores; all
others take a minute. What is done already is not done again, and several such commands may share one record. With --config configs/tuned.py,
or configs/tuned.py:large, it is the recipe that trains the LLM too that is changed. Further --config.a.b=value arguments hold for all of them.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from satjax.config.load import load_config
from satjax.evaluation.evaluate import evaluate
from satjax.evaluation.zoos import read_zoos
from satjax.files import locked, write_text
from satjax.outcomes import open_outcomes
from satjax.router import Router
from satjax.train import train

ROOT = Path(__file__).parents[1]
HEAD = "--config.router.ability_head"
THROUGH_A_CONNECTOR = (
    "--config.stages[0].trainable=('connector/.*','ability/(read|demand|ability)/.*')",
    "--config.stages[0].scales=(('connector/.*',0.1),('ability/ability/.*',0.3))",
    "--config.optimizer.weight_decay=10.0",
)
CHANGES: dict[str, tuple[str, ...]] = {
    "the default": (),
    "rank 8": (f"{HEAD}.rank=8",),
    "rank 64": (f"{HEAD}.rank=64",),
    "hidden 64": (f"{HEAD}.hidden=64",),
    "hidden 1024": (f"{HEAD}.hidden=1024",),
    "no contrast over candidates": ("--config.loss.over_candidates=0.0",),
    "contrast over candidates 1": ("--config.loss.over_candidates=1.0",),
    "contrast over instructions 0.25": ("--config.loss.over_instructions=0.25",),
    "weight decay 1": ("--config.optimizer.weight_decay=1.0",),
    "weight decay 10": ("--config.optimizer.weight_decay=10.0",),
    "abilities at the rate of the rest": ("--config.stages[0].scales=()",),
    "aptitude items that tell candidates apart": ("--config.aptitude.draw=distinguishing",),
    "profiles of tasks, a connector": (
        "--config.router.profile_encoder.kind=tasks",
        "--config.batch.hidden_items=0.3",
        *THROUGH_A_CONNECTOR,
    ),
    "profiles of tasks, nothing hidden": ("--config.router.profile_encoder.kind=tasks", *THROUGH_A_CONNECTOR),
    "profiles as text, the paper's connector": ("--config.router.profile_encoder.kind=text", *THROUGH_A_CONNECTOR),
    "no features hidden, half the steps": ("--config.batch.hidden_features=0.0", "--config.stages[0].steps=432"),
    "half the steps": ("--config.stages[0].steps=432",),
    "twice the steps": ("--config.stages[0].steps=1728",),
}


def second_stage(steps: int, adapters: float, rate: float = 3e-4, abilities: float = 3.0) -> tuple[str, ...]:
    """Steps of the stage that trains the LLM too, the rate of its adapters, and those of the head and of the abilities (times that of the head)."""
    scales = f"(('connector/ability',{abilities}),('llm/.*',{adapters / rate:.4g}))"
    return tuple(
        f"--config.stages[1].{key}={value}"
        for key, value in (("steps", steps), ("learning_rate", rate), ("scales", scales))
    )


AT_ONCE = (
    "--config.stages[0].steps=1",
    "--config.stages[0].warmup_steps=0",
    "--config.stages[0].learning_rate=1e-12",
    "--config.stages[1].warmup_steps=50",
)
TUNED: dict[str, tuple[str, ...]] = {
    "two passes, adapters at 1e-4": second_stage(108, 1e-4),
    "two passes, adapters at 3e-4": second_stage(108, 3e-4),
    "three passes, adapters at 3e-4": second_stage(162, 3e-4),
    "six passes, adapters at 3e-4": second_stage(324, 3e-4),
    "three passes, adapters at 1e-3": second_stage(162, 1e-3),
    "head and adapters at once, five passes": (*AT_ONCE, *second_stage(270, 3e-4, 1e-3, 10.0)),
    "two passes, the whole LLM at 1e-5": (
        "--config.router.llm.lora_rank=0",
        "--config.stages[1].trainable=('connector/ability','ability/(read|demand)/.*','llm/.*')",
        *second_stage(108, 1e-5),
    ),
    "three passes, rank 64": ("--config.router.llm.lora_rank=64", *second_stage(162, 3e-4)),
}
FIGURES = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier", "log_loss")


def measured(router: Router, outcomes: str, split: str) -> dict[str, Any]:
    """Correctness and routing accuracy of one split."""
    found = evaluate(router, open_outcomes(outcomes), split=split, zoos=read_zoos(ROOT / "configs" / "zoos.toml"))
    routing = {zoo: values["router"] for zoo, values in found["routing"].items()}
    return {**found["correctness"], "routing": routing}


def recorded(path: Path) -> dict[str, Any]:
    """What is known so far, by change and seed."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=str(ROOT / "configs" / "smollm2.py"))
    parser.add_argument("--outcomes", required=True)
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of changes; all by default")
    options, more = parser.parse_known_args()
    changes = TUNED if Path(options.config.partition(":")[0]).stem == "tuned" else CHANGES
    for name in options.only or changes:
        for seed in range(options.seeds):
            if str(seed) in recorded(options.out).get(name, {}).get("seeds", {}):
                continue
            flags = [f"--config.data.outcomes={options.outcomes}", f"--config.seed={seed}", *more, *changes[name]]
            workdir = options.workdir / f"{name.replace(' ', '-')}-{seed}"
            router = Router.load(train(load_config(options.config, flags), workdir), keep_features=True)
            found = {split: measured(router, options.outcomes, split) for split in ("val", "test")}
            with locked(options.out):
                record = recorded(options.out)
                entry = record.setdefault(name, {"flags": list(changes[name]), "seeds": {}})
                entry["seeds"][str(seed)] = found
                write_text(options.out, json.dumps(record, indent=1) + "\n")
    record = recorded(options.out)
    table = Table(box=None)
    for column in ("change", "seeds", *FIGURES, "routing, all"):
        table.add_column(column)
    for name, entry in record.items():
        seeds = [found["test"] for found in entry["seeds"].values()]
        cells = []
        for figure in FIGURES:
            values = [found[figure] for found in seeds]
            spread = f" ±{statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        table.add_row(name, str(len(seeds)), *cells, f"{100 * statistics.mean(s['routing']['all'] for s in seeds):.2f}")
    Console(width=200).print(table)


if __name__ == "__main__":
    sys.exit(main())
