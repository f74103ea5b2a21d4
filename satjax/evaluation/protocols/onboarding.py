"""How much of the aptitude test a new candidate has to take: its family unseen, its profile of fewer and fewer items."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from satjax import metrics
from satjax.aptitude import CapabilityProfile, accuracy_and_count, profile_from_outcomes
from satjax.config import TrainConfig
from satjax.evaluation.intervals import figure_intervals, mean_interval
from satjax.evaluation.leakage import warn_of_leakage
from satjax.evaluation.protocols.folds import Progress, check_nothing_held_out, families_to_leave_out, trained
from satjax.outcomes import OutcomeTable, open_outcomes

SIZES = (16, 64, 256, 1000)
SEED = 0


def onboarding(
    config: TrainConfig,
    workdir: Path,
    *,
    sizes: Sequence[int] = SIZES,
    on_progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Figures of candidates of unseen families by the number of aptitude items that they answered, drawn at random; 95 % intervals
    stand in `intervals`, by figure.

    Sizes end with that of the test. `mean_items` of a size is what the candidates answered on average, where some answered fewer.
    `routed` sends every instruction to the likeliest of all candidates, each of them new. The folds are those of `unseen_families`:
    with the same workdir nothing is trained twice.
    """
    check_nothing_held_out(config, "onboarding")
    table = open_outcomes(config.data.outcomes)
    warn_of_leakage(table, "test")
    groups = families_to_leave_out(table, "onboarding")
    held = table.split("test")
    texts, outcome_BM = [item.text for item in held.items], held.scores_MN.T
    column = {name: i for i, name in enumerate(table.candidate_ids)}
    sizes = sorted({min(size, config.aptitude.num_tasks * config.aptitude.shots) for size in sizes})
    answered_SM = np.zeros((len(sizes), len(column)))
    found = {size: np.full(outcome_BM.shape, np.nan, np.float32) for size in sizes}
    for done, (family, names) in enumerate(groups.items()):
        on_progress("folds", done, len(groups))
        columns = [column[name] for name in names]
        # In a function of its own, which lets go of its router before the next one is trained on the same device.
        parts, answered_SM[:, columns] = _fold(config, workdir, family, names, table, texts, sizes)
        for size, part in zip(sizes, parts, strict=True):
            found[size][:, columns] = part
    on_progress("folds", len(groups), len(groups))
    return {
        "protocol": "onboarding",
        "instructions": len(texts),
        "candidates": list(table.candidate_ids),
        "sizes": {
            str(size): _figures(probability_BM, outcome_BM)
            | ({"mean_items": float(answered_M.mean())} if answered_M.mean() < size else {})
            for (size, probability_BM), answered_M in zip(found.items(), answered_SM, strict=True)
        },
    }


def _fold(
    config: TrainConfig,
    workdir: Path,
    family: str,
    names: Sequence[str],
    table: OutcomeTable,
    texts: Sequence[str],
    sizes: Sequence[int],
) -> tuple[list[np.ndarray], np.ndarray]:
    """By size, probabilities `[B, M]` of a family's M candidates by the router without it, and how many items each answered, `[S, M]`."""
    router = trained(config, workdir, f"without-family-{family}", candidates=names)
    whole = [profile_from_outcomes(table, router.aptitude_test, name) for name in names]
    fewer = [
        replace(fewer_items(profile, size, SEED), candidate=f"{profile.candidate} with {size} items")
        for size in sizes
        for profile in whole
    ]
    router.add(*fewer)
    probability = router.probability(texts, [profile.candidate for profile in fewer])
    answered_SM = np.reshape([profile.count_T.sum() for profile in fewer], (len(sizes), -1))
    return np.split(probability, len(sizes), axis=1), answered_SM


def fewer_items(profile: CapabilityProfile, size: int, seed: int) -> CapabilityProfile:
    """The profile as if only `size` of its items, drawn evenly from those observed, had been answered."""
    outcome = profile.outcomes_TK.reshape(-1)
    observed = np.flatnonzero(~np.isnan(outcome))
    kept = np.random.default_rng(seed).permutation(observed)[:size]
    fewer = np.full_like(outcome, np.nan)
    fewer[kept] = outcome[kept]
    outcome_TK = fewer.reshape(profile.outcomes_TK.shape)
    accuracy_T, count_T = accuracy_and_count(outcome_TK)
    return replace(profile, accuracy_T=accuracy_T, count_T=count_T, item_outcome_TK=outcome_TK)


def _figures(probability_BM: np.ndarray, outcome_BM: np.ndarray) -> dict[str, Any]:
    found = metrics.correctness(probability_BM, outcome_BM)
    of_rows = figure_intervals(
        lambda rows: list(metrics.correctness(probability_BM[rows], outcome_BM[rows]).values()), len(outcome_BM)
    )
    routed = mean_interval(metrics.routed_outcomes(probability_BM, outcome_BM))
    intervals = dict(zip((*found, "routed"), (*of_rows, routed), strict=True))
    return {
        **found,
        "routed": routed.mean,
        "intervals": {name: [each.low, each.high] for name, each in intervals.items()},
    }
