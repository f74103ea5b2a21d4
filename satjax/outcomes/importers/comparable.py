"""What makes outcomes of several candidates comparable: that the files of each task say the same of it."""

from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError, some

SHOWN = 40
"""Characters that are shown of what differs."""


class FirstSaid:
    """What the first file of each task says of it; those of all candidates must say the same to be compared."""

    def __init__(self) -> None:
        self._said: dict[str, dict[str, tuple[Any, Path]]] = {}

    def first(self, what: str, task: str, value: Any, path: Path) -> tuple[Any, Path]:
        """`what` the first file of the task says, and that file; it is this one where there was none before."""
        return self._said.setdefault(what, {}).setdefault(task, (value, path))

    def check(self, what: str, task: str, value: Any, path: Path, advice: str) -> None:
        """Raises SatjaxError naming both files where this one says something else."""
        before, first = self.first(what, task, value, path)
        if before != value:
            here, there = apart(str(value), str(before))
            raise SatjaxError(f"{path}: the {what} of task {task!r} is {here!r}, and {there!r} in {first}; {advice}")

    def tasks(self, what: str) -> dict[Any, str]:
        """The tasks by what was said of them: the first few by name."""
        found: dict[Any, list[str]] = {}
        for task, (value, _) in self._said.get(what, {}).items():
            found.setdefault(value, []).append(task)
        return {value: some(tasks) for value, tasks in found.items()}


def apart(one: str, other: str) -> tuple[str, str]:
    """Two texts as far as they are shown: about where they begin to differ."""
    pairs = enumerate(zip(one, other, strict=False))
    same = next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))
    start = max(0, same - SHOWN // 2)
    one, other = (
        text if len(text) <= SHOWN else "…" * (start > 0) + text[start : start + SHOWN] for text in (one, other)
    )
    return one, other
