"""What another calibration changes, and the thresholds that come with it."""

from typing import Any

from rich.text import Text

from satjax.calibration import Calibration
from satjax.errors import SHOWN, some
from satjax.render.console import number, open_console, percent, plain_table

WORSE = 5e-4
"""Of a Brier score: what is measured on other folds is that much behind what was fitted on the same instructions, and is as good."""


def calibration_tables(calibration: Calibration, figures: dict[str, Any]) -> None:
    """Probabilities before and after, and what thresholds cost and save.

    A router was calibrated on the split `val` of what it was trained on, of which it does not know whether it is this one: "before" may be measured on what it was fitted on.
    """
    console, table = open_console(), plain_table()
    marks = {figures["method"]: " (written)"} | (
        {"before": " (perhaps fitted on these)"} if figures["split"] == "val" else {}
    )
    but = ', but for "before"' if "before" in marks else ""
    console.print(
        f"{figures['instructions']} instructions ({figures['split']}), {len(figures['candidates'])} candidates; measured on other folds than fitted on{but}"
    )
    for column in ("probabilities", "Brier", "ECE", "log loss"):
        table.add_column(column, justify="left" if column == "probabilities" else "right")
    for name, found in figures["correctness"].items():
        table.add_row(
            f"{name}{marks.get(name, '')}", *(number(found[figure]) for figure in ("brier", "ece", "log_loss"))
        )
    console.print(table)
    before, written = (figures["correctness"][name]["brier"] for name in ("before", figures["method"]))
    if written > before + WORSE:
        console.print(
            f"the Brier score is worse than before: {figures['instructions']} instructions may be too few to fit probabilities to; "
            "give more, or keep the router as it was",
            style="yellow",
            soft_wrap=True,
        )
    if not calibration.thresholds:
        if "missed_shares" in figures:
            return console.print("no threshold keeps that much of the best candidate's outcomes", style="yellow")
        return console.print(Text(f"no thresholds: {figures['no_thresholds']}", style="dim"), soft_wrap=True)
    best = calibration.thresholds[0]
    console.print()
    n, of = figures["n_with_a_choice"], figures["instructions"]
    which = f"{n} instructions" if n == of else f"{n} of {of} instructions: those that it and a cheaper one answered"
    console.print(
        Text(
            f"always {figures['best_candidate']}: {percent(best.best_outcome)} at ${1000 * best.best_cost_usd:.4g} per 1,000 ({which})"
        ),
        soft_wrap=True,
    )
    if rare := figures["rarely_beside_the_best"]:
        names = some(rare, SHOWN)
        console.print(
            Text(
                f"thresholds without {names}: too few outcomes on instructions that {figures['best_candidate']} answered, too"
            ),
            style="yellow",
            soft_wrap=True,
        )
    table = plain_table()
    for column in ("to keep", "cheapest above", "outcome", "kept", "$ per 1,000", "saved"):
        table.add_column(column, justify="right")
    at = {each.share: each for each in calibration.thresholds}
    for share in sorted([*at, *figures["missed_shares"]], reverse=True):
        if share not in at:
            table.add_row(f"{100 * share:g} %", "none does")
            continue
        each = at[share]
        kept = each.outcome / each.best_outcome if each.best_outcome else None
        saved = 1 - each.cost_usd / each.best_cost_usd if each.best_cost_usd else None
        cells = (percent(each.outcome), percent(kept), f"{1000 * each.cost_usd:.4g}", percent(saved))
        table.add_row(f"{100 * share:g} %", f"{each.threshold:.3f}", *cells)
    console.print(table)
