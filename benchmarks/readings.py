"""python benchmarks/readings.py --outcomes DIR --workdir runs/readings --out benchmarks/results/readings.json --means 16,20 --lasts 20

What to read of an instruction: which layers of the LLM, after which words. Each reading is a recipe's (`--config`) head trained anew by cross-validation over the
training instructions, and compared with the recipe's own reading instruction by instruction, with the standard error of the difference: a validation
split of a thousand instructions takes chance for a finding (`benchmarks/experiments.md`). The LLM reads the instructions once for each prompt, minutes on a GPU;
what is read is kept in the cache.
"""

import argparse
import dataclasses
import json
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

from satjax.calibration import fit_calibration
from satjax.config import AbilityHeadConfig, TrainConfig
from satjax.config.load import load_config
from satjax.files import write_text
from satjax.metrics import auroc_pooled
from satjax.models.ability_head import AbilityHead
from satjax.training.batches import BatchPlan, TrainingSet
from satjax.training.data import feature_reader, place_params
from satjax.training.feature_norms import feature_norms
from satjax.training.job import prepare
from satjax.training.losses import total_loss
from satjax.training.optimizer import make_optimizer
from satjax.training.train_step import kept_features

ROOT = Path(__file__).parents[1]
OWN = "the config's"
PROMPTS = {
    "letter": ("Instruction:\n", "\n\nAnswer with the letter of the right option. The answer is ("),
    "question": ("Question:\n", "\nThe answer is ("),
    "difficulty": ("Instruction:\n", "\n\nFrom 1, what everybody can do, to 10, what hardly any expert can, this is a"),
}
"""What may stand before and after an instruction in the place of what the config says."""


class Reading(NamedTuple):
    """What is read of an instruction."""

    prompt: str
    means: tuple[int, ...]
    lasts: tuple[int, ...]


class Instructions(NamedTuple):
    """Outcomes `[N, M]`, NaN = unobserved, and the part of the cross-validation that each instruction is in, `[N]`."""

    outcome_NM: np.ndarray
    fold_N: np.ndarray


def read(config: TrainConfig, workdir: Path, prompt: str, layers: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """States of the training instructions, float32 `[N, 2 L, D]`, means of the L layers and then last ones; and their outcomes `[N, M]`."""
    head = dataclasses.replace(config.router.ability_head, mean_layers=layers, last_layers=layers)
    config = dataclasses.replace(config, router=dataclasses.replace(config.router, ability_head=head))
    job = prepare(config, workdir / prompt.replace(" ", "-"))
    if prompt != OWN:
        writer = job.assembly.writer
        start, end = (tuple(writer.tokenizer.encode(text, add_special_tokens=False).ids) for text in PROMPTS[prompt])
        writer = dataclasses.replace(writer, start_ids=start, end_ids=end)
        job = dataclasses.replace(job, assembly=dataclasses.replace(job.assembly, writer=writer))
    params = place_params(job)
    texts = [item.text for item in job.train.items]

    def hear(done: int, total: int) -> None:
        print(
            f"\r{prompt}: {done} of {total} instructions read", end="\n" * (done == total), file=sys.stderr, flush=True
        )

    feature_NF = feature_reader(job, params).read(params, texts, hear)
    return feature_NF.reshape(len(texts), 2 * len(layers), -1), np.ascontiguousarray(job.train.scores_MN.T)


class Fits(NamedTuple):
    """F heads to be trained on the same instructions: first parameters `[F, ...]`, and by step, S in all, rows of N and what is hidden, `[F, S, B]`, `[F, S]`."""

    params: dict[str, jax.Array]
    index_FSB: np.ndarray
    seed_FS: np.ndarray


def scores(config: TrainConfig, state_NSD: np.ndarray, given: Instructions, seeds: int) -> np.ndarray:
    """Logits float32 `[N, M]` of every instruction, means over heads of so many seeds that learned from the other folds, as many passes as the config's over all."""
    head = AbilityHeadConfig(
        config.router.ability_head.rank, config.router.ability_head.hidden, tuple(range(1, state_NSD.shape[1] + 1))
    )
    feature_NF, num_folds = state_NSD.reshape(len(state_NSD), -1), len(np.unique(given.fold_N))
    steps = round((1 - 1 / num_folds) * config.stages[-1].steps)
    stage = dataclasses.replace(config.stages[-1], steps=steps, trainable=("connector/ability", "ability/.*"))
    recipe = dataclasses.replace(config, stages=(stage,), seed=0)
    each = [
        _fit(dataclasses.replace(recipe, seed=seed), head, feature_NF, given, fold)
        for fold in range(num_folds)
        for seed in range(seeds)
    ]
    fits = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    score_FNM = np.asarray(_scores(recipe, head, feature_NF, given.outcome_NM, fits))
    score_KNM = score_FNM.reshape(num_folds, seeds, *given.outcome_NM.shape).mean(axis=1)
    return score_KNM[given.fold_N, np.arange(len(feature_NF))]


def _fit(config: TrainConfig, head: AbilityHeadConfig, feature_NF: np.ndarray, given: Instructions, fold: int) -> Fits:
    """One head that does not learn from a fold."""
    taught = np.flatnonzero(given.fold_N != fold)
    ones, (stage,) = np.ones(len(taught), int), config.stages
    data = TrainingSet(feature_NF[taught], ones, given.outcome_NM[taught], ones.astype(bool))
    plan = BatchPlan(data, config.batch, seed=config.seed, stage=0, in_domain=False)
    index_SB = taught[np.stack([plan.batch(step).index.reshape(-1) for step in range(stage.steps)])]
    _, state = nnx.split(_head(config, head, feature_NF.shape[1]))
    flat = {"/".join(map(str, path)): leaf[...] for path, leaf in nnx.to_flat_state(state)}
    params = {f"ability/{path}": value for path, value in flat.items()}
    params |= feature_norms(feature_NF[taught], head.num_states)
    params["connector/ability"] = jnp.zeros((given.outcome_NM.shape[1], head.rank + 1))
    return Fits(params, index_SB, np.arange(stage.steps, dtype=np.uint32) + np.uint32(config.seed * stage.steps))


def _head(config: TrainConfig, head: AbilityHeadConfig, num_features: int) -> AbilityHead:
    return AbilityHead(head, num_features // head.num_states, nnx.Rngs(config.seed), measured=True)


@partial(jax.jit, static_argnames=("config", "head"))
def _scores(
    config: TrainConfig, head: AbilityHeadConfig, feature_NF: jax.Array, outcome_NM: jax.Array, fits: Fits
) -> jax.Array:
    """Logits `[F, N, M]` of all instructions by each of the heads, trained all at once: one alone leaves an accelerator idle."""
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: _head(config, head, feature_NF.shape[1])))
    optimizer, hidden = make_optimizer(config.stages[0], config.optimizer), config.batch.hidden_features

    def score(params: dict[str, jax.Array], feature_BF: jax.Array, kept_BF: jax.Array | None = None) -> jax.Array:
        own = {path.removeprefix("ability/"): value for path, value in params.items() if path.startswith("ability/")}
        model = nnx.merge(
            graphdef, nnx.from_flat_state({tuple(path.split("/")): nnx.Param(v) for path, v in own.items()})
        )
        return model(feature_BF, params["connector/ability"][None, :, None, :], kept_BF)

    def one(fit: Fits) -> jax.Array:
        params = dict(fit.params)
        fixed = {path: params.pop(path) for path in ("ability/mean", "ability/spread")}

        def loss(learned: dict[str, jax.Array], at: jax.Array, seed: jax.Array) -> jax.Array:
            kept = kept_features(seed[None], (len(at), feature_NF.shape[1]), hidden) if hidden else None
            score_BM = score(learned | fixed, feature_NF[at], kept)
            return total_loss(score_BM[None], outcome_NM[at][None], config.loss)[0]

        def step(carry: tuple, given: tuple) -> tuple:
            learned, opt_state = carry
            updates, opt_state = optimizer.update(jax.grad(loss)(learned, *given), opt_state, learned)
            return (optax.apply_updates(learned, updates), opt_state), None

        (learned, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), (fit.index_FSB, fit.seed_FS))
        return score(learned | fixed, feature_NF)

    return jax.vmap(one)(fits)


