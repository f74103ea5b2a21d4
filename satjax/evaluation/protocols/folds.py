"""Folds of a protocol: routers of one recipe, each trained without something."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from satjax.aptitude import AptitudeTest
from satjax.config import TrainConfig, ValidationConfig
from satjax.errors import SatjaxError, some
from satjax.evaluation.evaluate import scored
from satjax.files import safe_name
from satjax.outcomes import OutcomeTable
from satjax.router import Router
from satjax.train import train


def families(table: OutcomeTable) -> dict[str, list[str]]:
    """Candidates by family, families in order of their names; one without a family is its own."""
    found: dict[str, list[str]] = {}
    for candidate in table.candidates:
        found.setdefault(candidate.family or candidate.id, []).append(candidate.id)
    return dict(sorted(found.items()))


def families_to_leave_out(table: OutcomeTable, protocol: str) -> dict[str, list[str]]:
    """The `families`; raises SatjaxError where there is one only."""
    found = families(table)
    if len(found) < 2:
        raise SatjaxError(f"{protocol}: the outcome table has one family only; nothing would be left to train on")
    return found


def check_nothing_held_out(config: TrainConfig, protocol: str) -> None:
    """Raises SatjaxError where the config holds something out: a protocol's folds would train on it, each holding out what is its own."""
    for name, kind in (("held_out_candidates", "candidates"), ("held_out_categories", "categories")):
        if held_out := getattr(config.data, name):
            raise SatjaxError(
                f"{protocol}: config data.{name} holds out {some([*map(repr, held_out)])}, "
                f"and this protocol holds out by itself; remove it, or leave those {kind} out of the outcome table"
            )


def trained(
    config: TrainConfig, workdir: Path, name: str, *, candidates: Sequence[str] = (), categories: Sequence[str] = ()
) -> Router:
    """The router of the recipe without these candidates and categories of items, trained in a folder of its own.

    A fold that is there is not trained again: `train` goes on where it stopped, and refuses a folder of another config.
    """
    data = dataclasses.replace(
        config.data, held_out_candidates=tuple(candidates), held_out_categories=tuple(categories)
    )
    # Nobody opens the curve of a fold.
    fold = dataclasses.replace(config, data=data, validation=ValidationConfig())
    return Router.load(train(fold, fold_folder(workdir, name)), keep_features=True)


def trained_and_scored(
    config: TrainConfig,
    workdir: Path,
    name: str,
    table: OutcomeTable,
    protocol: str,
    *,
    candidates: Sequence[str] = (),
    categories: Sequence[str] = (),
) -> tuple[np.ndarray, AptitudeTest]:
    """Probabilities of all candidates on the table's test split, float64 `[B, M]`, by the router that is `trained` without these, and its aptitude test.

    The router itself is let go: it holds base weights on the device, where the next fold is trained. Raises SatjaxError for a candidate that
    it cannot know.
    """
    router = trained(config, workdir, name, candidates=candidates, categories=categories)
    found = scored(router, table)
    for candidate, reason in found.left_out.items():
        raise SatjaxError(f"{protocol}: {candidate!r} is known by nothing ({reason}); leave it out of the table")
    return found.probability_BM, router.aptitude_test


def fold_folder(workdir: Path, name: str) -> Path:
    """Where the router of a fold is, and what else was computed in it."""
    return workdir / safe_name(name)
