"""The one exception that is meant for people."""

import difflib
from collections.abc import Iterable


class SatjaxError(Exception):
    """Something the user can mend: one line that says what, where and what to do.

    The command line prints it without a traceback and exits with status 2; every other exception is a bug of ours.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SatjaxError:
    """The error for a name that is not there, with the nearest ones that are."""
    known = sorted(known)
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:5]
    return SatjaxError(f"unknown {kind} {name!r}: did you mean {', '.join(map(repr, nearest))}?")
