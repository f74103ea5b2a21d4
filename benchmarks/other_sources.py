"""python benchmarks/other_sources.py --data DIR --workdir runs/sources --out benchmarks/results

The default recipe on sources other than MMLU-Pro, each with an aptitude test of its own, drawn from its own training split: its tasks, or
clusters of its instructions where it names none. How many passes over the training instructions it takes is chosen on the validation split
with seed 0 (log loss); five seeds of the choice stand beside the baselines, as `satjax bench` has them, in `OUT/bench_SOURCE.json`. DIR holds
a folder for each source. What is done already is not done again.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from satjax.config import EncoderWeights, TrainConfig
from satjax.config.load import load_config
from satjax.evaluation.bench import bench
from satjax.evaluation.evaluate import evaluate
from satjax.evaluation.provenance import made_of
from satjax.outcomes import OutcomeTable, open_outcomes
from satjax.render.evaluation import bench_table
from satjax.render.progress import steps
from satjax.router import Router
from satjax.train import train
from satjax.weights.fetch import resolve

ROOT = Path(__file__).parents[1]
SOURCES: dict[str, tuple[str, ...]] = {
    "alpaca_eval": ("--config.aptitude.num_tasks=5", "--config.aptitude.shots=40"),
    "llmrouter": ("--config.aptitude.num_tasks=25", "--config.aptitude.clusters=40"),
    "routerbench": ("--config.aptitude.num_tasks=3", "--config.aptitude.shots=100"),
}
"""How each one's aptitude test is drawn: tests of 200, 500 and 300 items."""
ROWS = 32
"""Instructions of a batch: these sources are small."""
PASSES = (4, 8, 16, 32)


def config_of(outcomes: Path, flags: tuple[str, ...], passes: int, seed: int) -> TrainConfig:
    """The recipe with as many steps as the passes take."""
    taught = int(open_outcomes(outcomes).of_split("train").sum())
    num_steps = max(1, passes * taught // ROWS)
    return load_config(
        str(ROOT / "configs" / "smollm2.py"),
        [
            f"--config.data.outcomes={outcomes}",
            f"--config.seed={seed}",
            f"--config.batch.instructions={ROWS}",
            f"--config.stages[0].steps={num_steps}",
            f"--config.stages[0].warmup_steps={num_steps // 8}",
            *flags,
        ],
    )


def chosen_passes(source: str, table: OutcomeTable, outcomes: Path, workdir: Path) -> dict[str, float]:
    """Log loss on the validation split by the number of passes."""
    found = {}
    for passes in PASSES:
        target = workdir / f"{source}-{passes}-0"
        router = Router.load(train(config_of(outcomes, SOURCES[source], passes, 0), target), keep_features=True)
        found[str(passes)] = evaluate(router, table, split="val")["correctness"]["log_loss"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(SOURCES))
    options = parser.parse_args()
    for source in options.only:
        path = options.out / f"bench_{source}.json"
        if path.is_file():
            continue
        outcomes = options.data / source
        table = open_outcomes(outcomes)
        losses = chosen_passes(source, table, outcomes, options.workdir)
        passes = int(min(losses, key=lambda name: losses[name]))
        routers = [
            Router.load(
                train(
                    config_of(outcomes, SOURCES[source], passes, seed), options.workdir / f"{source}-{passes}-{seed}"
                ),
                keep_features=True,
            )
            for seed in range(options.seeds)
        ]
        encoder = resolve(EncoderWeights().weights)
        with steps() as on_progress:
            figures: dict[str, Any] = bench(
                routers,
                table,
                encoder=encoder,
                kept=options.workdir / f"{source}-baselines",
                on_progress=on_progress,
            )
        figures = {
            "flags": list(SOURCES[source]),
            "passes": passes,
            "val_log_loss_by_passes": losses,
            "made": made_of(source, table, encoder=encoder.source),
            **figures,
        }
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        Console().print(f"\n{source}: {passes} passes")
        bench_table(figures)


if __name__ == "__main__":
    sys.exit(main())
