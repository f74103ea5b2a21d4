"""What all tables have in common: how they stand, and how a figure is written."""

from typing import Any

from rich.table import Table


def plain_table(**options: Any) -> Table:
    """A table without lines; `options` are those of rich."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), **options)


def percent(value: float | None) -> str:
    """A share in percent, with the sign."""
    return "None" if value is None else f"{100 * value:.2f} %"


def number(value: float | None, sign: str = "") -> str:
    """Four digits after the point; `sign` is that of a format, "+" to have it above zero too."""
    return "None" if value is None else f"{value:{sign}.4f}"
