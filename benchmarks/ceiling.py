"""python benchmarks/ceiling.py --outcomes DIR --workdir runs/ceiling --out benchmarks/results/ceiling.json

What limits the default recipe on its outcomes. `data`: the same recipe on a quarter, a half and all of the training instructions (the same
aptitude test, as many passes), several seeds. `knowledge`: how well a candidate's outcome is predicted when, beside the text or in its place,
the outcomes of all other candidates on the very instruction are known, by the same abilities-times-demands model: what the text does not
tell, and what no knowledge of the instruction's demands could tell either.
"""

import argparse
import dataclasses
import json
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from satjax.aptitude import AptitudeTest
from satjax.calibration import fit_calibration
from satjax.checkpoint import Checkpoints
from satjax.config import TrainConfig
from satjax.config.load import load_config
from satjax.evaluation.evaluate import evaluate
from satjax.metrics import correctness
from satjax.outcomes import OutcomeTable, open_outcomes, write_table
from satjax.router import Router
from satjax.train import train
from satjax.training.data import place_params
from satjax.training.finish import demands
from satjax.training.job import prepare
from satjax.training.stage_loop import restore

ROOT = Path(__file__).parents[1]
FIGURES = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
SHARES = (0.25, 0.5, 1.0)
WIDTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Times the spread of the training instructions' demands: how far an instruction's may lie from what is expected of them."""
NEWTON_STEPS = 12


def some_of(table: OutcomeTable, test: AptitudeTest, share: float, seed: int) -> OutcomeTable:
    """The table with a share of its training items: those of the aptitude test, and others drawn by the seed."""
    taught = np.flatnonzero(table.of_split("train")).tolist()
    rest = [i for i in taught if table.items[i].id not in test.item_ids]
    others = max(0, round(share * len(taught)) - (len(taught) - len(rest)))
    dropped = set(np.random.default_rng(seed).permutation(rest)[others:].tolist())
    return table.select_items(np.array([i not in dropped for i in range(len(table.items))]))


def trained_on(config: TrainConfig, table: OutcomeTable, test: AptitudeTest, share: float, workdir: Path) -> Router:
    """The recipe on a share of the training instructions, with as many passes over them."""
    workdir.mkdir(parents=True, exist_ok=True)
    outcomes = workdir / "outcomes"
    if not outcomes.is_dir():
        write_table(some_of(table, test, share, config.seed), outcomes)
    stages = tuple(
        dataclasses.replace(s, steps=round(share * s.steps), warmup_steps=round(share * s.warmup_steps))
        for s in config.stages
    )
    data = dataclasses.replace(config.data, outcomes=str(outcomes))
    return Router.load(
        train(dataclasses.replace(config, stages=stages, data=data), workdir / "run", test), keep_features=True
    )


def demands_and_abilities(config: TrainConfig, workdir: Path, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Demands float32 `[B, R + 1]` of texts, and abilities float32 `[M, R + 1]`, after the last checkpoint of a trained run."""
    job = prepare(config, workdir)
    with Checkpoints(workdir / "checkpoints", config.checkpoint.keep) as checkpoints:
        params, _ = restore(job, checkpoints, place_params(job), config.total_steps)
    return demands(job, params, texts), np.asarray(params["connector/ability"])


@partial(jax.jit, static_argnames="steps")
def left_one_out(
    outcome_BM: jax.Array, ability_MR: jax.Array, mean_BR: jax.Array, precision_RR: jax.Array, steps: int = NEWTON_STEPS
) -> jax.Array:
    """Logits `[B, M]` of each candidate, by the likeliest demands of an instruction given what all the others made of it.

    Demands are Gaussian around `mean_BR`; the likeliest ones are found by Newton's method, every step at most one unit of the prior long.
    """
    load_MR = jnp.concatenate([ability_MR[:, :-1], jnp.ones((len(ability_MR), 1))], axis=1)
    strength_M = ability_MR[:, -1]

    def one(outcome_M: jax.Array, mean_R: jax.Array, m: jax.Array) -> jax.Array:
        known_M = ~jnp.isnan(outcome_M) & (jnp.arange(len(outcome_M)) != m)
        target_M = jnp.where(known_M, outcome_M, 0.0)

        def step(demand_R: jax.Array, _: None) -> tuple[jax.Array, None]:
            share_M = jax.nn.sigmoid(load_MR @ demand_R + strength_M)
            pull_R = load_MR.T @ (known_M * (share_M - target_M)) + precision_RR @ (demand_R - mean_R)
            weight_M = known_M * share_M * (1 - share_M)
            move_R = jnp.linalg.solve(load_MR.T @ (weight_M[:, None] * load_MR) + precision_RR, pull_R)
            length = jnp.sqrt(move_R @ precision_RR @ move_R)
            return demand_R - move_R * jnp.minimum(1.0, 1.0 / length), None

        demand_R, _ = jax.lax.scan(step, mean_R, None, steps)
        return load_MR[m] @ demand_R + strength_M[m]

    over_candidates = jax.vmap(one, in_axes=(None, None, 0))
    return jax.vmap(over_candidates, in_axes=(0, 0, None))(outcome_BM, mean_BR, jnp.arange(len(ability_MR)))


