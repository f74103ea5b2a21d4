"""`report.json`: correctness of the probabilities, and what routing by them is worth."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from satjax import metrics
from satjax.aptitude import profile_from_outcomes
from satjax.errors import SatjaxError
from satjax.evaluation.intervals import mean_interval, paired_interval
from satjax.evaluation.zoos import columns_of_zoos
from satjax.files import write_text
from satjax.outcomes import OutcomeTable
from satjax.router import Router

log = logging.getLogger("satjax")

NewCandidates = Literal["profile", "skip"]


@dataclass(frozen=True)
class Report:
    """Figures as JSON-ready data, and the matrices they were read off: `[B, M]`, outcomes NaN where unobserved."""

    figures: dict[str, Any]
    probability_BM: np.ndarray
    outcome_BM: np.ndarray


def evaluate(
    router: Router,
    table: OutcomeTable,
    *,
    split: str = "test",
    candidates: Sequence[str] | None = None,
    new_candidates: NewCandidates = "profile",
    zoos: Mapping[str, tuple[str, ...]] | None = None,
    on_progress: Callable[[int, int], Any] = lambda done, total: None,
) -> Report:
    """Scores one split of a table and compares with its outcomes.

    A candidate that the router does not know gets a profile from the table's answers to the router's aptitude items (`profile`), or is
    left out (`skip`); one without such answers is left out and named in `left_out`. Items of the aptitude test are never evaluated.
    Routing is measured on every zoo of `zoos` that the table holds whole, and on `all`; the best single candidate of a zoo is chosen outside
    the evaluated split, where the table has any other.
    """
    if candidates is not None:
        table = table.select_candidates(candidates)
    left_out = _meet(router, table, new_candidates)
    known = [name for name in table.candidate_ids if name not in left_out]
    if not known:
        raise SatjaxError(
            f"the router knows none of the table's candidates ({', '.join(table.candidate_ids[:3])}, …) and cannot profile them; "
            "give a table that holds the aptitude test's items"
        )
    for name, reason in left_out.items():
        log.warning("candidate %r is left out: %s", name, reason)
    table = table.select_candidates(known)
    aptitude_items = router.aptitude_test.item_ids
    free = np.array([name not in aptitude_items for name in table.item_ids])
    held = table.select_items(free).split(split)
    outcome_BM = held.scores_MN.T
    probability_BM = router.probability(
        [item.text for item in held.items], known, lambda done: on_progress(done, len(held.items))
    )
    figures = {
        "correctness": metrics.correctness(probability_BM, outcome_BM),
        "routing": {
            zoo: _routing(table, split, columns, probability_BM, outcome_BM)
            for zoo, columns in columns_of_zoos(zoos or {}, known).items()
        },
        "split": split,
        "instructions": len(held.items),
        "candidates": known,
        "left_out": left_out,
        "synthetic": any(item.source == "synthetic" for item in held.items),
    }
    return Report(figures, probability_BM, outcome_BM)


def _meet(router: Router, table: OutcomeTable, new_candidates: NewCandidates) -> dict[str, str]:
    """Adds the table's unknown candidates to the router; returns those left out, with the reason."""
    left_out: dict[str, str] = {}
    for name in table.candidate_ids:
        if name in router.candidates:
            continue
        if new_candidates == "skip":
            left_out[name] = "not in the router"
            continue
        try:
            router.add(profile_from_outcomes(table, router.aptitude_test, name))
        except SatjaxError as error:
            left_out[name] = str(error)
    return left_out


def _routing(
    table: OutcomeTable, split: str, columns: list[int], probability_BM: np.ndarray, outcome_BM: np.ndarray
) -> dict[str, Any]:
    """Figures of one zoo, with 95 % intervals over instructions."""
    zoo = table.select_candidates([table.candidate_ids[m] for m in columns])
    best, chosen_on = _best_single(zoo, split)
    probability, outcome = probability_BM[:, columns], outcome_BM[:, columns]
    found = metrics.routing(probability, outcome, best_single=best)
    routed_B = metrics.routed_outcomes(probability, outcome)
    if best is not None:
        routed_B = np.where(np.isnan(outcome[:, best]), np.nan, routed_B)
    gain = None if best is None else paired_interval(routed_B, outcome[:, best])
    return found | {
        "router_interval": asdict(mean_interval(routed_B)),
        "gain_interval": gain and asdict(gain),
        "gap_recovered": metrics.gap_recovered(found["router"], found["best_single"], found["oracle"]),
        "selection_entropy": metrics.selection_entropy(probability, outcome),
        "best_single_candidate": None if best is None else zoo.candidate_ids[best],
        "best_single_chosen_on": chosen_on,
        "candidates": list(zoo.candidate_ids),
    }


def _best_single(table: OutcomeTable, split: str) -> tuple[int | None, str]:
    """Column of the best candidate on the training split, or None where the table has no other split to choose it on.

    The best is the one most above the average candidate on the instructions that it answered: plain means would favour one that was
    not tried on hard ones.
    """
    splits = {item.split for item in table.items} - {split}
    if not splits:
        return None, split
    chosen_on = "train" if "train" in splits else sorted(splits)[0]
    scores_MN = table.split(chosen_on).scores_MN
    seen = ~np.isnan(scores_MN)
    average_N = np.nansum(scores_MN, axis=0) / np.maximum(seen.sum(axis=0), 1)
    advantage_M = np.where(seen, scores_MN - average_N, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    return int(np.argmax(np.where(seen.any(axis=1), advantage_M, -np.inf))), chosen_on


def write_report(report: Report, directory: Path) -> Path:
    """Writes `report.json` into a directory, whole or not at all, and leaves what else lies there; returns its path."""
    path = directory / "report.json"
    write_text(path, json.dumps(report.figures, indent=1))
    return path
