"""How much of the aptitude test a new candidate has to take: its family unseen, its profile of fewer and fewer items."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from satjax import metrics
from satjax.aptitude import CapabilityProfile, accuracy_and_count, profile_from_outcomes
from satjax.config import TrainConfig
from satjax.evaluation.figures import correctness_of, correctness_over_seeds, over_seeds
from satjax.evaluation.intervals import mean_interval
from satjax.evaluation.leakage import warn_of_leakage
from satjax.evaluation.protocols import ONBOARDING
from satjax.evaluation.protocols.folds import check_nothing_held_out, families_to_leave_out, trained
from satjax.outcomes import OutcomeTable, open_outcomes
from satjax.progress import Steps, unheard

SIZES = (16, 64, 256, 1000)
DRAWS = 10
"""How often items are drawn: which 16 of 1,000 are answered says more than how many."""


def onboarding(
    config: TrainConfig,
    workdir: Path,
    *,
    sizes: Sequence[int] = SIZES,
    on_progress: Steps = unheard,
) -> dict[str, Any]:
    """Figures of candidates of unseen families by the number of aptitude items that they answered.

    Items are drawn `DRAWS` times, once where they are the whole test, and as `satjax assess --limit` asks them: spread over the tasks, the same of all
    candidates (`AptitudeTest.in_turn`). A figure is the mean over the draws; in
    `deviations` stands by figure how far a single draw is from that (standard deviation, None of one draw), in `intervals` the 95 %
    interval over instructions. Sizes end with that of the test. `mean_items` of a size is what the candidates answered on average, where some answered fewer.
    `routed` sends every instruction `metrics.with_a_choice` to the likeliest of all candidates, each of them new. The folds are those of `unseen_families`:
    with the same workdir nothing is trained twice.
    """
    check_nothing_held_out(config, ONBOARDING)
    table = open_outcomes(config.data.outcomes)
    warn_of_leakage(table, "test")
    groups = families_to_leave_out(table, ONBOARDING)
    held = table.split("test")
    texts, outcome_BM = [item.text for item in held.items], held.scores_MN.T
    column = {name: i for i, name in enumerate(table.candidate_ids)}
    whole = config.aptitude.num_tasks * config.aptitude.shots
    sizes = sorted({min(size, whole) for size in sizes})
    draws = {size: DRAWS if size < whole else 1 for size in sizes}
    answered_SM = np.zeros((len(sizes), len(column)))
    found = {size: np.full((draws[size], *outcome_BM.shape), np.nan) for size in sizes}
    for done, (family, names) in enumerate(groups.items()):
        on_progress("folds", done, len(groups))
        columns = [column[name] for name in names]
        # In a function of its own, which lets go of its router before the next one is trained on the same device.
        parts, answered_SM[:, columns] = _fold(config, workdir, family, names, table, texts, draws)
        for size, part in zip(sizes, parts, strict=True):
            found[size][:, :, columns] = part
    on_progress("folds", len(groups), len(groups))
    return {
        "protocol": ONBOARDING,
        "instructions": len(texts),
        "candidates": list(table.candidate_ids),
        "sizes": {
            str(size): _figures(probability_DBM, outcome_BM)
            | ({"mean_items": float(answered_M.mean())} if answered_M.mean() < size else {})
            for (size, probability_DBM), answered_M in zip(found.items(), answered_SM, strict=True)
        },
    }


def _fold(
    config: TrainConfig,
    workdir: Path,
    family: str,
    names: Sequence[str],
    table: OutcomeTable,
    texts: Sequence[str],
    draws: Mapping[int, int],
) -> tuple[list[np.ndarray], np.ndarray]:
    """Of a family's M candidates by the router without it: probabilities by size, each `[D, B, M]` of D draws, and how many items each answered, `[S, M]`."""
    router = trained(config, workdir, f"without-family-{family}", candidates=names)
    whole = [profile_from_outcomes(table, router.aptitude_test, name) for name in names]
    fewer = {
        (size, draw, name): replace(
            fewer_items(profile, size, router.aptitude_test.in_turn(draw)),
            candidate=f"{name} with {size} items, draw {draw}",
        )
        for size, count in draws.items()
        for draw in range(count)
        for name, profile in zip(names, whole, strict=True)
    }
    router.add(*fewer.values())
    score = router.score(texts, [profile.candidate for profile in fewer.values()])
    probability = router.calibration.probability(score, np.float64)
    by_draw = probability.reshape(len(texts), -1, len(names)).swapaxes(0, 1)
    answered_SM = np.array([[fewer[size, 0, name].count_T.sum() for name in names] for size in draws])
    return np.split(by_draw, np.cumsum(list(draws.values()))[:-1]), answered_SM


def fewer_items(profile: CapabilityProfile, size: int, in_turn: Sequence[tuple[int, int]]) -> CapabilityProfile:
    """The profile as if only `size` of its items had been answered: the first ones of the order that are observed."""
    observed = [(t, k) for t, k in in_turn if not np.isnan(profile.outcomes_TK[t, k])]
    kept = tuple(np.array(observed[:size], int).reshape(-1, 2).T)
    outcome_TK = np.full_like(profile.outcomes_TK, np.nan)
    outcome_TK[kept] = profile.outcomes_TK[kept]
    accuracy_T, count_T = accuracy_and_count(outcome_TK)
    return replace(profile, accuracy_T=accuracy_T, count_T=count_T, item_outcome_TK=outcome_TK)


def _figures(probability_DBM: np.ndarray, outcome_BM: np.ndarray) -> dict[str, Any]:
    routed_DB = np.array([metrics.routed_outcomes(drawn, outcome_BM) for drawn in probability_DBM])
    found = correctness_over_seeds(correctness_of(probability_DBM, outcome_BM)) | {
        "routed": over_seeds(_means(routed_DB), mean_interval(routed_DB.mean(axis=0)))
    }
    return {
        **{name: each["mean"] for name, each in found.items()},
        "draws": len(probability_DBM),
        "deviations": {name: each["deviation"] for name, each in found.items()},
        "intervals": {name: [each["low"], each["high"]] for name, each in found.items()},
    }


def _means(value_DB: np.ndarray) -> list[float | None]:
    answered_B = ~np.isnan(value_DB).all(axis=0)
    return [float(value_B[answered_B].mean()) if answered_B.any() else None for value_B in value_DB]
