"""A router's probabilities fitted to held-out outcomes, and thresholds at which cheaper candidates do nearly as well as the best one.

What is fitted here is not measured on what it was fitted on: instructions are cut into folds, and each fold's probabilities and thresholds come from
the others. The router's own calibration, `before`, is measured as it is, be it on what it was fitted on: the router does not know.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from satjax import metrics
from satjax.calibration import FITS, Calibration, Threshold, cross_fitted
from satjax.errors import SatjaxError
from satjax.evaluation.cost_figures import expected_costs
from satjax.evaluation.figures import FEWEST, best_single
from satjax.evaluation.prices import expected_prices
from satjax.evaluation.sample import evaluated
from satjax.export.directory import rewrite_router
from satjax.export.model_card import calibration_fact, with_fact, with_section
from satjax.files import write_text
from satjax.outcomes import OutcomeTable, leaks
from satjax.policy.zoo_file import ZooFile
from satjax.progress import Progress, unheard
from satjax.router import Router

FOLDS = 5
SHARES = (0.99, 0.95, 0.9)
STEPS = 200
"""Thresholds that are tried: quantiles of the probabilities."""
SECTION = "Calibrated again"


@dataclass(frozen=True)
class Recalibrated:
    """The calibration, and JSON-ready figures of it."""

    calibration: Calibration
    figures: dict[str, Any]


@dataclass(frozen=True)
class Offers:
    """What routing can choose among: probability, expected price, outcome and cost, float64 `[B, M]`. `best` is a column.

    A candidate without a price (NaN) is closed. One without an outcome can be chosen, as it would be in service; what comes of it is unknown.
    """

    probability_BM: np.ndarray
    price_BM: np.ndarray
    outcome_BM: np.ndarray
    cost_BM: np.ndarray
    best: int

    def __getitem__(self, rows: np.ndarray) -> "Offers":
        return Offers(
            self.probability_BM[rows], self.price_BM[rows], self.outcome_BM[rows], self.cost_BM[rows], self.best
        )


def recalibrate(
    router: Router,
    table: OutcomeTable,
    *,
    split: str = "val",
    method: str = "platt",
    zoo: ZooFile | None = None,
    on_progress: Progress = unheard,
) -> Recalibrated:
    """Fits the router's probabilities of the table's candidates that it knows, and the thresholds where there is a `zoo` with prices, or the table has costs.

    Aptitude items are left out. Raises SatjaxError for the training split, for a question that stands there and in another split too, and
    where there is nothing to fit.
    """
    if split == "train":
        raise SatjaxError("the router was trained on the split 'train'; calibrate on 'val' or 'test'")
    for a, b in leaks(table):
        if split in (a.split, b.split) and "train" in (a.split, b.split):
            raise SatjaxError(
                f"items {a.id!r} of {a.split} and {b.id!r} of {b.split} are one question; leave one of them out"
            )
    known = [name for name in table.candidate_ids if name in router.candidates]
    if not known:
        raise SatjaxError(
            "the router knows none of the table's candidates; name the router of this table with --router, or add them first with `satjax assess` or "
            "`satjax profile`, and --add, or --out-router DIR where it came with satjax"
        )
    table = table.select_candidates(known)
    held = table.select_items(evaluated(table, split, router.aptitude_test.item_ids))
    texts, outcome_BM = [item.text for item in held.items], held.scores_MN.T
    if len(texts) < 2 * FOLDS:
        raise SatjaxError(
            f"{len(texts)} instructions in split {split!r} are too few to calibrate on; {2 * FOLDS} are the least"
        )
    score_BM = router.score(texts, known, on_progress)
    fold_B = np.random.default_rng(0).permutation(len(texts)) % FOLDS
    measured = {name: cross_fitted(name, score_BM, outcome_BM, fold_B) for name in FITS}
    calibration = FITS[method](score_BM, outcome_BM)
    if not calibration.fitted_on:
        raise SatjaxError(
            f"the outcomes of split {split!r} give no order of scores to fit probabilities to; are all right, or all wrong?"
        )
    figures: dict[str, Any] = {
        "split": split,
        "instructions": len(texts),
        "candidates": known,
        "method": method,
        "correctness": {
            name: {
                figure.__name__: figure(probability_BM, outcome_BM)
                for figure in (metrics.brier, metrics.ece, metrics.log_loss)
            }
            for name, probability_BM in {"before": router.calibration.probability(score_BM), **measured}.items()
        },
    }
    offers = _offers(table, held, split, measured[method], zoo)
    if isinstance(offers, str):
        figures["no_thresholds"] = offers
        return Recalibrated(calibration, figures)
    best = known[offers.best]
    kept = comparable(offers, best)
    if isinstance(kept, str):
        figures["no_thresholds"] = kept
        return Recalibrated(calibration, figures)
    closed_M = np.isnan(kept[0].price_BM).all(axis=0) & ~np.isnan(offers.price_BM).all(axis=0)
    offers, choice_B = kept
    found = thresholds(offers[choice_B], fold_B[choice_B], SHARES)
    figures |= {
        "best_candidate": best,
        "n_with_a_choice": int(choice_B.sum()),
        "rarely_beside_the_best": [name for name, closed in zip(known, closed_M, strict=True) if closed],
        "missed_shares": [share for share in SHARES if share not in {threshold.share for threshold in found}],
    }
    return Recalibrated(replace(calibration, thresholds=tuple(found)), figures)


def _offers(
    table: OutcomeTable, held: OutcomeTable, split: str, probability_BM: np.ndarray, zoo: ZooFile | None
) -> Offers | str:
    """The held-out offers, or why there are none: nobody knows a price, or which candidate is the best one."""
    if zoo is not None:
        price_BM = cost_BM = expected_prices(zoo, [item.text for item in held.items], table.candidate_ids)
    elif held.cost_usd_MN is None:
        return "neither the outcome table nor a --zoo says what candidates cost"
    elif (expected_M := expected_costs(table, split)) is None:
        return "the outcome table has no costs in the split 'train', which tell what a call will cost; add some, or give a --zoo with prices"
    else:
        price_BM, cost_BM = np.broadcast_to(expected_M, probability_BM.shape), held.cost_usd_MN.T.astype(np.float64)
    outcome_BM = np.where(np.isnan(price_BM) | np.isnan(cost_BM), np.nan, held.scores_MN.T)
    cost_BM = np.where(np.isnan(outcome_BM), np.nan, cost_BM)
    priced = [name for name, open_B in zip(table.candidate_ids, ~np.isnan(outcome_BM).T, strict=True) if open_B.any()]
    if not priced and zoo is not None:
        return f"the --zoo has no price of a candidate with outcomes in the split {split!r}; add such a candidate to it"
    if not priced:
        return f"no candidate has an outcome, a cost of it in the split {split!r} and costs in the split 'train'; add some, or give a --zoo with prices"
    best, _ = best_single(table.select_candidates(priced), split)
    if best is None:
        return f"the outcome table has outcomes of no split but {split!r}, and others have to tell which candidate is the best one; add some"
    return Offers(probability_BM, price_BM, outcome_BM, cost_BM, table.candidate_ids.index(priced[best]))


def with_a_cheaper_one(offers: Offers) -> np.ndarray:
    """Instructions that the best candidate answered and an open cheaper one, too, or, where none is cheaper, another one, bool `[B]`.

    Where it alone was asked, any threshold seems to keep all of its outcomes.
    """
    seen_BM = ~np.isnan(offers.outcome_BM)
    cheaper_BM = offers.price_BM < offers.price_BM[:, [offers.best]]
    compared_B = (seen_BM & cheaper_BM).any(axis=1) | (~cheaper_BM.any(axis=1) & (seen_BM.sum(axis=1) > 1))
    return seen_BM[:, offers.best] & compared_B


def comparable(offers: Offers, best: str) -> tuple[Offers, np.ndarray] | str:
    """The offers without candidates that were hardly tried where the best one was, which no threshold can be measured on, and the instructions
    that are `with_a_cheaper_one` then; or why these are too few. `best` is its name.

    A candidate stays that has an outcome on `FEWEST` of them, or on half of fewer.
    """
    if not (offers.price_BM < offers.price_BM[:, [offers.best]]).any():
        return f"no other candidate is cheaper than {best}, the best one"
    choice_B = with_a_cheaper_one(offers)
    n, answered = int(choice_B.sum()), int((~np.isnan(offers.outcome_BM)).any(axis=1).sum())
    while choice_B.any():
        tried_M = (~np.isnan(offers.outcome_BM[choice_B])).sum(axis=0)
        rare_M = tried_M < min(FEWEST, choice_B.sum() / 2)
        if not (rare_M & ~np.isnan(offers.price_BM).all(axis=0)).any():
            break
        offers = replace(offers, price_BM=np.where(rare_M, np.nan, offers.price_BM))
        choice_B = with_a_cheaper_one(offers)
    least = min(FEWEST, -(-answered // 2))
    if choice_B.any() and choice_B.sum() >= least:
        return offers, choice_B
    return f"{n} of {answered} instructions have outcomes of {best}, the best candidate, and of a cheaper one; {least} with the same cheaper one are the least"


def thresholds(offers: Offers, fold_B: np.ndarray, shares: Sequence[float]) -> list[Threshold]:
    """For each share the threshold that is cheapest among those that keep it; a share that none keeps is left out.

    Every instruction has an outcome of the best candidate, every open candidate an outcome of some instruction. The threshold is chosen on
    all instructions; its outcome and cost are those of thresholds chosen on the other folds in the same way.

    A threshold chooses among all open candidates, as it will in service, and what it chose counts where its outcome is known. The best
    candidate's always is; another's counts as many times as it makes up for those of its outcomes that are not (inverse propensity), or
    what it loses would be diluted. That is right as far as chance decided which candidates were tried.
    """
    rows = np.arange(len(offers.outcome_BM))
    best_outcome, best_cost = (float(matrix[:, offers.best].mean()) for matrix in (offers.outcome_BM, offers.cost_BM))
    open_BM = ~np.isnan(offers.price_BM)
    tried = np.unique(np.quantile(offers.probability_BM[open_BM], np.linspace(0, 1, STEPS))).astype(np.float64)
    tried = np.append(tried, 1.0)
    chosen_TB = np.stack([cheapest_above(offers, threshold) for threshold in tried])
    known_BM = ~np.isnan(offers.outcome_BM)
    weight_BM = known_BM * (open_BM.sum(axis=0) / np.maximum(known_BM.sum(axis=0), 1))
    outcome_TB, cost_TB = (np.nan_to_num(each)[rows, chosen_TB] for each in (offers.outcome_BM, offers.cost_BM))
    weight_TB = weight_BM[rows, chosen_TB]
    found = []
    for share in shares:
        whole = _cheapest(outcome_TB, cost_TB, weight_TB, share * offers.outcome_BM[:, offers.best])
        if whole is None:
            continue
        measured_B = np.empty(len(rows), int)
        for fold in np.unique(fold_B):
            inside = fold_B == fold
            wanted = share * offers.outcome_BM[~inside, offers.best]
            t = _cheapest(outcome_TB[:, ~inside], cost_TB[:, ~inside], weight_TB[:, ~inside], wanted)
            measured_B[inside] = len(tried) - 1 if t is None else t
        outcome_B, cost_B, weight_B = (each[measured_B, rows] for each in (outcome_TB, cost_TB, weight_TB))
        if not weight_B.any():
            continue
        mean_outcome, mean_cost = (float(_mean(each, weight_B)) for each in (outcome_B, cost_B))
        found.append(Threshold(share, float(tried[whole]), mean_outcome, mean_cost, best_outcome, best_cost))
    return found


def _cheapest(outcome_TB: np.ndarray, cost_TB: np.ndarray, weight_TB: np.ndarray, wanted_B: np.ndarray) -> int | None:
    """Index of the cheapest threshold whose mean outcome is at least the mean of what is wanted; of equals the highest threshold."""
    keeps = np.flatnonzero(_mean(outcome_TB, weight_TB) >= wanted_B.mean() - 1e-12)
    if not len(keeps):
        return None
    cost = _mean(cost_TB[keeps], weight_TB[keeps])
    return int(keeps[np.flatnonzero(cost <= cost.min() * (1 + 1e-12))[-1]])


def _mean(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean over the last axis; NaN where nothing has a weight."""
    with np.errstate(invalid="ignore"):
        return (value * weight).sum(axis=-1) / weight.sum(axis=-1)


