"""What all tables have in common: how they stand, and how a figure is written."""

import shutil
from typing import Any

from rich.console import Console
from rich.table import Table

from satjax.render.standard_output import discard_output

WIDTH_OF_FILES = 160
"""Columns of what is written to a file or a pipe, which has no width of its own."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read it has seen enough (`satjax … | head`): what is left to do is done, and ends as it would have ended."""
        self.quiet = True
        discard_output()


def open_console(**options: Any) -> Console:
    """Standard output, as wide as `$COLUMNS` or the terminal says; `options` are those of rich."""
    width = shutil.get_terminal_size((WIDTH_OF_FILES, 0)).columns  # rich would take a $COLUMNS of 0 at its word
    return _Console(highlight=False, width=width, **options)


def plain_table(**options: Any) -> Table:
    """A table without lines; `options` are those of rich."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), **options)


def percent(value: float | None) -> str:
    """A share in percent, with the sign."""
    return "None" if value is None else f"{100 * value:.2f} %"


def number(value: float | None, sign: str = "") -> str:
    """Four digits after the point; `sign` is that of a format, "+" to have it above zero too."""
    return "None" if value is None else f"{value:{sign}.4f}"
