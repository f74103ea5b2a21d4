"""Ranks the chunks that are not ranked yet, several at once, and has all of them joined."""

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa

from satjax.instructions import is_instruction
from satjax.processes.agreement import is_first, wait_for_all
from satjax.progress import Progress, unheard
from satjax.rank_file.chunks import read_chunks, texts_of
from satjax.rank_file.claim import claim_parts, is_done, job_of, one_at_a_time
from satjax.rank_file.parts import join, write_part
from satjax.rank_file.plan import FilePlan, go_on, make_plan
from satjax.router import Router

log = logging.getLogger("satjax")

MOST = 8
"""Most chunks ranked together: with 4,096 instructions batches are full. One chunk alone costs 3 to 7 % more tokens (up to 40 % on eight devices) and
twice the batches."""
SECONDS = 10.0
"""What a group of chunks is to take. A kill costs at most `AT_ONCE` groups, or one chunk where a single one takes longer."""
AT_ONCE = 2
"""Groups under way: one is read and tokenized while the devices work on the other. One only at first, and where a single chunk takes longer than
`SECONDS`: reading is little of its work there, and the sooner it is done the better."""


def rank_file(
    router: Router,
    directory: Path,
    source: Path,
    target: Path,
    *,
    column: str = "instruction",
    candidates: tuple[str, ...] | None = None,
    stop: Sequence[int] = (),
    on_progress: Progress = unheard,
) -> None:
    """Writes `target`: for each row of `source`, in its order, the likeliest `candidate`, its `probability`, each candidate's probability in
    a float32 column under its name, and the input's columns but `column`, that of the instructions. Rows without an instruction get nulls.

    `directory` is the router's. With several processes (`jax.distributed`) each ranks a share of the chunks, all reach the same files, and
    the first process joins them. Raises TryAgain where `stop` was filled meanwhile, a batch later at most: what is done is kept, and the same call
    goes on from there; and where another process ranks into the same parts. Raises SatjaxError for files that do not fit, for a target that exists,
    and where the parts there belong to another input or router.
    """
    plan = make_plan(router, directory, source, target, column, candidates, stop)
    if not is_done(plan):
        with one_at_a_time(plan):
            claim_parts(plan)
            mine = range(jax.process_index(), plan.num_chunks, jax.process_count())
            _rank_chunks(router, plan, mine, stop, on_progress)
            go_on(stop)
            wait_for_all("every chunk is ranked")
            if is_first():
                join(plan, stop)
    wait_for_all("all are one file")  # JAX, which ends next, waits for the last process five minutes only
    if is_first():  # NFS keeps the name of an open file: every process has left its lock by now
        shutil.rmtree(plan.parts, ignore_errors=True)


def _rank_chunks(router: Router, plan: FilePlan, mine: range, stop: Sequence[int], on_progress: Progress) -> None:
    """Ranks those chunks that have no part of this job yet; leaves off early, with nothing half done, where `stop` is filled."""
    todo = {chunk for chunk in mine if job_of(plan.part(chunk)) != plan.job}
    last = max(todo, default=0)
    total = sum(map(plan.rows, mine))
    done = total - sum(map(plan.rows, todo))
    counting = threading.Lock()
    size, at_once, without, waiting = 1, 1, 0, list[tuple[int, pa.Table]]()
    under_way = set[Future[tuple[int, float, int]]]()

    def count(rows: int) -> None:
        nonlocal done
        with counting:
            done += rows
            on_progress(done, total)

    def settle(finished: set[Future[tuple[int, float, int]]]) -> None:
        nonlocal size, at_once, without
        for future in finished:
            chunks, seconds, empty = future.result()
            without += empty
            size = max(1, min(MOST, int(chunks * SECONDS / seconds)))
            at_once = AT_ONCE if seconds <= chunks * SECONDS else 1

    count(0)
    with _threads() as pool:
        for chunk, rows in read_chunks(plan) if todo else ():
            if stop:
                break
            if chunk in todo:
                waiting.append((chunk, rows))
            if len(waiting) >= size or chunk == last:
                under_way.add(pool.submit(_rank_together, router, plan, waiting, stop, count))
                waiting = []
            while len(under_way) >= at_once:
                finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                settle(finished)
            if chunk == last:
                break
        settle(wait(under_way).done)
    if without:
        log.warning("%d rows hold no instruction: their probabilities are null", without)


@contextlib.contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for groups of chunks, waited for at the end, unless by KeyboardInterrupt: what they have not written is ranked again."""
    pool = ThreadPoolExecutor(AT_ONCE)
    wanted = True
    try:
        yield pool
    except KeyboardInterrupt:
        wanted = False
        raise
    finally:
        pool.shutdown(wait=wanted, cancel_futures=not wanted)


def _rank_together(
    router: Router,
    plan: FilePlan,
    chunks: list[tuple[int, pa.Table]],
    stop: Sequence[int],
    count: Callable[[int], None],
) -> tuple[int, float, int]:
    """Ranks and writes some chunks; returns how many, the seconds that took, and how many rows hold no instruction. `count` hears of rows as
    they are ranked. Raises TryAgain between batches where `stop` is filled.
    """
    began = time.monotonic()
    go_on(stop)
    texts = [text for _, rows in chunks for text in texts_of(rows[plan.column])]
    fit = np.array([is_instruction(text) for text in texts], bool)
    instructions = [text for text, good in zip(texts, fit, strict=True) if text is not None and good]
    counted = 0

    def on_batch(ranked: int, of_these: int) -> None:
        nonlocal counted
        count(ranked - counted)
        counted = ranked
        if ranked < of_these:
            go_on(stop)

    probability_BM, best_B = np.full((len(texts), len(plan.names)), np.nan, np.float32), np.zeros(len(texts), int)
    if instructions:
        score_BM = router.score(instructions, plan.names, on_batch)
        # As `Router.rank` has it: float32 has only one number for all probabilities that are next to 1.
        probability_BM[fit], best_B[fit] = router.calibration.probability(score_BM), score_BM.argmax(axis=1)
    first = 0
    for chunk, rows in chunks:
        these = slice(first, first + len(rows))
        write_part(plan, chunk, rows, fit[these], best_B[these], probability_BM[these])
        first += len(rows)
    count(len(texts) - counted)
    return len(chunks), time.monotonic() - began, len(texts) - len(instructions)
