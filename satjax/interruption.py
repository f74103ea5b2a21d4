"""Stopping between steps: SIGTERM and Ctrl-C as requests, and what a run that followed one ends with."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from satjax.errors import INTERRUPTED_EXIT_CODE


class Interrupted(Exception):
    """SIGTERM or Ctrl-C came, to this process or another one of the run; everything up to `step` is saved."""

    exit_code = INTERRUPTED_EXIT_CODE

    def __init__(self, step: int):
        super().__init__(f"interrupted after step {step}; everything is saved: run the same command to go on")
        self.step = step


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that receives the number of SIGTERM or SIGINT instead of the process dying at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: whoever runs us there handles signals
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
