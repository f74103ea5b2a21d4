"""What the command line shows people: tables and progress."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from satjax.router import Ranked

BAR_WIDTH = 24


def ranking_table(instruction: str, ranked: Sequence[Ranked], num_candidates: int) -> None:
    """One instruction and its ranking, the probability also as a bar."""
    console = Console(highlight=False)
    shown = instruction if len(instruction) <= 200 else f"{instruction[:120]} … {instruction[-70:]}"
    console.print()
    console.print(Text(shown, style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("candidate", overflow="fold")  # the one column that may take several lines: a name is never cut
    table.add_column("P(handles it)", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for place, entry in enumerate(ranked, start=1):
        bar = "█" * round(entry.probability * BAR_WIDTH)
        table.add_row(str(place), Text(entry.candidate), f"{entry.probability:.3f}", bar)
    console.print(table)
    if len(ranked) < num_candidates:
        console.print(f"({num_candidates - len(ranked)} more candidates)", style="dim")


def report_table(figures: dict[str, Any]) -> None:
    """The figures of a report in short."""
    console = Console(highlight=False)
    if figures["synthetic"]:
        console.print("synthetic zoo: generated instructions, planted abilities", style="yellow")
    console.print(
        f"{figures['instructions']} instructions ({figures['split']}), {len(figures['candidates'])} candidates"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for name, value in figures["correctness"].items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    for zoo, routing in figures["routing"].items():
        for name in ("router", "best_single", "random", "oracle"):
            value = routing[name]
            table.add_row(f"routing accuracy ({zoo}): {name}", "None" if value is None else f"{100 * value:.2f} %")
    console.print(table)


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], Any]]:
    """A bar on standard error with the time left, gone at the end; yields `on_progress(done, total)`."""
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
