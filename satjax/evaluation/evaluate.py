"""`report.json`: correctness of the probabilities, and what routing by them is worth."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from satjax import metrics
from satjax.aptitude import profile_from_outcomes
from satjax.errors import SatjaxError
from satjax.evaluation.figures import Zoos, measured_zoos, routing_of
from satjax.evaluation.leakage import warn_of_leakage
from satjax.evaluation.sample import evaluated
from satjax.evaluation.zoos import warn_of_zoos_left_out
from satjax.files import write_text
from satjax.outcomes import OutcomeTable
from satjax.progress import Progress, unheard
from satjax.router import Router

log = logging.getLogger("satjax")

NewCandidates = Literal["profile", "skip"]


@dataclass(frozen=True)
class Scored:
    """Probabilities float64 `[B, M]` of B instructions, the items of `held`, and its M candidates; `left_out` says why it lacks others.

    `met` are those among the M that the router did not know before: it has their profiles of the table's answers to its aptitude items.
    """

    held: OutcomeTable
    left_out: Mapping[str, str]
    probability_BM: np.ndarray
    met: tuple[str, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        """The M candidates."""
        return self.held.candidate_ids

    @property
    def outcome_BM(self) -> np.ndarray:
        """Their outcomes `[B, M]`, NaN where unobserved."""
        return self.held.scores_MN.T


def evaluate(
    router: Router,
    table: OutcomeTable,
    *,
    split: str = "test",
    candidates: Sequence[str] | None = None,
    new_candidates: NewCandidates = "profile",
    zoos: Zoos | None = None,
    on_progress: Progress = unheard,
) -> dict[str, Any]:
    """Scores one split of a table and compares with its outcomes; returns JSON-ready figures.

    A candidate that the router does not know gets a profile from the table's answers to the router's aptitude items (`profile`), or is
    left out (`skip`); one without such answers is left out and named in `left_out`. Candidates with a new profile are added to the router, and
    stay; `new_to_the_router` names them. Items of the aptitude test are never evaluated.
    Routing is measured on every zoo of `zoos` that the table holds whole, and on `all`; the best single candidate of a zoo is chosen outside
    the evaluated split, where the table has any other. Instructions that stand in the training split too are warned of.
    """
    if candidates is not None:
        table = table.select_candidates(candidates)
    warn_of_leakage(table, split)
    found = scored(router, table, split=split, new_candidates=new_candidates, on_progress=on_progress)
    return figures_of(found, table, zoos or {})


def figures_of(found: Scored, table: OutcomeTable, zoos: Zoos) -> dict[str, Any]:
    """JSON-ready figures of what is `scored` of a split of the table."""
    (split,) = {item.split for item in found.held.items}
    warn_of_zoos_left_out(zoos, found.candidates)
    of_zoos = measured_zoos(zoos, table.select_candidates(found.candidates), found.held)
    probability_1BM = found.probability_BM[None]
    return {
        "correctness": metrics.correctness(found.probability_BM, found.outcome_BM),
        "routing": {
            name: routing_of(zoo, probability_1BM, zoo.routed(probability_1BM)) for name, zoo in of_zoos.items()
        },
        "split": split,
        "instructions": len(found.held.items),
        "candidates": list(found.candidates),
        "left_out": dict(found.left_out),
        "new_to_the_router": list(found.met),
        "synthetic": any(item.source == "synthetic" for item in found.held.items),
    }


def scored(
    router: Router,
    table: OutcomeTable,
    *,
    split: str = "test",
    new_candidates: NewCandidates = "profile",
    on_progress: Progress = unheard,
) -> Scored:
    """What `evaluate` measures, of all candidates and without its figures, for callers that have figures of their own."""
    met, left_out = _meet(router, table, new_candidates)
    known = [name for name in table.candidate_ids if name not in left_out]
    if not known:
        raise SatjaxError(
            f"the router knows none of the table's candidates ({', '.join(table.candidate_ids[:3])}, …) and cannot profile them; "
            "name the router of this table with --router, or give a table that holds the aptitude test's items"
        )
    for name, reason in left_out.items():
        log.warning("candidate %r is left out: %s", name, reason)
    table = table.select_candidates(known)
    held = table.select_items(evaluated(table, split, router.aptitude_test.item_ids))
    texts = [item.text for item in held.items]
    score_BM = router.score(texts, known, on_progress)
    # A router ranks by scores; where they are large, float32 probabilities of many candidates are 1 alike.
    return Scored(held, left_out, router.calibration.probability(score_BM, np.float64), met)


def _meet(router: Router, table: OutcomeTable, new_candidates: NewCandidates) -> tuple[tuple[str, ...], dict[str, str]]:
    """Adds the table's unknown candidates to the router; returns their names, and those left out, with the reason."""
    known = router.candidates
    unknown = [name for name in table.candidate_ids if name not in known]
    if new_candidates == "skip":
        return (), dict.fromkeys(unknown, "not in the router")
    met, left_out = [], {}
    for name in unknown:
        try:
            met.append(profile_from_outcomes(table, router.aptitude_test, name))
        except SatjaxError as error:
            left_out[name] = str(error)
    router.add(*met)  # together: a text profile's encoder reads many in one pass
    return tuple(profile.candidate for profile in met), left_out


def write_report(figures: dict[str, Any], directory: Path, name: str = "report") -> Path:
    """Writes `NAME.json` into a directory, whole or not at all, and leaves what else lies there; returns its path."""
    path = directory / f"{name}.json"
    write_text(path, json.dumps(figures, indent=1))
    return path
