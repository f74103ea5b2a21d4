"""Standard output as a process may find it: closed, full, of few characters, or left by its reader."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator

from satjax.errors import SatjaxError


@contextlib.contextmanager
def safe_output() -> Iterator[None]:
    """Whatever becomes of standard output, what is printed within is no traceback. Raises SatjaxError where it is full.

    It is flushed at the end, because what the interpreter cannot write at its own is told with a traceback and exit code 120.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 (for as long as the process lives)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough (`satjax … | head`)
        discard_output()
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:  # a file's
            raise
        discard_output()
        raise SatjaxError(
            f"standard output cannot be written ({error.strerror}); make room where it goes, or send it elsewhere"
        ) from error


def discard_output() -> None:
    """What is still to be printed goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def can_print(text: str) -> bool:
    """Whether standard output has all the characters of a text."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
