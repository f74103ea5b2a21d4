"""What each stage trains and how fast: parameter selection by path, and the optax chain."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import jax
import optax

from satjax.config import OptimizerConfig, StageConfig
from satjax.errors import SatjaxError

Leaf = TypeVar("Leaf")

ADAPTERS = "llm/.*/lora_[ab]"
MEASURED = ("ability/mean", "ability/spread")
"""What is neither of the base weights nor trained."""


def is_trainable(path: str, stage: StageConfig) -> bool:
    """Whether the stage moves the parameter at `path`."""
    return any(re.fullmatch(pattern, path) for pattern in stage.trainable)


def trainable_paths(paths: Iterable[str], stage: StageConfig) -> list[str]:
    """The paths that the stage trains, sorted; every pattern must match something, and every scale change the rate of something."""
    paths = sorted(paths)
    for pattern in (*stage.trainable, *(pattern for pattern, _ in stage.scales)):
        try:
            matched = any(re.fullmatch(pattern, path) for path in paths)
        except re.error as error:
            raise SatjaxError(f"config stage {stage.name!r}: {pattern!r} is no regular expression: {error}") from error
        if not matched:
            raise SatjaxError(
                f"config stage {stage.name!r}: {pattern!r} matches no parameter; paths look like {paths[0]!r}, {paths[-1]!r}"
            )
    chosen = [path for path in paths if is_trainable(path, stage)]
    first = {next((p for p, _ in stage.scales if re.fullmatch(p, path)), None) for path in chosen}
    for pattern, _ in stage.scales:
        if pattern not in first:
            raise SatjaxError(
                f"config stage {stage.name!r}: the scale of {pattern!r} changes nothing: the stage trains no parameter that it matches, or one "
                "before it in scales matches them; mend trainable, or take it out of scales"
            )
    return chosen


def check_trained(paths: Iterable[str], stages: Sequence[StageConfig]) -> None:
    """Raises SatjaxError where something that no base weights hold, a layer or the LLM's adapters, would stay as it was initialized.

    What stages train with a scale of 0 is meant to.
    """
    parts: dict[str, list[str]] = {}
    for path in sorted(paths):
        if "/lora_" in path:
            parts.setdefault(ADAPTERS, []).append(path)
        elif not path.startswith(("llm/", "encoder/")) and path not in MEASURED:
            parts.setdefault(f"{path.rpartition('/')[0]}/.*", []).append(path)
    idle = [
        pattern
        for pattern, members in parts.items()
        if not any(is_trainable(path, stage) for path in members for stage in stages)
    ]
    if idle:
        without = ", or set router.llm.lora_rank = 0" if idle == [ADAPTERS] else ""
        raise SatjaxError(
            f"config stages: none trains {parts[idle[0]][0]!r}, which would stay as it was initialized; add {', '.join(map(repr, idle))} to the "
            f"trainable of one{without}"
        )


def partition(params: Mapping[str, Leaf], paths: Iterable[str]) -> tuple[dict[str, Leaf], dict[str, Leaf]]:
    """Splits parameters into those at `paths` and the rest."""
    chosen = set(paths)
    return ({p: v for p, v in params.items() if p in chosen}, {p: v for p, v in params.items() if p not in chosen})


def learning_rate_scale(path: str, stage: StageConfig) -> float:
    """Factor on the stage's learning rate for one parameter: the first pattern of `scales` that matches."""
    return next((scale for pattern, scale in stage.scales if re.fullmatch(pattern, path)), 1.0)


def schedule(stage: StageConfig, config: OptimizerConfig) -> optax.Schedule:
    """Linear warm-up from 0, then a cosine down to `final_scale` of the rate at the stage's last step."""
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        decay_steps=stage.steps,
        end_value=stage.learning_rate * config.final_scale,
    )


def make_optimizer(stage: StageConfig, config: OptimizerConfig) -> optax.GradientTransformation:
    """Clipping by global norm, then AdamW with per-path rates; only the weights of linear layers, token embeddings and LoRA decay: not
    biases, gains, learned abilities or positions.
    """

    def scale_by_path(updates: optax.Updates, params: optax.Params | None = None) -> optax.Updates:
        return {path: update * learning_rate_scale(path, stage) for path, update in updates.items()}

    def matrices(params: optax.Params) -> dict[str, bool]:
        return {path: path.rsplit("/", 1)[-1] in ("kernel", "embedding", "lora_a", "lora_b") for path in params}

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(config.beta1, config.beta2, mu_dtype=jax.numpy.float32),
        optax.add_decayed_weights(config.weight_decay, mask=matrices),
        optax.stateless(scale_by_path),
        optax.scale_by_learning_rate(schedule(stage, config)),
    )