def losses(score_NM: np.ndarray, outcome_NM: np.ndarray) -> np.ndarray:
    """Log loss of each instruction, float64 `[N]`, after Platt's map of all scores."""
    probability_NM = fit_calibration(score_NM, outcome_NM).probability(score_NM).astype(np.float64).clip(1e-7, 1 - 1e-7)
    loss_NM = -outcome_NM * np.log(probability_NM) - (1 - outcome_NM) * np.log1p(-probability_NM)
    return np.nanmean(loss_NM, axis=1)


def compared(loss_N: np.ndarray, own_N: np.ndarray) -> dict[str, float]:
    """Mean log loss, how much that is below the config's own reading, and the standard error of this over instructions."""
    gain_N = own_N - loss_N
    return {
        "log_loss": float(loss_N.mean()),
        "gain": float(gain_N.mean()),
        "standard_error": float(gain_N.std(ddof=1) / np.sqrt(len(gain_N))),
    }


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=str(ROOT / "configs" / "smollm2.py"))
    parser.add_argument("--outcomes", required=True)
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument(
        "--means", nargs="*", type=numbers, default=[], metavar="N,N", help="layers whose means are read"
    )
    parser.add_argument("--lasts", nargs="*", type=numbers, default=[], metavar="N,N", help="whose last states are")
    parser.add_argument("--prompts", nargs="*", default=[], choices=PROMPTS, help="beside the config's own")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2, help="heads whose logits are averaged")
    options, more = parser.parse_known_args()
    config = load_config(options.config, [f"--config.data.outcomes={options.outcomes}", *more])
    head = config.router.ability_head
    own = Reading(OWN, head.mean_layers, head.last_layers)
    layers = tuple(sorted({*own.means, *own.lasts, *(n for pick in (*options.means, *options.lasts) for n in pick)}))
    found: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), "folds": options.folds, "rows": []}
    table = Table(
        "prompt", "means of layers", "last of", "log loss", "gain", "standard error", "pooled AUROC", box=None
    )
    own_N = np.zeros(0)
    for prompt in (OWN, *options.prompts):
        state_NSD, outcome_NM = read(config, options.workdir, prompt, layers)
        given = Instructions(outcome_NM, np.random.default_rng(0).permutation(len(outcome_NM)) % options.folds)
        picks = [(own.means, own.lasts), *product(options.means, options.lasts)]
        for means, lasts in dict.fromkeys(picks):
            chosen = [layers.index(n) for n in means] + [len(layers) + layers.index(n) for n in lasts]
            score_NM = scores(config, state_NSD[:, chosen], given, options.seeds)
            loss_N = losses(score_NM, outcome_NM)
            own_N = loss_N if not len(own_N) else own_N
            row = compared(loss_N, own_N) | {"auroc_pooled": auroc_pooled(score_NM, outcome_NM)}
            found["rows"].append(Reading(prompt, means, lasts)._asdict() | row)
            write_text(options.out, json.dumps(found, indent=1) + "\n")
            table.add_row(prompt, str(means), str(lasts), *(f"{value:.4f}" for value in row.values()))
    Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main())
