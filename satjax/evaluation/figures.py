"""Figures of one method's probabilities on one split, with what they are compared to; a router and a baseline get the same ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from satjax import metrics
from satjax.evaluation.intervals import (
    Interval,
    figure_intervals,
    interval_about,
    mean_interval,
    paired_interval,
    resampled,
)
from satjax.evaluation.zoos import columns_of_zoos
from satjax.outcomes import OutcomeTable
from satjax.outcomes.table import often_tried

Zoos = Mapping[str, tuple[str, ...]]
REFERENCES = ("router", "best_single", "random", "oracle")
FEWEST = 30
"""Instructions: on fewer, what is left of a sparse table says nothing of its candidates."""
LINK = 1e-3
"""Of an instruction: a weight that changes no comparison, and sets candidates that nothing compares by their means."""


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are not None; None where all are."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def over_seeds(values: Sequence[float | None], interval: Interval) -> dict[str, Any]:
    """A figure's mean and standard deviation over seeds, None left out, with an interval set about the mean: that of one seed, or of the mean itself."""
    known = [value for value in values if value is not None]
    mean = mean_of_known(values)
    shift = 0.0 if mean is None or interval.mean is None else mean - interval.mean
    return {
        "mean": mean,
        "deviation": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "low": None if interval.low is None else interval.low + shift,
        "high": None if interval.high is None else interval.high + shift,
        "n": interval.n,
    }


@dataclass(frozen=True)
class Correctness:
    """Every figure of P(handled) by name, on n instructions with an outcome: of each of several fits, and of resamples of the first one's."""

    fits: list[dict[str, float | None]]
    resamples: list[dict[str, float | None]]
    n: int


def correctness_of(probability_SBM: np.ndarray, outcome_BM: np.ndarray) -> Correctness:
    """Figures of S fits, float `[S, B, M]`; outcomes are NaN where unobserved."""
    answered_B = ~np.isnan(outcome_BM).all(axis=1)
    probability_SNM, outcome_NM = probability_SBM[:, answered_B], outcome_BM[answered_B]
    fits = [metrics.correctness(probability_NM, outcome_NM) for probability_NM in probability_SNM]
    first_NM = probability_SNM[0]
    resamples = resampled(lambda rows: metrics.correctness(first_NM[rows], outcome_NM[rows]), len(outcome_NM))
    return Correctness(fits, resamples, len(outcome_NM))


def correctness_over_seeds(found: Correctness) -> dict[str, dict[str, Any]]:
    """Each figure `over_seeds` of the fits: the interval is the first one's, set about the mean."""
    figures = {}
    for name in metrics.CORRECTNESS:
        values = [fit[name] for fit in found.fits]
        interval = interval_about(values[0], [drawn[name] for drawn in found.resamples], found.n)
        figures[name] = over_seeds(values, interval)
        if name != "log_loss" and interval.low is not None:
            # The mean over seeds may lie nearer to 0 or 1 than the first seed, about which they were set.
            low, high = figures[name]["low"], figures[name]["high"]
            figures[name] |= {"low": max(0.0, low), "high": min(1.0, high)}
    return figures


