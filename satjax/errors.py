"""The exceptions that are meant for people, and what a process ends with."""

import difflib
from collections.abc import Iterable, Sequence

BUG = 1
USER_ERROR = 2
LONGEST = 1800
"""Characters of an error."""
SHOWN = 5
"""Names in an error, where none is near the one that was given."""
INTERRUPTED_EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: the work is saved; run the same command again."""


class SatjaxError(Exception):
    """Something the user can mend: one line that says what, where and what to do.

    The command line prints it without a traceback and exits with status 2; every other exception is a bug of ours.
    """

    exit_code = USER_ERROR
    details = ""
    """Lines for whoever looks closer, which the command line prints before that one."""

    def __str__(self) -> str:
        """The line; where something very long was quoted in it, its two ends."""
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


class TryAgain(SatjaxError):
    """Nothing in the command is to be mended, and the same one may do better next time: launchers retry on its status, 75."""

    exit_code = INTERRUPTED_EXIT_CODE


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SatjaxError:
    """The error for a name that is not there, with the nearest ones that are, or the first ones where none is near."""
    known = sorted(known)
    if nearest := difflib.get_close_matches(name, known, n=3):
        return SatjaxError(f"unknown {kind} {name!r}: did you mean {', '.join(map(repr, nearest))}?")
    return SatjaxError(f"unknown {kind} {name!r}; there are: {some(known, SHOWN)}.")


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many there are beside them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def first_line(error: BaseException, most: int = 160) -> str:
    """The first line of what an error of a library says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:most]


def how_to_install(extra: str) -> str:
    """How to install what an extra of satjax needs; the package is on no index."""
    return f"pip install -e '.[{extra}]' in the checkout"
