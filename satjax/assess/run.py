"""A candidate takes the aptitude test: many questions at once, every reply kept as it comes, nothing asked that is known already."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

import httpx
import numpy as np

from satjax.aptitude import AptitudeTest
from satjax.assess.answers import is_free_text, mark
from satjax.assess.endpoint import AttemptFailed, Declined, Endpoint, Filtered, Reply, TimedOut, ask
from satjax.assess.journal import Journal
from satjax.assess.prompts import Question, question_of
from satjax.errors import SatjaxError, TryAgain
from satjax.outcomes import OutcomeTable
from satjax.progress import Spending, unheard

log = logging.getLogger("satjax")

GIVE_UP_AFTER = 5
"""Items side by side that got no reply, after which an endpoint counts as gone."""
MOST_FILTERED = 20
"""Items side by side that a filter declined, after which it seems to decline whoever asks."""
SECONDS_BETWEEN_LOOKS = 0.1
MANY = 0.1
"""Share of items, or of their outcomes, that is worth a warning."""

CameOf = Literal["reply", "filter", "failure"]


@dataclass
class Assessment:
    """What came of it: outcomes by item, 1.0 or 0.0; `unparsed` replies by item, those of them that the token limit cut short in `cut_short`;
    why no reply came to each of the `undelivered` items, which count as wrong, as in service they would be, and to each of the `unanswered` ones, of
    which nobody knows; and the tokens of all replies, None where the endpoint does not say them of each.
    """

    outcomes: dict[str, float] = field(default_factory=dict)
    unparsed: dict[str, str] = field(default_factory=dict)
    cut_short: list[str] = field(default_factory=list)
    undelivered: dict[str, str] = field(default_factory=dict)
    unanswered: dict[str, str] = field(default_factory=dict)
    tokens_in: int | None = 0
    tokens_out: int | None = 0

    def add_tokens(self, reply: Reply) -> None:
        """Counts those of a reply."""
        if self.tokens_in is None or self.tokens_out is None or not reply.tells_tokens:
            self.tokens_in = self.tokens_out = None
        else:
            self.tokens_in += reply.tokens_in
            self.tokens_out += reply.tokens_out


def questions_in_order(test: AptitudeTest, table: OutcomeTable) -> list[Question]:
    """The test's items as they are asked, from the user's own copy of them; the first K of them are a test of K items (`AptitudeTest.in_turn`).

    The test's fingerprint fixes the order, the same for all candidates: items of a smaller K are among those of a larger one. Items with another text
    than when the test was drawn are left out, and named. Raises SatjaxError where the table lacks all items or all answers.
    """
    item_of = {item.id: item for item in table.items}
    ids = [test.tasks[t].item_ids[k] for t, k in test.in_turn(int(test.fingerprint[:16], 16))]
    named = [item_of[name] for name in ids if name in item_of]
    others = set(test.with_other_texts(named))
    held = [item for item in named if item.id not in others]
    if not named:
        raise SatjaxError(
            f"--outcomes holds none of the {len(ids)} items of this aptitude test (the first is {ids[0]!r}, drawn from {test.source}); "
            "give your copy of the data that the router was trained on, and name the router with --router"
        )
    if not held:
        raise SatjaxError(
            f"--outcomes holds other texts than the router was trained on under the names of this aptitude test's items (such as {min(others)!r}); "
            "give the very data that it was trained on"
        )
    if others:
        log.warning(
            "items of the test whose texts in --outcomes are not those that the router was trained on: %d, such as %r; they stay unobserved",
            len(others),
            min(others),
        )
    questions = [question for item in held if (question := question_of(item))]
    if not questions:
        raise SatjaxError(
            "--outcomes holds the items of this aptitude test without answers, so that nobody can mark them; add the column 'answer' to items.parquet, "
            "or score the replies yourself and use `satjax profile`"
        )
    if missing := len(ids) - len(others) - len(questions):
        log.warning(
            "%d of the %d items of the test are not in --outcomes with an answer, and stay unobserved",
            missing,
            len(ids),
        )
    return questions


def other_measurement(questions: Sequence[Question], table: OutcomeTable) -> str | None:
    """Why marking replies right or wrong by these answers may be another measurement than the table's outcomes, in one line; or None."""
    long = [question.item_id for question in questions if not question.options and is_free_text(question.answer)]
    asked = {question.item_id for question in questions}
    scores_MI = table.scores_MN[:, [item.id in asked for item in table.items]]
    observed = scores_MI[~np.isnan(scores_MI)]
    soft = (observed > 0) & (observed < 1)
    if len(long) > MANY * len(questions):
        why = f"{len(long)} of {len(questions)} items have free text as their answer (such as {long[0]!r}), which a reply has to repeat word for word"
    elif soft.sum() > MANY * len(observed):
        why = f"{soft.sum():,} of the {len(observed):,} outcomes on these items are between 0 and 1, and replies count as right or wrong"
    else:
        return None
    return f"{why}: this measures something else than the router was trained on; rather score the replies yourself, then use `satjax profile`"


