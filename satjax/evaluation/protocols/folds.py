"""Folds of a protocol: routers of one recipe, each trained without something."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from satjax.config import TrainConfig
from satjax.outcomes import OutcomeTable
from satjax.router import Router
from satjax.train import train

Progress = Callable[[str, int, int], Any]
"""Hears what is being done, how much of it is done, and how much there is."""


def families(table: OutcomeTable) -> dict[str, list[str]]:
    """Candidates by family, families in order of their names; one without a family is its own."""
    found: dict[str, list[str]] = {}
    for candidate in table.candidates:
        found.setdefault(candidate.family or candidate.id, []).append(candidate.id)
    return dict(sorted(found.items()))


def trained(
    config: TrainConfig, workdir: Path, name: str, *, candidates: Sequence[str] = (), categories: Sequence[str] = ()
) -> Router:
    """The router of the recipe without these candidates and categories of items, trained in a folder of its own.

    A fold that is there is not trained again: `train` goes on where it stopped, and refuses a folder of another config.
    """
    data = dataclasses.replace(
        config.data, held_out_candidates=tuple(candidates), held_out_categories=tuple(categories)
    )
    fold = dataclasses.replace(config, data=data)
    return Router.load(train(fold, fold_folder(workdir, name)), keep_features=True)


def fold_folder(workdir: Path, name: str) -> Path:
    """Where the router of a fold is, and what else was computed in it."""
    return workdir / re.sub(r"[^\w.-]", "_", name)
