"""The exceptions that are meant for people, and what a process ends with."""

import difflib
from collections.abc import Iterable

BUG = 1
USER_ERROR = 2
LONGEST = 1800
"""Characters of an error."""
INTERRUPTED_EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: the work is saved; run the same command again."""


class SatjaxError(Exception):
    """Something the user can mend: one line that says what, where and what to do.

    The command line prints it without a traceback and exits with status 2; every other exception is a bug of ours.
    """

    exit_code = USER_ERROR

    def __str__(self) -> str:
        """The line; where something very long was quoted in it, its two ends."""
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


class TryAgain(SatjaxError):
    """Nothing in the command is to be mended, and the same one may do better next time: launchers retry on its status, 75."""

    exit_code = INTERRUPTED_EXIT_CODE


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SatjaxError:
    """The error for a name that is not there, with the nearest ones that are."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:5]
    return SatjaxError(f"unknown {kind} {name!r}: did you mean {', '.join(map(repr, nearest))}?")
