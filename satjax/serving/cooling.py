"""Which candidates have just failed, so that others are asked first for a while."""

import time
from collections.abc import Callable, Sequence

from satjax.policy.zoo_file import ServedCandidate

STRIKES = 3
"""Faulty answers in a row after which a candidate cools; one that cannot be reached, is out of time or limits us cools at once."""
LONGEST = 60.0


class Cooling:
    """Keeps failures by candidate; `clock` gives seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        self.seconds, self._clock = seconds, clock
        self._until: dict[str, float] = {}
        self._strikes: dict[str, int] = {}

    def failed(self, name: str, *, at_once: bool, retry_after: float = 0.0) -> None:
        """Notes a failure; `retry_after` is how many seconds the backend asks to be left alone."""
        self._strikes[name] = self._strikes.get(name, 0) + 1
        if at_once or self._strikes[name] >= STRIKES:
            self._until[name] = self._clock() + max(self.seconds, min(retry_after, LONGEST))

    def worked(self, name: str) -> None:
        """Forgets what failed before."""
        self._until.pop(name, None)
        self._strikes.pop(name, None)

    def is_cooling(self, name: str) -> bool:
        """Whether others are to be asked first."""
        return self._until.get(name, 0.0) > self._clock()

    def in_order(self, candidates: Sequence[ServedCandidate]) -> list[ServedCandidate]:
        """The same, those that cool last."""
        return sorted(candidates, key=lambda candidate: self.is_cooling(candidate.name))
