"""What is wrong with base weights, in one line for people."""

from pathlib import Path

from satjax.errors import SatjaxError


def unreadable(directory: Path, name: str, error: Exception) -> SatjaxError:
    """That a file of theirs cannot be read, and why."""
    reason = " ".join(str(error).split())
    return SatjaxError(f"base weights {directory}: {name} cannot be read ({reason}); copy or download it again")
