"""Candidates in order of release: the router is trained on the first ones and meets the others by their aptitude test alone.

The paper's Figure 5: at each release the zoo is the five best candidates so far and the newest, and nothing is trained again.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from satjax import metrics
from satjax.config import TrainConfig
from satjax.errors import SatjaxError
from satjax.evaluation.evaluate import scored
from satjax.evaluation.figures import advantages, best_single, counted
from satjax.evaluation.intervals import mean_interval, paired_interval
from satjax.evaluation.leakage import warn_of_leakage
from satjax.evaluation.protocols import RELEASE_STREAM
from satjax.evaluation.protocols.folds import check_nothing_held_out, trained
from satjax.outcomes import OutcomeTable, open_outcomes
from satjax.progress import Steps, unheard

BEST = 5


def release_stream(
    config: TrainConfig,
    workdir: Path,
    *,
    first: int | None = None,
    on_progress: Steps = unheard,
) -> dict[str, Any]:
    """Routing at each release after the `first` candidates (by default two fifths of them), which training sees.

    "Best so far" is by the `advantages` on the training split. At each release, on the `n` instructions of the
    test split that the best single candidate of the zoo (chosen on the training split) and another one answered: mean outcomes of the router, the best
    single candidate, a random one and the oracle, each with its 95 % interval, the paired interval of router over best single, and the
    entropy of the router's choices (`satjax.metrics.selection_entropy`; 0 is one candidate for all). A candidate without outcomes on the
    aptitude items, trained on or new, is left out and named in `left_out`.
    """
    check_nothing_held_out(config, RELEASE_STREAM)
    table = in_order_of_release(open_outcomes(config.data.outcomes))
    warn_of_leakage(table, "test")
    names = table.candidate_ids
    first = first or max(BEST, 2 * len(names) // 5)
    if not BEST <= first < len(names):
        raise SatjaxError(
            f"{RELEASE_STREAM}: training on the first {first} of {len(names)} candidates leaves no stream: it takes {BEST} at least, and later ones"
        )
    on_progress("trained on the first", 0, 2)
    router = trained(config, workdir, f"first-{first}", candidates=names[first:])
    on_progress("scored", 1, 2)
    found = scored(router, table)
    on_progress("scored", 2, 2)
    trained_on = names[:first]
    table = table.select_candidates(found.candidates)
    names = table.candidate_ids
    newcomers = [m for m, name in enumerate(names) if name not in trained_on]
    if not newcomers:
        raise SatjaxError(
            f"{RELEASE_STREAM}: none of the candidates after the first {first} has outcomes on the aptitude items; add them to the outcome table"
        )
    strength_M = advantages(table.split("train").scores_MN)
    steps = []
    for newest in newcomers:
        best = sorted(range(newest), key=lambda m: -strength_M[m])[:BEST]
        zoo = [*sorted(best), newest]
        fixed, _ = best_single(table.select_candidates([names[m] for m in zoo]), "test")
        assert fixed is not None
        steps.append(
            {
                "newest": names[newest],
                "release_date": table.candidates[newest].release_date,
                "zoo": [names[m] for m in zoo],
                "best_single_candidate": names[zoo[fixed]],
                **_figures(found.probability_BM[:, zoo], found.outcome_BM[:, zoo], fixed),
            }
        )
    return {
        "protocol": RELEASE_STREAM,
        "trained_on": list(trained_on),
        "left_out": dict(found.left_out),
        "releases": steps,
    }


def _figures(probability_BM: np.ndarray, outcome_BM: np.ndarray, fixed: int) -> dict[str, Any]:
    """Figures of a zoo of M candidates, float `[B, M]`, on the instructions that are `counted` for the one in column `fixed`.

    None with the `reason` where these are too few.
    """
    counts_B, reason = counted(outcome_BM, fixed)
    measured_B = counts_B & (reason is None)
    probability_NM, outcome_NM = probability_BM[measured_B], outcome_BM[measured_B]
    outcome_N = metrics.routing(probability_NM, outcome_NM, best_single=fixed)
    interval = {name: mean_interval(values) for name, values in outcome_N.items()}
    gain = paired_interval(outcome_N["router"], outcome_N["best_single"])
    return {
        **{name: found.mean for name, found in interval.items()},
        "n": int(counts_B.sum()),
        **({} if reason is None else {"reason": reason}),
        "selection_entropy": metrics.selection_entropy(probability_NM, outcome_NM),
        **{f"{name}_interval": asdict(found) for name, found in interval.items()},
        "gain_interval": asdict(gain),
    }


def in_order_of_release(table: OutcomeTable) -> OutcomeTable:
    """Candidates by release date, those of one month in the table's order; raises SatjaxError naming one without a date."""
    for candidate in table.candidates:
        if not candidate.release_date:
            raise SatjaxError(
                f"{RELEASE_STREAM}: candidate {candidate.id!r} has no release_date in models.parquet; add it"
            )
    ordered = sorted(table.candidates, key=lambda candidate: candidate.release_date or "")
    return table.select_candidates([candidate.id for candidate in ordered])
