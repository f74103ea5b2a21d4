"""Routing, and the zoo while it is served: from a checked request to a candidate's answer. Nothing here knows of HTTP on the client's side."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from satjax.aptitude import CapabilityProfile
from satjax.errors import SatjaxError, unknown_name
from satjax.instructions import is_instruction
from satjax.policy.conversation import scored_text
from satjax.policy.objective import Objective, parse_objective
from satjax.policy.price import price_usd
from satjax.policy.zoo_file import ROUTED, ServedCandidate, ZooFile, read_candidate
from satjax.router import Router
from satjax.serving.api_errors import ApiError, turned_away
from satjax.serving.attempts import Attempts
from satjax.serving.backends import Answer, Backends
from satjax.serving.bodies import Asked, CandidateBody, ChatRequest, Choice
from satjax.serving.cooling import Cooling
from satjax.serving.evidence import Evidence, evidence
from satjax.serving.keys import secret
from satjax.serving.microbatch import Full, MicroBatcher, Probabilities
from satjax.serving.needs import needs_of, unmet
from satjax.serving.offers import Offer, in_order
from satjax.serving.telemetry import Telemetry

log = logging.getLogger("satjax")

OBJECTIVE_HEADER = "x-satjax-objective"


@dataclass(frozen=True)
class Routed:
    """Offers in the order in which they are tried, why each of the others is left out, and how long routing took, waiting included."""

    objective: Objective
    offers: list[Offer]
    left_out: Mapping[str, str]
    seconds: float


@dataclass(frozen=True)
class Completed:
    """A candidate's answer; `routed` and `probability` are None where the client named the candidate."""

    candidate: str
    answer: Answer
    routed: Routed | None
    probability: float | None