def cheapest_above(offers: Offers, threshold: float) -> np.ndarray:
    """Column of each instruction's cheapest open candidate whose probability is at least `threshold`, or of the likeliest where there is none: what
    `satjax.policy.objective.order` puts first.
    """
    open_BM = ~np.isnan(offers.price_BM)
    enough_BM = open_BM & (offers.probability_BM >= threshold)
    price_BM = np.where(enough_BM, offers.price_BM, np.inf)
    among_BM = np.where(
        enough_BM.any(axis=1, keepdims=True), enough_BM & (price_BM == price_BM.min(axis=1, keepdims=True)), open_BM
    )
    return np.where(among_BM, offers.probability_BM, -np.inf).argmax(axis=1)


def write_calibrated(found: Recalibrated, directory: Path, target: Path) -> None:
    """Writes the router of `directory` with another calibration to `target` (which may be `directory`), whole or not at all; its card says so."""
    with rewrite_router(directory, target) as (fresh, _):
        found.calibration.write(fresh / "calibration.json")
        card = fresh / "README.md"
        on = f"instructions of split `{found.figures['split']}`"
        fact = calibration_fact(found.calibration, f"{on}, after training ({SECTION})")
        told = with_fact(card.read_text(encoding="utf-8"), "calibration", fact)
        write_text(card, with_section(told, SECTION, _about(found)))


def _about(found: Recalibrated) -> str:
    figures = found.figures
    lines = [
        f"Probabilities are fitted anew (`{figures['method']}`) on {found.calibration.fitted_on} instructions of split `{figures['split']}`."
    ]
    if found.calibration.thresholds:
        lines += ["", "| share of the best candidate's mean outcome | cheapest above |", "|---|---|"]
        lines += [f"| {100 * each.share:g} % | {each.threshold:.3f} |" for each in found.calibration.thresholds]
    return "\n".join(lines)
