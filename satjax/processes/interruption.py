"""Stopping between steps: SIGTERM, Ctrl-C and a terminal that closes as requests, and what a run that followed one ends with."""

import contextlib
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from satjax.errors import INTERRUPTED_EXIT_CODE, TryAgain

APART = 1.0
"""Seconds: what comes within is the same Ctrl-C, which a terminal sends to all processes and a parent such as `timeout` passes on."""
SAID = b"satjax: stopping after what is under way; Ctrl-C %b more stops at once\n"


class Interrupted(Exception):
    """SIGTERM, SIGHUP or Ctrl-C came, to this process or another one of the run; everything up to `step` is saved.

    No SatjaxError, which in `satjax.processes.distributed.together` is a failure: the other processes, which stop at the same step, would be ended by it.
    """

    exit_code = INTERRUPTED_EXIT_CODE

    def __init__(self, step: int):
        super().__init__(f"interrupted after step {step}; everything is saved: run the same command to go on")
        self.step = step


@contextlib.contextmanager
def ended_by_sigterm(
    message: str = "interrupted before the first step; run the same command to start again",
) -> Iterator[None]:
    """SIGTERM raises TryAgain at once, with this message. By itself it would end the process too, but not one that is the first of its container, as in a pod.

    So does SIGHUP, by which a terminal that closes would end it with a status that nobody tries again.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        raise TryAgain(message)

    with _handled(end, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], Any], *numbers: signal.Signals) -> Iterator[None]:
    """The handler of these signals within; none of SIGHUP where it is ignored, as under `nohup`."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers = tuple(number for number in numbers if number != signal.SIGHUP)
    try:
        before = {number: signal.signal(number, handler) for number in numbers}
    except ValueError:  # not the main thread: whoever runs us there handles signals
        before = {}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def leave_terminal() -> None:
    """What is printed from here on goes nowhere, unless to a file: writing to a terminal that is closed, or to a program that went with it, is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        with contextlib.suppress(OSError):
            kind = os.fstat(output).st_mode
            if stat.S_ISCHR(kind) or stat.S_ISFIFO(kind):
                os.dup2(nowhere, output)
    os.close(nowhere)


@contextlib.contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """KeyboardInterrupt ends the process, for work whose threads have nothing to lose: Python itself would wait for them first."""
    try:
        yield
    except KeyboardInterrupt:
        print("satjax: interrupted", file=sys.stderr, flush=True)
        os._exit(130)


@contextlib.contextmanager
def stop_requests(waits: bool = True) -> Iterator[list[int]]:
    """A list that receives the number of SIGTERM, SIGHUP or SIGINT instead of the process dying at once.

    Ctrl-C once more raises KeyboardInterrupt. Where what is done `waits` for threads then, a third time ends the process wherever it is.
    """
    received: list[int] = []
    first = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        again = signal.SIGINT in received
        received.append(number)
        if number == signal.SIGHUP:
            leave_terminal()
        if number != signal.SIGINT:
            return
        if not again:
            first = time.monotonic()
            os.write(2, SAID % (b"twice" if waits else b"once"))  # sys.stderr may be in the midst of a write itself
        elif time.monotonic() - first > APART:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt

    with _handled(note, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        yield received
