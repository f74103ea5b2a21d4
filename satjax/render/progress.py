"""How far the work is: bars on standard error, or lines where that is no terminal."""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from typing import Protocol

import rich.progress
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from satjax.progress import Pace, Progress, Spending, standard_error


class OnStep(Protocol):
    """`Steps` that hear a note, too."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps of the work that is called `what`; `note` stands beside."""


@contextlib.contextmanager
def steps() -> Iterator[OnStep]:
    """Progress on standard error for each kind of work, with the time left; yields `on_progress(what, done, total, note)`.

    Bars that are gone at the end; where that is no terminal, a line now and then.
    """
    console = standard_error()
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def on_progress(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, note=note)
            bars.update(tasks[what], completed=done, total=total, note=note)

        yield on_progress


@contextlib.contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A bar on standard error with the time left, gone at the end; yields `on_progress(done, total)`."""
    with steps() as on_progress:
        yield partial(on_progress, what)


@contextlib.contextmanager
def assessment_progress(prices: tuple[float, float] | None) -> Iterator[Spending]:
    """`steps` for an assessment: beside the bar what is spent, and what all of it will come to, where the tokens and the prices of one are known."""
    with steps() as on_progress:

        def on_items(done: int, total: int, tokens_in: int | None, tokens_out: int | None) -> None:
            spent = ""
            if prices and done and tokens_in is not None and tokens_out is not None:
                cost = tokens_in * prices[0] + tokens_out * prices[1]
                spent = f"${cost:.2g} of about ${cost / done * total:.2g}"
            on_progress("items", done, total, spent)

        yield on_items


def _lines() -> OnStep:
    pace = Pace()

    def on_progress(what: str, done: int, total: int, note: str = "") -> None:
        due, left = pace.point(what, done, total)
        if due and left and done < total:
            pace.said()
            print(f"{what}: {done} of {total}, {left}{note and ', '}{note}", file=sys.stderr)

    return on_progress
