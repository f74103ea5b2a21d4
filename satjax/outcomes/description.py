"""What is in an outcome table, and what is missing from it, as JSON-ready data."""

from collections import Counter
from typing import Any

import numpy as np

from satjax.config import AptitudeConfig
from satjax.errors import some
from satjax.metrics import with_a_choice
from satjax.outcomes.fitting import Drawable, drawable_items, fitting_flags
from satjax.outcomes.merge import leaks, same_questions
from satjax.outcomes.source import with_validation
from satjax.outcomes.splits import folded
from satjax.outcomes.table import SPLITS, OutcomeTable, seldom_tried


def describe(table: OutcomeTable) -> dict[str, Any]:
    """Items, candidates and outcomes in figures; `missing` says in sentences what a user may want to mend first.

    Means are over the items that a candidate answered; `oracle` is the mean of the best observed outcome of each item that is
    `with_a_choice`, `random` that of a random observed one. Text lengths are in characters: median, 90th percentile, longest.
    """
    seen_MN = ~np.isnan(table.scores_MN)
    compared = table.scores_MN[:, with_a_choice(table.scores_MN.T)]
    length_N = np.array([len(item.text) for item in table.items])
    splits = Counter(item.split for item in table.items)
    candidates = [
        {
            "id": candidate.id,
            "mean": float(np.nanmean(scores_N)) if seen_N.any() else None,
            "observed": float(seen_N.mean()),
            "params_b": candidate.params_b,
            "family": candidate.family,
            "release_date": candidate.release_date,
        }
        for candidate, scores_N, seen_N in zip(table.candidates, table.scores_MN, seen_MN, strict=True)
    ]
    return {
        "items": len(table.items),
        "splits": {name: splits[name] for name in SPLITS if splits[name]},
        "sources": sorted({item.source for item in table.items if item.source}),
        "tasks": len(set(table.tasks) - {""}),
        "categories": len(set(table.categories) - {""}),
        "text_length": [int(np.percentile(length_N, 50)), int(np.percentile(length_N, 90)), int(length_N.max())],
        "outcomes": int(seen_MN.sum()),
        "soft_outcomes": int((seen_MN & (table.scores_MN > 0) & (table.scores_MN < 1)).sum()),
        "costs": 0 if table.cost_usd_MN is None else int((~np.isnan(table.cost_usd_MN)).sum()),
        "random": float(np.nanmean(compared, axis=0).mean()) if compared.size else None,
        "oracle": float(np.nanmax(compared, axis=0).mean()) if compared.size else None,
        "candidates": sorted(candidates, key=lambda entry: -(entry["mean"] or 0.0)),
        "missing": _missing(table, splits, seen_MN),
    }


def _missing(table: OutcomeTable, splits: Counter, seen_MN: np.ndarray) -> list[str]:
    found: list[str] = []
    if not splits["train"]:
        found.append("no training items: no router can be trained, and no aptitude test drawn")
    if not splits["test"]:
        found.append(
            "no test items: nothing can be evaluated; `satjax evaluate --split val` measures on validation items"
        )
    if splits["train"] and not splits["val"]:
        found.append("no validation items: a tenth of the training items is taken for it")
    # As training would have it, which may take the validation items from the training ones.
    trained, default = with_validation(table), AptitudeConfig()
    drawable = drawable_items(trained, default.num_tasks, default.shots)
    full = sum(count >= default.shots for count in drawable.counts)
    if splits["train"] and full < default.num_tasks:
        flags = fitting_flags(trained, default.num_tasks, default.shots, default.seed)
        found.append(
            f"training items for the default aptitude test, which takes {default.shots} of each of {default.num_tasks} tasks "
            f"({'1 task has' if full == 1 else f'{full} tasks have'} that many of different texts with outcomes of at least {drawable.fewest} of the "
            f"{len(table.candidates)} candidates); "
            f"{f'train with {flags}' if flags else 'import more of them'}"
        )
    if never := [name for name, seen_N in zip(table.candidate_ids, seen_MN, strict=True) if not seen_N.any()]:
        found.append(f"no outcomes at all: {some(never)}")
    partly = [n for n, seen_N in zip(table.candidate_ids, seen_MN, strict=True) if 0 < seen_N.mean() < 1]
    if partly:
        found.append(f"some outcomes unobserved (they count nowhere): {some(partly)}")
    found += _little_known(trained, drawable)
    answered_N = seen_MN.any(axis=0)
    if alone := int((answered_N & ~with_a_choice(table.scores_MN.T)).sum()):
        found.append(
            f"{alone} of {answered_N.sum()} instructions have outcomes of one candidate only: routing cannot be measured on them"
        )
    if unanswered := int((~answered_N).sum()):
        found.append(f"{unanswered} items that no candidate answered")
    if not any(item.answer for item in table.items):
        found.append("no answers (`satjax assess` needs them: whether a new model's reply is right is told by them)")
    if undated := [candidate.id for candidate in table.candidates if not candidate.release_date]:
        found.append(f"no release date (`satjax protocol release-stream` needs it): {some(undated)}")
    found += questions_apart(table)
    if pairs := leaks(table):
        a, b = pairs[0]
        found.append(
            f"{len({folded(a.text) for a, _ in pairs})} questions stand in two splits, such as {a.id!r} ({a.split}) and {b.id!r} ({b.split}): leave one of each out"
        )
    return found


def _little_known(trained: OutcomeTable, drawable: Drawable) -> list[str]:
    """Sentences on candidates that have some training outcomes, but fewer than others, or none that an aptitude test may ask for."""
    scores_MN = trained.scores_MN[:, trained.of_split("train")]
    count_M = (~np.isnan(scores_MN)).sum(axis=1)
    asked_N = np.concatenate([np.zeros(0, int), *drawable.members.values()])
    absent_M = (count_M > 0) & np.isnan(trained.scores_MN[:, asked_N]).all(axis=1)
    few_M = (count_M > 0) & ~absent_M & seldom_tried(scores_MN)
    few, absent = (
        [f"{trained.candidate_ids[m]} ({count_M[m]:,})" for m in np.flatnonzero(which_M)]
        for which_M in (few_M, absent_M)
    )
    found = []
    if few:
        found.append(
            f"few outcomes (where no profiles are read, training measures them like new candidates): {some(few)}"
        )
    if absent:
        found.append(
            f"no outcome on what the aptitude test is drawn from (they would not be in the router): {some(absent)}"
        )
    return found


def questions_apart(table: OutcomeTable) -> list[str]:
    """A sentence on questions that stand under several ids, each with outcomes of other candidates; none where there are none."""
    pairs = same_questions(table)
    if not pairs:
        return []
    a, b = pairs[0]
    return [
        f"{len(pairs)} questions stand under several ids, such as {a.id!r} and {b.id!r}: their candidates are not compared; give each question one id"
    ]