def run(
    endpoint: Endpoint,
    questions: Sequence[Question],
    journal: Journal,
    *,
    concurrency: int = 8,
    rotate: bool = False,
    stop: Sequence[int] = (),
    on_progress: Spending = unheard,
) -> Assessment:
    """Asks all questions, `concurrency` at once, and marks the replies; those in the journal already are marked only.

    With `rotate` an item counts as right if it is in every rotation of its options, which are asked until one is wrong (circle test). Raises
    TryAgain where `stop` is filled, or the endpoint no longer answers: the same call goes on from there. Raises SatjaxError where it
    refuses everything.
    """
    sitting = _Sitting(endpoint, journal, rotate, questions, on_progress)
    try:
        asyncio.run(sitting.all(questions, concurrency, stop))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return sitting.found


class _Sitting:
    """One run of the test: what is found so far, and what came of the items, in the order in which they are asked."""

    def __init__(
        self, endpoint: Endpoint, journal: Journal, rotate: bool, questions: Sequence[Question], on_progress: Spending
    ):
        self.endpoint, self.journal, self.rotate = endpoint, journal, rotate
        self.total, self.on_progress = len(questions), on_progress
        self.found = Assessment()
        self.came_of: dict[str, CameOf | None] = {
            question.item_id: "reply" if journal.reply(question.item_id, 0, question.prompt()) else None
            for question in questions
        }

    async def all(self, questions: Sequence[Question], concurrency: int, stop: Sequence[int]) -> None:
        waiting = iter(questions)
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        timeout = httpx.Timeout(None, connect=10.0)
        async with httpx.AsyncClient(limits=limits, timeout=timeout) as client, asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch(stop))
            for question in waiting:
                # The first one that is new goes alone: a wrong address or key shows before many are asked.
                if await self._item(client, question, first=True):
                    break
            workers = [group.create_task(self._work(client, waiting)) for _ in range(concurrency)]
            await asyncio.gather(*workers)
            watch.cancel()

    async def _watch(self, stop: Sequence[int]) -> None:
        while not stop:
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        raise TryAgain("interrupted; every reply is kept: run the same command to go on")

    async def _work(self, client: httpx.AsyncClient, waiting: Iterator[Question]) -> None:
        for question in waiting:
            await self._item(client, question)

    async def _item(self, client: httpx.AsyncClient, question: Question, first: bool = False) -> bool:
        """Takes an item through its rotations until one is wrong; returns whether anything had to be asked."""
        right, asked = True, False
        for rotation in range(question.rotations if self.rotate else 1):
            reply = self.journal.reply(question.item_id, rotation, question.prompt(rotation))
            if reply is None:
                asked = True
                reply = await self._ask(client, question, rotation, first)
            if reply is None:
                right = False
                break
            self.found.add_tokens(reply)
            marked = mark(question, rotation, reply.text)
            if marked.answer is None:
                self.found.unparsed[question.item_id] = reply.text
                if reply.finish == "length":
                    self.found.cut_short.append(question.item_id)
            if not marked.right:
                right = False
                break
        if question.item_id not in self.found.unanswered:
            self.found.outcomes[question.item_id] = float(right)
        done = len(self.found.outcomes) + len(self.found.unanswered)
        self.on_progress(done, self.total, self.found.tokens_in, self.found.tokens_out)
        return asked

    async def _ask(self, client: httpx.AsyncClient, question: Question, rotation: int, first: bool) -> Reply | None:
        """The reply to a question, kept; or None, and the reason in `undelivered` or `unanswered`."""
        item, prompt = question.item_id, question.prompt(rotation)
        try:
            reply = await ask(client, self.endpoint, prompt, patient=not first)
        except (Declined, AttemptFailed) as error:
            if first and isinstance(error, AttemptFailed) and not error.reached:
                raise SatjaxError(
                    f"nobody answers at {self.endpoint.url} ({error}); start the server, or mend --base-url"
                ) from error
            where = self.found.undelivered if isinstance(error, Filtered | TimedOut) else self.found.unanswered
            where[item] = str(error)
            self.came_of[item] = "filter" if isinstance(error, Filtered) else "failure"
            if (count := self._in_a_row(item)) >= (MOST_FILTERED if isinstance(error, Filtered) else GIVE_UP_AFTER):
                self._give_up(error, count)
            return None
        self.came_of[item] = "reply"
        self.journal.add(item, rotation, prompt, reply)
        return reply

    def _in_a_row(self, item_id: str) -> int:
        """Of how many items around this one, itself included, the same came; those under way do not part them.

        Not in the order of time: a run that goes on asks what failed before in one go, however far apart it lies.
        """
        place, same = list(self.came_of).index(item_id), self.came_of[item_id]
        came_of = list(self.came_of.values())
        sides = (came_of[place::-1], came_of[place + 1 :])
        return sum(known == same for side in sides for known in takewhile(lambda known: known in (None, same), side))

    def _give_up(self, error: Declined | AttemptFailed, count: int) -> None:
        said = f"{self.endpoint.url} gave no reply to {count} questions in a row ({error})"
        if isinstance(error, Declined):
            raise SatjaxError(f"{said}; mend what it complains of, by --body where it is a field of the request")
        if isinstance(error, TimedOut):
            # No TryAgain: launchers would pay, time and again, for replies that nobody waits for.
            raise SatjaxError(f"{said}; every reply before is kept, and the same command goes on")
        raise TryAgain(f"{said}; every reply before is kept: run the same command when it answers again")
