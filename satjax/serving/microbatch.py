"""Concurrent requests meet in one pass of the router; one thread runs it, beside the event loop."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from satjax.errors import SatjaxError

log = logging.getLogger("satjax")

T = TypeVar("T")
Probabilities = dict[str, float]
"""By candidate."""
Score = Callable[[Sequence[str]], Sequence[Probabilities]]


class Full(SatjaxError):
    """As many wait as may."""


class MicroBatcher:
    """`probabilities(text)`, for many callers at once.

    While a batch runs others gather; when nothing runs the first waits `wait_seconds` for more. At most `max_batch` texts run at once and at most
    `max_queue` wait. What is run with `call` has the router to itself. `warm_up` goes on, step by step, while nobody waits.
    """

    def __init__(
        self,
        score: Score,
        *,
        max_batch: int,
        max_queue: int,
        wait_seconds: float,
        warm_up: Iterator[tuple[int, int]] | None = None,
        on_batch: Callable[[int, float], Any] = lambda size, seconds: None,
    ):
        self._score, self._on_batch = score, on_batch
        self._warm_up, self.warm = warm_up, warm_up is None
        self.has_been_warm = self.warm
        self.max_batch, self.max_queue, self.wait_seconds = max_batch, max_queue, wait_seconds
        self._waiting: deque[tuple[str, asyncio.Future[Probabilities]]] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="satjax-router")
        self._loop: asyncio.Task[None] | None = None

    @property
    def queue_length(self) -> int:
        """How many texts wait."""
        return len(self._waiting)

    async def __aenter__(self) -> "MicroBatcher":
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._loop is not None
        self._loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        await asyncio.to_thread(self._thread.shutdown)

    async def probabilities(self, text: str) -> Probabilities:
        """The router's probabilities for an instruction. Raises Full, at once, where too many wait."""
        if len(self._waiting) >= self.max_queue:
            raise Full(f"{self.max_queue} requests wait to be routed; try again")
        future: asyncio.Future[Probabilities] = asyncio.get_running_loop().create_future()
        entry = (text, future)
        self._waiting.append(entry)
        self._arrived.set()
        try:
            return await future
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self._waiting.remove(entry)
            raise

    def warm_up_again(self, steps: Iterator[tuple[int, int]]) -> None:
        """From the first step, because the programs are no longer the same."""
        self._warm_up, self.warm = steps, False
        self._arrived.set()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Runs something else in the router's thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                await self._idle()
            if self.wait_seconds and len(self._waiting) < self.max_batch:
                await asyncio.sleep(self.wait_seconds)
            count = min(self.max_batch, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            if batch := [(text, future) for text, future in batch if not future.done()]:
                await self._answer(batch)

    async def _idle(self) -> None:
        """Until something arrives; meanwhile the next programs are compiled."""
        while not self._waiting:
            self._arrived.clear()
            if self.warm:
                await self._arrived.wait()
                continue
            steps = self._warm_up
            try:
                done = await self.call(next, steps, None) is None
            except Exception:
                log.exception("warming up failed; what is needed is compiled when it is")
                done = True
            self.warm = done and steps is self._warm_up
            self.has_been_warm |= self.warm

    async def _answer(self, batch: Sequence[tuple[str, asyncio.Future[Probabilities]]]) -> None:
        started = time.perf_counter()
        for (_, future), found in zip(batch, await self._scored([text for text, _ in batch]), strict=True):
            if future.done():
                continue
            if isinstance(found, Exception):
                future.set_exception(found)
            else:
                future.set_result(found)
        self._on_batch(len(batch), time.perf_counter() - started)

    async def _scored(self, texts: Sequence[str]) -> Sequence[Probabilities | Exception]:
        """Of each text, what scoring gave or raised: what fails together is tried one by one, so that nobody pays for another's text."""
        try:
            return await self.call(self._score, texts)
        except Exception as error:
            if len(texts) == 1:
                return [error]
        return [(await self._scored([text]))[0] for text in texts]
