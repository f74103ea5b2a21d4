import asyncio
import threading
import time

import pytest

from satjax.serving.microbatch import Full, MicroBatcher


class Scoring:
    """Scores a text with its length, and notes what came together."""

    def __init__(self, seconds=0.02):
        self.seconds, self.batches, self.threads = seconds, [], set()

    def __call__(self, texts):
        self.batches.append(list(texts))
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        if any("poison" in text for text in texts):
            raise ValueError("cannot be scored")
        return [{text: float(len(text))} for text in texts]


def batcher(scoring, **options):
    return MicroBatcher(scoring, **{"max_batch": 8, "max_queue": 100, "wait_seconds": 0.005, **options})


def test_many_callers_share_few_passes_and_each_gets_its_own():
    scoring = Scoring()

    async def run():
        async with batcher(scoring) as b:
            texts = [f"text {i}" for i in range(60)]
            return texts, await asyncio.gather(*map(b.probabilities, texts))

    texts, found = asyncio.run(run())
    assert found == [{text: float(len(text))} for text in texts]
    assert max(map(len, scoring.batches)) == 8
    assert len(scoring.batches) <= 9
    assert len(scoring.threads) == 1
    assert threading.get_ident() not in scoring.threads


def test_one_caller_does_not_wait_longer_than_it_must():
    async def run():
        async with batcher(Scoring(0.0), wait_seconds=0.01) as b:
            await b.probabilities("warm")
            started = time.perf_counter()
            await b.probabilities("one")
            return time.perf_counter() - started

    assert 0.009 < asyncio.run(run()) < 0.5


def test_a_full_queue_turns_away_at_once():
    async def run():
        async with batcher(Scoring(0.2), max_queue=3, max_batch=1, wait_seconds=0.0) as b:
            first = asyncio.create_task(b.probabilities("runs"))
            await asyncio.sleep(0.05)
            waiting = [asyncio.create_task(b.probabilities(str(i))) for i in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(Full):
                await b.probabilities("too many")
            return await asyncio.gather(first, *waiting)

    assert len(asyncio.run(run())) == 4


def test_a_text_that_cannot_be_scored_fails_alone():
    async def run():
        async with batcher(Scoring()) as b:
            return await asyncio.gather(*map(b.probabilities, ("a", "poison", "b")), return_exceptions=True)

    a, poison, b = asyncio.run(run())
    assert (a, b) == ({"a": 1.0}, {"b": 1.0})
    assert isinstance(poison, ValueError)


def test_whoever_gives_up_leaves_the_queue():
    scoring = Scoring(0.1)

    async def run():
        async with batcher(scoring, max_batch=1, wait_seconds=0.0) as b:
            first = asyncio.create_task(b.probabilities("first"))
            await asyncio.sleep(0.03)
            second = asyncio.create_task(b.probabilities("second"))
            await asyncio.sleep(0.01)
            second.cancel()
            await asyncio.sleep(0)
            assert b.queue_length == 0
            await first
            await b.probabilities("third")

    asyncio.run(run())
    assert scoring.batches == [["first"], ["third"]]


def test_nothing_else_runs_while_a_call_does():
    events = []

    def score(texts):
        events.append("score")
        return [{} for _ in texts]

    def change():
        events.append("change")
        time.sleep(0.05)
        events.append("changed")

    async def run():
        async with batcher(score) as b:
            await asyncio.gather(b.call(change), b.probabilities("a"), b.probabilities("b"))

    asyncio.run(run())
    assert events == ["change", "changed", "score"]


def test_programs_are_compiled_while_nobody_waits():
    done = []

    def steps():
        for i in range(5):
            time.sleep(0.02)
            done.append(i)
            yield (1, i)

    async def run():
        async with batcher(Scoring(0.0), warm_up=steps()) as b:
            await asyncio.sleep(0.03)
            await b.probabilities("between")
            assert not b.warm
            assert len(done) < 5
            while not b.warm:
                await asyncio.sleep(0.01)
            await b.probabilities("after")
            b.warm_up_again(steps())
            assert not b.warm
            while not b.warm:
                await asyncio.sleep(0.01)

    asyncio.run(run())
    assert done == [0, 1, 2, 3, 4] * 2


def test_warming_up_that_fails_keeps_nobody_from_being_served(caplog):
    def steps():
        yield (1, 1)
        raise RuntimeError("no memory")

    async def run():
        async with batcher(Scoring(0.0), warm_up=steps()) as b:
            while not b.warm:
                await asyncio.sleep(0.01)
            return await b.probabilities("a")

    assert asyncio.run(run()) == {"a": 1.0}
    assert "warming up failed" in caplog.text