class Service:
    """The router, the zoo and the backends of one server. Made by `open_service`; its `backends` and `batcher` are entered while it serves."""

    def __init__(self, router: Router, zoo: ZooFile):
        settings = self.settings = zoo.settings
        self.router, self.objective = router, zoo.objective
        self.candidates: dict[str, ServedCandidate] = dict(zoo.candidates)
        self.telemetry, self.cooling = Telemetry(), Cooling(settings.cooldown_seconds)
        self.backends = Backends(settings)
        self.batcher = MicroBatcher(
            self._score,
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            wait_seconds=settings.batch_wait_ms / 1000,
            warm_up=router.warm_up(settings.max_batch),
            on_batch=self._count_batch,
        )
        self._attempts = Attempts(self.backends, self.cooling, self.telemetry, settings.max_attempts)
        self.running = 0
        self.telemetry.running.set_function(lambda: self.running)
        self.telemetry.queue.set_function(lambda: self.batcher.queue_length)

    def _score(self, texts: Sequence[str]) -> list[Probabilities]:
        names = self.router.candidates
        rows = self.router.probability(texts).tolist()
        return [{name: round(chance, 6) for name, chance in zip(names, row, strict=True)} for row in rows]

    def _count_batch(self, size: int, seconds: float) -> None:
        self.telemetry.batch_size.observe(size)
        self.telemetry.batch.observe(seconds)

    def admit(self) -> None:
        """Counts a request that begins. Raises ApiError (503) where as many run as may; whoever calls it calls `release` at the end."""
        if self.running >= self.settings.max_requests:
            raise turned_away(f"{self.running} requests are running; try again")
        self.running += 1

    def release(self) -> None:
        """Counts a request that has ended, one way or the other."""
        self.running -= 1

    def choose(
        self, choice: Choice | None, header: str | None, choice_at: str
    ) -> tuple[Objective, list[ServedCandidate]]:
        """What a request says of its routing: the body before the header before the zoo file. `choice_at` is what comes before the choice's fields in
        the body. Raises ApiError (400).
        """
        in_body = choice is not None and choice.objective is not None
        text = choice.objective if choice is not None and in_body else header
        try:
            objective = self.objective if text is None else parse_objective(text)
        except SatjaxError as error:
            raise ApiError(400, str(error), param=f"{choice_at}objective" if in_body else OBJECTIVE_HEADER) from None
        names = list(self.candidates) if choice is None or choice.candidates is None else choice.candidates
        return objective, [self.candidate(name, f"{choice_at}candidates", 400) for name in dict.fromkeys(names)]

    def candidate(self, name: str, param: str, status: int = 404) -> ServedCandidate:
        """A candidate of the zoo. Raises ApiError for a name that is not there."""
        if name not in self.candidates:
            message = str(unknown_name("model", name[:100], [*self.candidates, ROUTED]))
            raise ApiError(status, message, code="model_not_found", param=param)
        return self.candidates[name]

    async def route(
        self,
        asked: Asked,
        messages: Sequence[Mapping[str, Any]],
        choice: Choice | None,
        header: str | None,
        expected_output_tokens: int | None = None,
        choice_at: str = "satjax.",
    ) -> Routed:
        """Ranks the candidates that can take a request: by its objective, those that cool last.

        Raises ApiError where none can, or there is no text to route by (400), too many wait (503) or it takes too long (504).
        """
        objective, allowed = self.choose(choice, header, choice_at)
        expected = self.settings.expected_output_tokens if expected_output_tokens is None else expected_output_tokens
        needs = needs_of(asked, messages, expected)
        left_out = {c.name: reason for c in allowed if (reason := unmet(c, needs)) is not None}
        able = {candidate.name: candidate for candidate in allowed if candidate.name not in left_out}
        if not able:
            raise ApiError(
                400, f"no candidate takes {needs}; see context_tokens and tools in the zoo file", code="no_candidate"
            )
        text = scored_text(messages)
        if not is_instruction(text):
            raise ApiError(
                400, "there is no text of a user to route by; name a candidate as the model", param="messages"
            )
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.settings.request_timeout_seconds):
                probability = await self.batcher.probabilities(text)
        except Full as error:
            raise turned_away(str(error)) from None
        except TimeoutError:
            raise ApiError(504, "routing took too long; try again", code="timeout") from None
        offers = {
            name: Offer(name, probability[name], price_usd(candidate, needs.size))
            for name, candidate in able.items()
            if name in probability
        }
        best_first = [able[offer.candidate] for offer in in_order(objective, list(offers.values()))]
        seconds = time.perf_counter() - started
        self.telemetry.routing.observe(seconds)
        tried = [offers[candidate.name] for candidate in self.cooling.in_order(best_first)]
        return Routed(objective, tried, left_out, seconds)

    async def evidence(self, text: str, candidate: str) -> Evidence | None:
        """Aptitude tasks for and against a candidate (`satjax.serving.evidence`), or None where the router cannot say."""

        def find() -> Evidence | None:
            likeness_T = self.router.task_likeness(text)
            if likeness_T is None or candidate not in self.router.candidates:
                return None
            return evidence(likeness_T, self.router.profiles, candidate)

        return await self.batcher.call(find)

    async def complete(self, chat: ChatRequest, body: dict[str, Any], header: str | None) -> Completed:
        """Answers a chat completion request by the best candidate that can. Raises ApiError where none does."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.request_timeout_seconds
        forwarded = {key: value for key, value in body.items() if key != "satjax"}
        if chat.model != ROUTED:
            named = [self.candidate(chat.model, "model")]
            return Completed(*await self._attempts.first_answer(named, forwarded, deadline), None, None)
        routed = await self.route(chat, body["messages"], chat.satjax, header)
        ranked = [self.candidates[offer.candidate] for offer in routed.offers if offer.candidate in self.candidates]
        name, answer = await self._attempts.first_answer(ranked, forwarded, deadline)
        chances = {offer.candidate: offer.probability for offer in routed.offers}
        return Completed(name, answer, routed, chances.get(name))

    async def add(self, name: str, body: CandidateBody) -> None:
        """Adds a candidate, or replaces one, while serving. Raises ApiError (400) naming what does not fit."""
        table = {key: value for key, value in body.model_dump().items() if key != "profile"}
        try:
            candidate = read_candidate(name, table, "request")
            if not self.backends.may_have_key(candidate):
                raise SatjaxError(
                    "the zoo file sends no key of this api_key_env to this base_url; neither does this server"
                )
            if body.profile is not None:
                await self.batcher.call(self.router.add, _profile(name, body.profile))
                self.batcher.warm_up_again(self.router.warm_up(self.settings.max_batch))
            elif name not in self.router.candidates:
                raise SatjaxError(f"the router does not know {name!r}; give its profile, too")
        except SatjaxError as error:
            raise ApiError(400, str(error), code="invalid_candidate") from None
        self.candidates = {**self.candidates, name: candidate}
        self.cooling.worked(name)
        log.info("candidate %s was added", name)

    def remove(self, name: str) -> None:
        """Routes to a candidate no more; what it is answering it finishes. Raises ApiError for the last one (409)."""
        self.candidate(name, "name")
        if len(self.candidates) == 1:
            raise ApiError(409, f"{name!r} is the last candidate; add another one first", code="last_candidate")
        self.candidates = {other: candidate for other, candidate in self.candidates.items() if other != name}
        log.info("candidate %s was removed", name)


def open_service(router: Router, zoo: ZooFile, path: Path) -> Service:
    """A service of a loaded router and a zoo file, read from `path`.

    Raises SatjaxError where the router does not know a candidate that has no profile, a profile does not fit, or a key is not in the environment.
    """
    service = Service(router, zoo)
    for profile in check_zoo(zoo, path, router.candidates):
        router.add(profile)
    for candidate in zoo.candidates.values():
        service.backends.learn_key(candidate, str(path))
    return service


def check_zoo(zoo: ZooFile, path: Path, known: Collection[str]) -> list[CapabilityProfile]:
    """The profiles of a zoo file, for a router that has the `known` candidates; raises as `open_service` does, and needs no loaded router to do so."""
    profiles = []
    for candidate in zoo.candidates.values():
        at = f"{path}: candidates.{candidate.name}"
        if candidate.api_key_env:
            secret(candidate.api_key_env, at)
        if candidate.profile:
            profile = CapabilityProfile.read(path.parent / candidate.profile)
            if profile.candidate != candidate.name:
                raise SatjaxError(f"{at}.profile is that of {profile.candidate!r}; rename the table, or give its own")
            profiles.append(profile)
        elif candidate.name not in known:
            hint = unknown_name("candidate", candidate.name, known)
            raise SatjaxError(
                f'{at}: {hint} A new one needs its profile: add profile = "FILE.json" to its table in the zoo file, '
                "or add it to the router with `satjax assess --add` or `satjax profile --add`, to a copy of one that came with satjax with --out-router DIR"
            )
    return profiles


def _profile(name: str, value: dict[str, Any]) -> CapabilityProfile:
    profile = CapabilityProfile.from_value(value, "the profile")
    if profile.candidate != name:
        raise SatjaxError(f"the profile is that of {profile.candidate!r:.60}, not of {name!r}")
    return profile