def correctness_differences(ours: Correctness, theirs: Correctness) -> dict[str, dict[str, Any]]:
    """Each figure of our fits less that of theirs, on the same instructions: means over the fits of each, with 95 % intervals.

    Resamples are paired, as in `paired_interval`, of the first fit of each; the interval is set about the difference of the means.
    """

    def less(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    figures = {}
    for name in metrics.CORRECTNESS:
        pairs = zip(ours.resamples, theirs.resamples, strict=True)
        drawn = [less(our[name], their[name]) for our, their in pairs]
        first = less(ours.fits[0][name], theirs.fits[0][name])
        interval = interval_about(first, drawn, ours.n, is_difference=True)
        means = [mean_of_known([fit[name] for fit in found.fits]) for found in (ours, theirs)]
        figures[name] = {k: v for k, v in over_seeds([less(*means)], interval).items() if k != "deviation"}
    return figures


@dataclass(frozen=True)
class MeasuredZoo:
    """A zoo of M candidates as routing is measured on it: those in the table's `columns`, on B instructions of one split.

    Outcomes are float `[B, M]`, NaN = unobserved. `best` is the best single candidate's column among the M, None without one; it was
    chosen on the split `chosen_on`. Routing is measured on the instructions `counts_B`, or on none, where `reason` says why these are too few.
    """

    candidates: tuple[str, ...]
    columns: list[int]
    outcome_BM: np.ndarray
    best: int | None
    chosen_on: str
    counts_B: np.ndarray
    reason: str | None

    @property
    def measured_B(self) -> np.ndarray:
        """The N instructions that figures are of, bool `[B]`."""
        return self.counts_B & (self.reason is None)

    @cached_property
    def references(self) -> dict[str, np.ndarray]:
        """What routing is compared with, float `[N]` by name: the best single candidate, if there is one, a random one and the oracle."""
        return metrics.references(self.outcome_BM[self.measured_B], best_single=self.best)

    @cached_property
    def reference_intervals(self) -> dict[str, Interval]:
        """Their means with 95 % intervals over instructions."""
        return {name: mean_interval(values) for name, values in self.references.items()}

    def routed(self, probability_SBM: np.ndarray) -> np.ndarray:
        """Outcome of each instruction's likeliest candidate, float `[S, B]` of S seeds; NaN where an instruction is not measured.

        Probabilities are of all candidates of the table.
        """
        chosen = [metrics.routed_outcomes(each_BM[:, self.columns], self.outcome_BM) for each_BM in probability_SBM]
        return np.where(self.measured_B, np.stack(chosen), np.nan)


def measured_zoos(zoos: Zoos, table: OutcomeTable, held: OutcomeTable) -> dict[str, MeasuredZoo]:
    """Every zoo that the table holds whole, and `all`, on `held`, the evaluated items of one of its splits.

    The best single candidate of a zoo is chosen outside the split, where the table has any other.
    """
    (split,) = {item.split for item in held.items}
    found = {}
    for zoo, columns in columns_of_zoos(zoos, table.candidate_ids).items():
        candidates = tuple(table.candidate_ids[m] for m in columns)
        best, chosen_on = best_single(table.select_candidates(candidates), split)
        outcome_BM = held.scores_MN.T[:, columns]
        found[zoo] = MeasuredZoo(candidates, columns, outcome_BM, best, chosen_on, *counted(outcome_BM, best))
    return found


def counted(outcome_BM: np.ndarray, best: int | None) -> tuple[np.ndarray, str | None]:
    """The instructions that routing is measured on, bool `[B]`, and why these are too few to measure it, None where they are not.

    They are those `metrics.with_a_choice` that the candidate in column `best`, the best single one, if there is one, answered.
    """
    counts_B = metrics.with_a_choice(outcome_BM)
    if best is not None:
        counts_B &= ~np.isnan(outcome_BM[:, best])
    n, answered = int(counts_B.sum()), int((~np.isnan(outcome_BM)).any(axis=1).sum())
    least = min(FEWEST, -(-answered // 2))
    if n >= least:
        return counts_B, None
    whose = "two candidates" if best is None else "the best single candidate and another one"
    return counts_B, f"{n} of {answered} instructions have outcomes of {whose}; {least} are the least"


def routing_of(zoo: MeasuredZoo, probability_SBM: np.ndarray, routed_SB: np.ndarray) -> dict[str, Any]:
    """Routing figures of a zoo: means over seeds, with 95 % intervals of these over instructions.

    `probability_SBM`, of S seeds, is float, of all candidates of the table, `routed_SB` what the zoo has `routed` by it. Figures are of the
    `n` instructions that `counted` finds among the `n_with_a_choice` that are `metrics.with_a_choice`; where n is too small, they are None,
    and `reason` says why.
    """
    measured_B = zoo.measured_B
    probability_SNM = probability_SBM[:, :, zoo.columns][:, measured_B]
    outcome_NM = zoo.outcome_BM[measured_B]
    routed_SN = np.stack([routed_B[measured_B] for routed_B in routed_SB])
    value_N = {"router": routed_SN.mean(axis=0), **zoo.references}
    interval = {"router": mean_interval(value_N["router"]), **zoo.reference_intervals}
    gain = None if zoo.best is None else paired_interval(value_N["router"], value_N["best_single"])

    def spread(rows: np.ndarray) -> list[float | None]:
        mean = {name: float(values[rows].mean()) if len(rows) else None for name, values in value_N.items()}
        entropies = [metrics.selection_entropy(chosen[rows], outcome_NM[rows]) for chosen in probability_SNM]
        return [
            metrics.gap_recovered(mean["router"], mean.get("best_single"), mean["oracle"]),
            mean_of_known(entropies),
        ]

    gap, entropy = figure_intervals(spread, len(outcome_NM))
    return {
        **{name: interval[name].mean if name in interval else None for name in REFERENCES},
        "n": int(zoo.counts_B.sum()),
        "n_with_a_choice": int(metrics.with_a_choice(zoo.outcome_BM).sum()),
        **({} if zoo.reason is None else {"reason": zoo.reason}),
        "by_seed": [float(routed_N.mean()) if len(routed_N) else None for routed_N in routed_SN],
        **{f"{name}_interval": asdict(interval[name]) if name in interval else None for name in REFERENCES},
        "gain_interval": gain and asdict(gain),
        "gap_recovered": gap.mean,
        "gap_interval": asdict(gap),
        "selection_entropy": entropy.mean,
        "entropy_interval": asdict(entropy),
        "best_single_candidate": None if zoo.best is None else zoo.candidates[zoo.best],
        "best_single_chosen_on": zoo.chosen_on,
        "candidates": list(zoo.candidates),
    }


def best_single(table: OutcomeTable, split: str) -> tuple[int | None, str]:
    """Column of the best candidate, and the split that it was chosen on: the training split, or another one where nothing is observed there.

    None, and `split` itself, where nothing is observed but there. The best is the one with the greatest of the `advantages`, of equals the
    one with the larger mean, and then the first. Only candidates that are `often_tried` can be it, in the split as well (where some are in
    both), since every routing figure is measured on what it answered there.
    """
    observed_N = ~np.isnan(table.scores_MN).all(axis=0)
    splits = {item.split for item, observed in zip(table.items, observed_N, strict=True) if observed} - {split}
    if not splits:
        return None, split
    chosen_on = "train" if "train" in splits else sorted(splits)[0]
    scores_MN = table.split(chosen_on).scores_MN
    advantage_M = advantages(scores_MN)
    tried_M = np.isfinite(advantage_M)
    in_both_M = tried_M & often_tried(table.split(split).scores_MN)
    among = np.flatnonzero(in_both_M if in_both_M.any() else tried_M)
    mean_M = {m: float(np.nanmean(scores_MN[m], dtype=np.float64)) for m in among}
    return int(max(among, key=lambda m: (advantage_M[m], mean_M[m]))), chosen_on


def advantages(scores_MN: np.ndarray) -> np.ndarray:
    """How far each candidate is above the average one, as if all had answered the same instructions, float `[M]`; minus infinity where it is not `often_tried`.

    An outcome is taken as the candidate's advantage plus what the instruction gives to all, and both are fitted by least squares, so that
    only answers to the same instruction are compared: plain means would favour one that was not tried on hard instructions. An instruction
    with one outcome compares nobody. The mean of all that a candidate answered alone says something of it, but whoever is asked may depend on how hard
    the request is: it is compared with those of the others as if it were of instructions that they had in common, `FEWEST` at the most.
    So these means decide where each instruction has one outcome, and next to nothing where many have two. Where every instruction has
    outcomes of all candidates, the fit is the difference of means.
    """
    seen_MN = ~np.isnan(scores_MN)
    count_N = seen_MN.sum(axis=0)
    average_N = np.nansum(scores_MN, axis=0) / np.maximum(count_N, 1)
    above_MN = np.where(seen_MN, scores_MN - average_N, 0.0)
    if (count_N[count_N > 0] == len(scores_MN)).all():
        advantage_M = above_MN.sum(axis=1) / np.maximum(seen_MN.sum(axis=1), 1)
    else:
        advantage_M = _additive_fit(np.nan_to_num(scores_MN), seen_MN, above_MN)
    return np.where(often_tried(scores_MN), advantage_M, -np.inf)


def _additive_fit(scores_MN: np.ndarray, seen_MN: np.ndarray, above_MN: np.ndarray) -> np.ndarray:
    """The advantages by the normal equations of the fit, instructions eliminated; `above_MN` are the scores less their instruction's average, 0 where unobserved."""
    count_N = seen_MN.sum(axis=0)
    equations_MM = np.diag(seen_MN.sum(axis=1, dtype=np.float64)) - (seen_MN / np.maximum(count_N, 1)) @ seen_MN.T
    right_M = above_MN.sum(axis=1, dtype=np.float64)
    for rows_N, weigh in (
        (count_N == 1, lambda tried_M: np.minimum(tried_M, FEWEST)),
        (count_N > 0, lambda tried_M: LINK * (tried_M > 0)),
    ):
        # Means are one more instruction, which counts as many times as each candidate's weight says.
        tried_M = seen_MN[:, rows_N].sum(axis=1)
        mean_M = scores_MN[:, rows_N].sum(axis=1, dtype=np.float64) / np.maximum(tried_M, 1)
        weight_M = weigh(tried_M).astype(np.float64)
        total = max(float(weight_M.sum()), LINK)
        equations_MM += np.diag(weight_M) - np.outer(weight_M, weight_M) / total
        right_M += weight_M * (mean_M - weight_M @ mean_M / total)
    # Only differences are told: a sum of 0 is one more equation. Rounded, so that what is equal stays equal.
    return np.linalg.lstsq(equations_MM + 1, right_M, rcond=None)[0].round(9)
