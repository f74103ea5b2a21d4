"""Stopping between steps: SIGTERM and Ctrl-C as requests, and what a run that followed one ends with."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from satjax.errors import INTERRUPTED_EXIT_CODE, TryAgain


class Interrupted(Exception):
    """SIGTERM or Ctrl-C came, to this process or another one of the run; everything up to `step` is saved."""

    exit_code = INTERRUPTED_EXIT_CODE

    def __init__(self, step: int):
        super().__init__(f"interrupted after step {step}; everything is saved: run the same command to go on")
        self.step = step


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM raises TryAgain at once. By itself it would end the process too, but not one that is the first of its container, as in a pod."""

    def end(number: int, frame: FrameType | None) -> None:
        raise TryAgain("interrupted before the first step; run the same command to start again")

    try:
        before = signal.signal(signal.SIGTERM, end)
    except ValueError:  # not the main thread, as below
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
