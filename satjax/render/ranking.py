"""The candidates of an instruction, by their probabilities."""

from collections.abc import Sequence

from rich.text import Text

from satjax.render.console import open_console, plain_table
from satjax.router import Ranked

BAR_WIDTH = 24


def ranking_table(instruction: str, ranked: Sequence[Ranked], num_candidates: int) -> None:
    """One instruction and its ranking, the probability also as a bar."""
    console = open_console()
    shown = instruction if len(instruction) <= 200 else f"{instruction[:120]} … {instruction[-70:]}"
    console.print()
    console.print(Text(shown, style="bold"))
    table = plain_table()
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
