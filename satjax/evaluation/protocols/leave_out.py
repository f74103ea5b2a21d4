"""Unseen candidates and unseen categories: each family, or each category, is left out of training in turn."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from satjax.config import TrainConfig
from satjax.errors import SatjaxError
from satjax.evaluation.baselines import (
    BASELINES,
    Instructions,
    aptitude_fold,
    baseline_data,
    fitted,
)
from satjax.evaluation.comparison import ONE_NEW, ROUTER, SEEN, Method, compare
from satjax.evaluation.embed import embed
from satjax.evaluation.figures import Zoos
from satjax.evaluation.leakage import warn_of_leakage
from satjax.evaluation.protocols import LEAVE_CATEGORY_OUT, UNSEEN_FAMILIES
from satjax.evaluation.protocols.folds import (
    check_nothing_held_out,
    families_to_leave_out,
    fold_folder,
    trained_and_scored,
)
from satjax.outcomes import OutcomeTable, open_outcomes
from satjax.progress import Steps, unheard
from satjax.weights.fetch import resolve

WITHOUT_TASKS = tuple(name for name, baseline in BASELINES.items() if not baseline.knows_tasks)
"""Baselines that can say something about a category that they have never met."""


def unseen_families(
    config: TrainConfig,
    workdir: Path,
    *,
    zoos: Zoos | None = None,
    baselines: Sequence[str] = tuple(BASELINES),
    on_progress: Steps = unheard,
) -> dict[str, Any]:
    """Every candidate's column comes from a router, and from baselines, that have never met its family: its aptitude test is all they know.

    The same candidates by a router that was trained on them stand beside, and what each fold's router makes of the whole zoo (`ONE_NEW`): columns of
    different routers do not compete there. Figures as `satjax.evaluation.comparison.compare` gives them.
    """
    check_nothing_held_out(config, UNSEEN_FAMILIES)
    table = open_outcomes(config.data.outcomes)
    warn_of_leakage(table, "test")
    groups = families_to_leave_out(table, UNSEEN_FAMILIES)
    held, embedding_NE = _held(table), _embedding(config, table, on_progress)
    column = {name: i for i, name in enumerate(table.candidate_ids)}
    shape = len(held), len(table.candidates)
    found: dict[str, np.ndarray] = {name: np.full(shape, np.nan) for name in (ROUTER, *baselines)}
    one_new_FBM = np.full((len(groups), *shape), np.nan)
    for done, (family, names) in enumerate(groups.items()):
        on_progress("folds", done, len(groups) + 1)
        fold = f"without-family-{family}"
        probability_BM, test = trained_and_scored(config, workdir, fold, table, UNSEEN_FAMILIES, candidates=names)
        columns = [column[name] for name in names]
        one_new_FBM[done] = probability_BM
        found[ROUTER][:, columns] = probability_BM[:, columns]
        known = table.select_candidates([name for name in table.candidate_ids if name not in names])
        data = baseline_data(known, embedding_NE, test)
        anchor = aptitude_fold(table.select_candidates(names), embedding_NE, test)
        kept = fold_folder(workdir, fold) / "baselines"
        asked = _instructions(table, embedding_NE, held)
        for i, name in enumerate(baselines):
            on_progress("baselines", done * len(baselines) + i, len(groups) * len(baselines))
            found[name][:, columns] = fitted(
                kept, name, 0, BASELINES[name].fit_unseen, data, anchor, asked=asked
            ).probability_BM
    on_progress("baselines", len(groups) * len(baselines), len(groups) * len(baselines))
    on_progress("folds", len(groups), len(groups) + 1)
    found[SEEN], _ = trained_and_scored(config, workdir, "all", table, UNSEEN_FAMILIES)
    on_progress("folds", len(groups) + 1, len(groups) + 1)
    found[ONE_NEW] = one_new_FBM
    return {"protocol": UNSEEN_FAMILIES, "folds": groups, **_compared(found, table, held, zoos, on_progress)}


def leave_category_out(
    config: TrainConfig,
    workdir: Path,
    *,
    zoos: Zoos | None = None,
    baselines: Sequence[str] = WITHOUT_TASKS,
    on_progress: Steps = unheard,
) -> dict[str, Any]:
    """Every instruction's row comes from a router, and from baselines, that have never met its category, in training or aptitude test."""
    check_nothing_held_out(config, LEAVE_CATEGORY_OUT)
    table = open_outcomes(config.data.outcomes)
    warn_of_leakage(table, "test")
    held, embedding_NE = _held(table), _embedding(config, table, on_progress)
    category_B = np.array([table.items[i].category for i in held])
    names = sorted(set(category_B))
    if len(names) < 2:
        raise SatjaxError(
            f"{LEAVE_CATEGORY_OUT}: the outcome table has one category only; nothing would be left to train on"
        )
    shape = len(held), len(table.candidates)
    found = {name: np.full(shape, np.nan) for name in (ROUTER, *baselines)}
    for done, category in enumerate(names):
        on_progress("folds", done, len(names) + 1)
        fold = f"without-category-{category}"
        rows = np.flatnonzero(category_B == category)
        # Profiles of candidates that the router does not know are made of aptitude items, which are of the training split.
        asked_of_it = np.array([item.split != "test" or item.category == category for item in table.items])
        found[ROUTER][rows], test = trained_and_scored(
            config, workdir, fold, table.select_items(asked_of_it), LEAVE_CATEGORY_OUT, categories=[category]
        )
        known = np.array([item.category != category for item in table.items])
        data = baseline_data(table.select_items(known), embedding_NE[known], test)
        kept = fold_folder(workdir, fold) / "baselines"
        asked = _instructions(table, embedding_NE, held[rows])
        for i, name in enumerate(baselines):
            on_progress("baselines", done * len(baselines) + i, len(names) * len(baselines))
            found[name][rows] = fitted(kept, name, 0, BASELINES[name].fit, data, asked=asked).probability_BM
    on_progress("baselines", len(names) * len(baselines), len(names) * len(baselines))
    on_progress("folds", len(names), len(names) + 1)
    found[SEEN], _ = trained_and_scored(config, workdir, "all", table, LEAVE_CATEGORY_OUT)
    on_progress("folds", len(names) + 1, len(names) + 1)
    return {"protocol": LEAVE_CATEGORY_OUT, "folds": names, **_compared(found, table, held, zoos, on_progress)}


def _held(table: OutcomeTable) -> np.ndarray:
    """Test items by index; aptitude items are of the training split, so that none of them is among these."""
    return np.flatnonzero(table.of_split("test"))


def _embedding(config: TrainConfig, table: OutcomeTable, on_progress: Steps) -> np.ndarray:
    encoder = config.router.encoder
    texts = [item.text for item in table.items]
    hear = partial(on_progress, "embeddings")
    return embed(resolve(encoder.weights), texts, query_prefix=encoder.query_prefix, on_progress=hear)


def _instructions(table: OutcomeTable, embedding_NE: np.ndarray, index: np.ndarray) -> Instructions:
    return Instructions(embedding_NE[index], tuple(table.items[i].task for i in index))


def _compared(
    found: dict[str, np.ndarray], table: OutcomeTable, held: np.ndarray, zoos: Zoos | None, on_progress: Steps
) -> dict[str, Any]:
    """Figures of probabilities `[B, M]`, or, for several fits, `[S, B, M]`."""
    methods = {
        name: Method(fits.reshape(-1, *fits.shape[-2:]), {}, None, "families" if name == ONE_NEW else "seeds")
        for name, fits in found.items()
    }
    return compare(methods, table, table.select_items(held), zoos or {}, on_progress)
