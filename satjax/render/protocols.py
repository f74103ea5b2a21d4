"""What each protocol found."""

from typing import Any

from rich.text import Text

from satjax.evaluation import protocols
from satjax.evaluation.report.formats import spread
from satjax.render.console import number, open_console, percent, plain_table
from satjax.render.evaluation import bench_table


def protocol_tables(figures: dict[str, Any]) -> None:
    """What a protocol found, in short."""
    console, table = open_console(), plain_table()
    match figures["protocol"]:
        case protocols.ONBOARDING:
            for column in (
                "aptitude items",
                "pooled AUROC",
                "per candidate",
                "within instruction",
                "Brier",
                "routed, all",
            ):
                table.add_column(column, justify="right")
            for size, found in figures["sizes"].items():
                names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
                mean = f" (mean {found['mean_items']:.1f})" if "mean_items" in found else ""
                far = spread(found["deviations"]["routed"], 100, 1)
                table.add_row(f"{size}{mean}", *(number(found[name]) for name in names), percent(found["routed"]) + far)
            most = max(found["draws"] for found in figures["sizes"].values())
            if most > 1:
                console.print(
                    f"means over {most} draws of items, each the same for all candidates; ± is how far a single one is off"
                )
        case protocols.RELEASE_STREAM:
            for column in ("release", "newest", "router", "best single", "random", "oracle"):
                table.add_column(column, overflow="fold")
            for step in figures["releases"]:
                values = (percent(step[name]) for name in ("router", "best_single", "random", "oracle"))
                table.add_row(step["release_date"], Text(step["newest"]), *values)
                if "reason" in step:
                    console.print(
                        Text(f"no figures for {step['newest']}: {step['reason']}", style="yellow"), soft_wrap=True
                    )
        case protocols.COVERAGE:
            right = percent(figures["best_candidate_right"])
            console.print(
                Text(f"{figures['best_candidate']} is right on {right} of {figures['instructions']} instructions")
            )
            best = f"best by {figures['chosen_on']}"
            for column in ("weaker candidates", "cover of its right answers: mean", best, "oracle: mean", best):
                table.add_column(column, justify="right")
            for size, found in figures["sizes"].items():
                cells = [percent(found[name][kind]) for name in ("covers_best", "oracle") for kind in ("mean", "best")]
                table.add_row(size, *cells)
        case _:
            return bench_table(figures)
    console.print(table)
