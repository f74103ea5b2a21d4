"""python benchmarks/label_noise.py --outcomes DIR --out benchmarks/results/label_noise.json

How much of an outcome no knowledge of instruction and candidate could tell: MMLU-Pro asks some questions twice, with the same right answer and at least
70 % of the options the same, in another order. Where a candidate is right once and wrong once, chance decided. Half of that share is
the Brier score of who knows every probability exactly (two draws of probability p differ with 2 p (1 - p)); the AUROCs are of guessing one outcome by the
other, alone and with the candidate's mean on the training split. Intervals are percentiles of 2,000 resamples of pairs.
"""

import argparse
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import real_run
from rich.console import Console
from rich.table import Table

from satjax import metrics
from satjax.files import write_text
from satjax.outcomes import Item, OutcomeTable, open_outcomes
from satjax.outcomes.lettered import LETTERS, lettered_runs

LEAST_SHARED = 0.7
RESAMPLES = 2000
AUROCS: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
    "auroc_pooled": metrics.auroc_pooled,
    "auroc_per_candidate": metrics.auroc_per_candidate,
    "auroc_within_instruction": metrics.auroc_within_instruction,
}


def question(item: Item) -> tuple[str, str, frozenset[str]] | None:
    """The words before the options, the right option and all of them, where a text shows options and names the right one."""
    run = next(lettered_runs(item.text), None)
    if run is None or item.answer is None or item.answer not in LETTERS[: len(run[1])]:
        return None
    options = [" ".join(option.lower().split()) for option in run[1]]
    return (
        re.sub(r"\W+", " ", item.text[: run[0]].lower()).strip(),
        options[LETTERS.index(item.answer)],
        frozenset(options),
    )


def asked_twice(table: OutcomeTable) -> list[tuple[int, int]]:
    """Pairs of items that ask the same."""
    groups: dict[tuple[str, str], list[tuple[int, frozenset[str]]]] = defaultdict(list)
    for i, item in enumerate(table.items):
        if found := question(item):
            words, right, options = found
            groups[words, right].append((i, options))
    return [
        (i, j)
        for group in groups.values()
        for (i, ones), (j, others) in itertools.combinations(group, 2)
        if len(ones & others) >= LEAST_SHARED * max(len(ones), len(others))
    ]


def figures(first_PM: np.ndarray, second_PM: np.ndarray, mean_M: np.ndarray) -> dict[str, float]:
    """Of pairs of outcomes, each guessed by the other."""
    both = ~np.isnan(first_PM) & ~np.isnan(second_PM)
    differ = float((first_PM != second_PM)[both].mean())
    guess, outcome = np.concatenate([first_PM, second_PM]), np.concatenate([second_PM, first_PM])
    outcome = np.where(np.concatenate([both, both]), outcome, np.nan)
    guess = np.nan_to_num(guess)
    found = {"share_that_differs": differ, "brier_of_who_knows_the_probability": differ / 2}
    for name, auroc in AUROCS.items():
        for how, score in (
            ("the other outcome", guess),
            ("the other outcome and the candidate's mean", guess + mean_M),
        ):
            value = auroc(score, outcome)
            found[f"{name}, by {how}"] = float("nan") if value is None else float(value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = open_outcomes(options.outcomes)
    pairs = np.array(asked_twice(table))
    if not len(pairs):
        parser.error(f"{options.outcomes}: no question is asked twice")
    score_NM, mean_M = table.scores_MN.T, np.nanmean(table.split("train").scores_MN, axis=1)
    first_PM, second_PM = score_NM[pairs[:, 0]], score_NM[pairs[:, 1]]
    rng = np.random.default_rng(0)
    drawn = [figures(first_PM[i], second_PM[i], mean_M) for i in rng.integers(0, len(pairs), (RESAMPLES, len(pairs)))]
    report = {
        "command": "python benchmarks/label_noise.py --outcomes DIR --out benchmarks/results/label_noise.json",
        "machine": real_run.machine(),
        "pairs": len(pairs),
        "mean_outcome": float(np.nanmean([first_PM, second_PM])),
        "figures": {},
    }
    shown = Table(f"{len(pairs)} questions asked twice", "", "95 %", box=None)
    for name, value in figures(first_PM, second_PM, mean_M).items():
        low, high = np.nanpercentile([each[name] for each in drawn], [2.5, 97.5])
        report["figures"][name] = {"mean": value, "low": float(low), "high": float(high)}
        shown.add_row(name, f"{value:.3f}", f"{low:.3f} to {high:.3f}")
    Console(width=140).print(shown)
    if options.out:
        write_text(options.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
