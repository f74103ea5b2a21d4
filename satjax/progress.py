"""Who hears how far the work is, when a line about it is due, and what time it takes yet."""

import time
from collections.abc import Callable
from functools import cache

from rich.console import Console

SECONDS_BETWEEN_LINES = 15.0

Progress = Callable[[int, int], object]
"""Hears how many of how many are done."""
Steps = Callable[[str, int, int], object]
"""The same, of the kind of work that is named first."""
Spending = Callable[[int, int, int | None, int | None], object]
"""Hears how many of how many items are done, and the tokens read and written for those, None where nobody knows."""


def unheard(*_: object) -> None:
    """For work whose progress nobody asks for."""


class Pace:
    """When the next line is due where no bar is drawn, and the time left of each kind of work, from the first point of it that was heard of."""

    def __init__(self) -> None:
        self._now = self._last = time.monotonic()
        self._first: dict[str, tuple[int, float]] = {}

    def point(self, what: str, done: int, total: int) -> tuple[bool, str]:
        """Whether a line is due, and `about 3 min left`, which is empty where nothing was done since the first point."""
        self._now = time.monotonic()
        before, since = self._first.setdefault(what, (done, self._now))
        due = self._now - self._last > SECONDS_BETWEEN_LINES
        if done <= before:
            return due, ""
        return due, f"about {duration((self._now - since) / (done - before) * (total - done))} left"

    def said(self) -> None:
        """A line was written at the last point: the next one is due some time after."""
        self._last = self._now


@cache
def standard_error() -> Console:
    """The one that all bars are drawn on: those of a run stand below those of what runs it, where two consoles would overwrite each other."""
    return Console(stderr=True)


def duration(seconds: float) -> str:
    """For people: minutes, or seconds where these are few."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
