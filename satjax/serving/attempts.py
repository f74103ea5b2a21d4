"""Candidates tried in turn until one answers, and what is learnt of them on the way."""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from satjax.policy.zoo_file import ServedCandidate
from satjax.serving.api_errors import ApiError
from satjax.serving.backends import AT_ONCE, Answer, Backends, Failed
from satjax.serving.cooling import Cooling
from satjax.serving.overflow import message_of
from satjax.serving.telemetry import Telemetry

log = logging.getLogger("satjax")

LONGEST_SAID = 500
"""Characters of a backend's error that are told with those of others."""


class Attempts:
    """Asks one candidate after the other, `most` of them that fail at most; those whom a request is too long for are counted by themselves."""

    def __init__(self, backends: Backends, cooling: Cooling, telemetry: Telemetry, most: int):
        self._backends, self._cooling, self._telemetry, self._most = backends, cooling, telemetry, most
        self._forbidden: dict[str, int] = {}

    async def first_answer(
        self, candidates: Sequence[ServedCandidate], body: dict[str, Any], deadline: float
    ) -> tuple[str, Answer]:
        """Who answers, and what. `deadline` is a time of the event loop. Raises ApiError where nobody does."""
        failures: list[tuple[str, Failed]] = []
        waiting = list(candidates)
        while waiting:
            candidate = waiting.pop(0)
            started = time.perf_counter()
            try:
                answer = await self._backends.ask(candidate, body, deadline, partial(self._note_end, candidate.name))
            except Failed as error:
                failures.append((candidate.name, error))
                self._note_failure(candidate.name, error, body)
                overflows = sum(error.fault == "too_long" for _, error in failures)
                attempts = max(overflows, len(failures) - overflows)
                if attempts == self._most or asyncio.get_running_loop().time() >= deadline:
                    break
                if error.fault == "too_long":  # what a request takes was an estimate
                    waiting = _roomier_first(waiting, candidate)
                continue
            if answer.chunks is None:
                self._cooling.worked(candidate.name)
            self._telemetry.attempts.labels(candidate.name, "ok").inc()
            self._telemetry.first_byte.labels(candidate.name).observe(time.perf_counter() - started)
            for kind in ("prompt_tokens", "completion_tokens"):
                if isinstance(count := answer.usage.get(kind), int) and 0 <= count < 2**53:
                    self._telemetry.tokens.labels(candidate.name, kind).inc(count)
            return candidate.name, answer
        # Where some did not take the request and others could not be asked, to ask again may help, and what was said of it is told with it.
        said = [(name, error.answer) for name, error in failures if error.answer]
        if not said or len(said) < len(failures):
            raise _all_failed(failures)
        return said[0]

    def _note_failure(self, name: str, error: Failed, body: Mapping[str, Any]) -> None:
        log.warning("candidate %s failed: %s", name, error)
        self._telemetry.attempts.labels(name, error.fault).inc()
        if error.fault == "forbidden":
            # Where it is the key, requests of all kinds are; one that a client sends again and again must not keep others away.
            asked = hash(json.dumps(body.get("messages")))
            if self._forbidden.get(name) == asked:
                return
            self._forbidden[name] = asked
        if error.answer and error.fault != "forbidden":  # it works, and does not take this one request
            self._cooling.worked(name)
        else:
            self._cooling.failed(name, at_once=error.fault in AT_ONCE, retry_after=error.retry_after)

    def _note_end(self, name: str, whole: bool) -> None:
        """Of a stream."""
        if whole:
            self._cooling.worked(name)
            return
        log.warning("candidate %s: its stream broke off", name)
        self._telemetry.attempts.labels(name, "interrupted").inc()
        self._cooling.failed(name, at_once=False)


def _roomier_first(candidates: Sequence[ServedCandidate], than: ServedCandidate) -> list[ServedCandidate]:
    """The same, those last that have no more room than one has for whom a request was too long."""
    return sorted(candidates, key=lambda candidate: candidate.context_tokens <= than.context_tokens)


def _all_failed(failures: Sequence[tuple[str, Failed]]) -> ApiError:
    said = "; ".join(f"{name}: {error.fault}" for name, error in failures)
    reasons = [(name, message_of(error.answer.content)) for name, error in failures if error.answer]
    if reason := next(((name, message) for name, message in reasons if message), None):
        said += f"; {reason[0]} says: {reason[1][:LONGEST_SAID]}"
    faults = {error.fault for _, error in failures if not error.answer}
    if faults == {"rate_limit"}:
        waits = [error.retry_after or 1.0 for _, error in failures if error.fault == "rate_limit"]
        return ApiError(
            429,
            f"every candidate limits us ({said})",
            code="rate_limited",
            headers={"retry-after": str(int(min(min(waits), 1e6)) or 1)},
        )
    status = 504 if faults == {"timeout"} else 502
    return ApiError(
        status,
        f"no candidate answered ({said})" if said else "no candidate is left to ask",
        code="all_candidates_failed",
    )
