"""The candidates of an instruction, by their probabilities."""

from collections.abc import Sequence

from rich.text import Text

from satjax.render.console import open_console, plain_table
from satjax.router import Ranked

BAR_WIDTH = 24
NARROW = 60
"""Columns of a terminal below which names need the room of the bars and of the long heading."""
NAME_WIDTH = 12
"""Columns that are left to names, however narrow it is."""


def ranking_table(instruction: str, ranked: Sequence[Ranked], num_candidates: int) -> None:
    """One instruction and its ranking, the probability also as a bar."""
    console = open_console()
    shown = instruction if len(instruction) <= 200 else f"{instruction[:120]} … {instruction[-70:]}"
    console.print()
    console.print(Text(shown, style="bold"))
    table = plain_table()
    table.add_column("#", justify="right", no_wrap=True)
    wide = console.width >= NARROW
    # The one column that may take several lines: a name is never cut.
    table.add_column("candidate", overflow="fold", min_width=NAME_WIDTH)
    table.add_column("P(handles it)" if wide else "P", justify="right", no_wrap=True)
    if wide:
        table.add_column("", no_wrap=True)
    for place, entry in enumerate(ranked, start=1):
        bars = ["█" * round(entry.probability * BAR_WIDTH)] if wide else []
        table.add_row(str(place), Text(entry.candidate), f"{entry.probability:.3f}", *bars)
    console.print(table)
    if len(ranked) < num_candidates:
        console.print(f"({num_candidates - len(ranked)} more candidates)", style="dim")