def knowledge(config: TrainConfig, workdir: Path, table: OutcomeTable) -> dict[str, Any]:
    """Figures of the test split by what is known of an instruction; the prior's width is chosen on the validation split."""
    splits = {name: table.split(name) for name in ("train", "val", "test")}
    demand, outcome = {}, {}
    for name, part in splits.items():
        demand[name], ability_MR = demands_and_abilities(config, workdir, [item.text for item in part.items])
        outcome[name] = np.ascontiguousarray(part.scores_MN.T)
    covariance = np.cov(demand["train"].T)
    spread = covariance + 1e-3 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    centre = {name: np.broadcast_to(demand["train"].mean(axis=0), demand[name].shape) for name in demand}

    def scores(split: str, prior: dict[str, np.ndarray], width: float) -> np.ndarray:
        precision = np.linalg.inv(width**2 * spread)
        parts = np.array_split(np.arange(len(outcome[split])), max(1, len(outcome[split]) // 100))
        arrays = [(outcome[split][p], ability_MR, prior[split][p], precision) for p in parts]
        return np.concatenate([np.asarray(left_one_out(*map(jnp.float32, a))) for a in arrays])

    found: dict[str, Any] = {}
    for label, prior in (("the others' outcomes", centre), ("the text and the others' outcomes", demand)):
        tried = {}
        for width in WIDTHS:
            score_BM = scores("val", prior, width)
            calibration = fit_calibration(score_BM, outcome["val"])
            tried[width] = (correctness(calibration.probability(score_BM), outcome["val"])["log_loss"], calibration)
        width = min(tried, key=lambda w: tried[w][0])
        probability_BM = tried[width][1].probability(scores("test", prior, width))
        figures = correctness(probability_BM, outcome["test"])
        found[label] = {**{f: figures[f] for f in FIGURES}, "width": width, "val_log_loss": tried[width][0]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=str(ROOT / "configs" / "smollm2.py"))
    parser.add_argument("--outcomes", required=True)
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    table = open_outcomes(options.outcomes)
    record: dict[str, Any] = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}

    def keep() -> None:
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    config = load_config(options.config, [f"--config.data.outcomes={options.outcomes}"])
    whole = options.workdir / "whole"
    train(config, whole)
    test = AptitudeTest.read(whole / "aptitude_test.json")
    for share in SHARES:
        for seed in range(options.seeds):
            seeds = record.setdefault("data", {}).setdefault(str(share), {})
            if str(seed) not in seeds:
                seeded = dataclasses.replace(config, seed=seed)
                router = trained_on(seeded, table, test, share, options.workdir / f"share-{share}-{seed}")
                figures = evaluate(router, table)["correctness"]
                seeds[str(seed)] = {figure: figures[figure] for figure in FIGURES}
                keep()
    if "knowledge" not in record:
        figures = evaluate(Router.load(whole / "router", keep_features=True), table)["correctness"]
        record["knowledge"] = {"the text": {f: figures[f] for f in FIGURES}, **knowledge(config, whole, table)}
        keep()
    shown = Table(box=None)
    for column in ("known", *FIGURES):
        shown.add_column(column)
    for share, seeds in record["data"].items():
        cells = [[found[figure] for found in seeds.values()] for figure in FIGURES]
        spread = [f"{statistics.mean(c):.4f} ± {statistics.stdev(c) if len(c) > 1 else 0:.4f}" for c in cells]
        shown.add_row(f"{float(share):.0%} of the training instructions", *spread)
    for label, found in record["knowledge"].items():
        shown.add_row(label, *(f"{found[figure]:.4f}" for figure in FIGURES))
    Console(width=160).print(shown)


if __name__ == "__main__":
    sys.exit(main())
