"""What makes outcomes of several candidates comparable: that the files of each task say the same of it."""

from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError

NAMED = 3
"""Tasks that are named where many are meant."""


class FirstSaid:
    """What the first file of each task says of it; those of all candidates must say the same to be compared."""

    def __init__(self) -> None:
        self._said: dict[str, dict[str, tuple[Any, Path]]] = {}

    def differs(self, what: str, task: str, value: Any, path: Path) -> str | None:
        """How this file differs from the first one of the task in `what` it says, naming both; None where it does not."""
        before, first = self._said.setdefault(what, {}).setdefault(task, (value, path))
        if before == value:
            return None
        return f"{path}: the {what} of task {task!r} is {str(value)[:40]!r}, and {str(before)[:40]!r} in {first}"

    def check(self, what: str, task: str, value: Any, path: Path, advice: str) -> None:
        """Raises SatjaxError naming both files where this one says something else."""
        if said := self.differs(what, task, value, path):
            raise SatjaxError(f"{said}; {advice}")

    def tasks(self, what: str) -> dict[Any, str]:
        """The tasks by what was said of them: the first few by name."""
        found: dict[Any, list[str]] = {}
        for task, (value, _) in self._said.get(what, {}).items():
            found.setdefault(value, []).append(task)
        return {value: named(tasks) for value, tasks in found.items()}


def named(tasks: list[str]) -> str:
    """The first few by name."""
    return ", ".join(tasks[:NAMED]) + (f" and {len(tasks) - NAMED} more" if len(tasks) > NAMED else "")
