"""Ranks a whole file of instructions: streamed, spread over devices and hosts, and continued after a kill where it stopped.

The file is cut into chunks of consecutive rows. A chunk's probabilities are a Parquet file of their own until all are there, so that what
exists is complete, in the order of the input, and no row can be lost or stand twice.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from satjax.agreement import is_first, wait_for_all
from satjax.errors import SatjaxError, TryAgain, unknown_name
from satjax.export import router_sha256
from satjax.files import explain_full_disk, replacing_file, write_text
from satjax.instructions import is_instruction
from satjax.router import Router

log = logging.getLogger("satjax")

ROWS = 512
"""Instructions of a chunk, the least that is ranked and kept at once."""
MOST = 8
"""Chunks ranked at once, at most. Of 4,096 instructions batches are full: a chunk alone has 3 to 7 in 100 tokens more to compute, on a mesh of eight
devices up to 40, and twice the batches."""
SECONDS = 10.0
"""What several chunks at once may take; a chunk alone may take longer. So much work, twice (`AT_ONCE`), a kill can cost."""
AT_ONCE = 2
"""Groups of chunks under way: one is read and tokenized while the devices work on another."""
CANDIDATE, PROBABILITY = "candidate", "probability"
JOB = b"satjax.job"
"""The key of a job's digest in the metadata of its Parquet files."""
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)

Progress = Callable[[int, int], Any]


@dataclass(frozen=True)
class Plan:
    """What is ranked, and where to: `names` are the candidates, `text` the column of instructions, `kept` the other columns, `job` the digest of
    all that makes the output.
    """

    source: Path
    target: Path
    text: str
    kept: tuple[str, ...]
    names: tuple[str, ...]
    num_rows: int
    job: str

    @property
    def parts(self) -> Path:
        """Where finished chunks lie until all are there."""
        return _parts(self.target)

    @property
    def num_chunks(self) -> int:
        """Chunks of the input."""
        return -(-self.num_rows // ROWS)

    def rows(self, chunk: int) -> int:
        """Rows of one chunk."""
        return min(ROWS, self.num_rows - chunk * ROWS)

    def part(self, chunk: int) -> Path:
        """The file of one chunk."""
        return self.parts / f"part-{chunk:08d}.parquet"


def rank_file(
    router: Router,
    directory: Path,
    source: Path,
    target: Path,
    *,
    text: str = "instruction",
    candidates: tuple[str, ...] | None = None,
    stop: Sequence[int] = (),
    on_progress: Progress = lambda done, total: None,
) -> None:
    """Writes `target`: for each row of `source`, in its order, the likeliest `candidate`, its `probability`, each candidate's probability in
    a float32 column under its name, and the input's columns but `text`. Rows without an instruction get nulls.

    `directory` is the router's. With several processes (`jax.distributed`) each ranks a share of the chunks, all reach the same files, and
    the first process joins them. Raises TryAgain where `stop` was filled meanwhile, a batch later at most: what is done is kept, and the same call
    goes on from there; and where another process ranks into the same parts. Raises SatjaxError for files that do not fit, for a target that exists,
    and where the parts there belong to another input or router.
    """
    plan = _plan(router, directory, source, target, text, candidates, stop)
    if not _is_done(plan):
        with _alone(plan):
            _claim(plan)
            mine = range(jax.process_index(), plan.num_chunks, jax.process_count())
            _rank_chunks(router, plan, mine, stop, on_progress)
            _go_on(stop)
            wait_for_all("every chunk is ranked")
            if is_first():
                _join(plan, stop)
    wait_for_all("all are one file")  # JAX, which ends next, waits for the last process five minutes only
    if is_first():  # NFS keeps the name of an open file: every process has left its lock by now
        shutil.rmtree(plan.parts, ignore_errors=True)


def _plan(
    router: Router,
    directory: Path,
    source: Path,
    target: Path,
    text: str,
    candidates: tuple[str, ...] | None,
    stop: Sequence[int],
) -> Plan:
    names = tuple(router.candidates if candidates is None else candidates)
    for name in names:
        if name not in router.candidates:
            raise unknown_name("candidate", name, router.candidates)
    if not names:
        raise SatjaxError("there is no candidate to rank; name at least one")
    if twice := _repeated(names):
        raise SatjaxError(f"candidate {twice!r} is named twice; name each candidate once")
    if _exists(target) and not _exists(_parts(target)):
        raise _taken(target)
    with _open(source) as file:
        columns, num_rows = file.schema_arrow, file.metadata.num_rows
    if text not in columns.names:
        unknown = unknown_name("column", text, columns.names)
        raise SatjaxError(f"{source}: {unknown} --column names the column of the instructions")
    if columns.names.count(text) > 1:
        raise SatjaxError(f"{source} has two columns {text!r}; rename all but that of the instructions")
    kind = columns.field(text).type
    if not _is_text(kind):
        raise SatjaxError(
            f"{source}: column {text!r} is {kind}, not text; --column names the column of the instructions"
        )
    kept = tuple(name for name in columns.names if name != text)
    if twice := _repeated((CANDIDATE, PROBABILITY, *names, *kept)):
        raise SatjaxError(f"{source}: the output would have two columns {twice!r}; rename the input's, or leave it out")
    if not num_rows:
        raise SatjaxError(f"{source} has no rows; there is nothing to rank")
    job = {
        "input": _sha256(source, stop),
        "text": text,
        "kept": kept,
        "router": router_sha256(directory),
        "candidates": names,
        "rows": ROWS,
    }
    return Plan(source, target, text, kept, names, num_rows, hashlib.sha256(json.dumps(job).encode()).hexdigest())


def _parts(target: Path) -> Path:
    return target.with_name(f"{target.name}.parts")


def _repeated(names: Iterable[str]) -> str | None:
    return next((name for name, times in Counter(names).items() if times > 1), None)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises for names that are too long)


def _taken(target: Path) -> SatjaxError:
    return SatjaxError(f"{target} exists; remove it, or name another --output")


def _sha256(path: Path, stop: Sequence[int]) -> str:
    """Of the whole content: the same on every host, and another where only the order of rows is."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**22):
            digest.update(block)
            _go_on(stop)
    return digest.hexdigest()


def _go_on(stop: Sequence[int]) -> None:
    """Raises TryAgain where a stop is asked for."""
    if stop:
        raise TryAgain("interrupted; what is ranked is kept: run the same command to go on")


def _open(source: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source)
    except (OSError, pa.ArrowException) as error:
        raise SatjaxError(f"{source} cannot be read as Parquet ({str(error).splitlines()[0][:160]})") from error


def _is_done(plan: Plan) -> bool:
    """Whether only the parts are left to remove, as after a kill just then. Raises SatjaxError where anything else is in the target's place."""
    if not _exists(plan.target):
        return False
    if not plan.parts.is_dir() or _job_of(plan.target) != plan.job:
        raise _taken(plan.target)
    _check_claim(plan)
    return True


@contextlib.contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    """Keeps out the same command started twice: its processes have the numbers of these ones, those of a run on several hosts differ.

    Raises TryAgain where another process has this one's number, and SatjaxError where no file can be made.
    """
    with explain_full_disk(plan.target), _opened(plan.parts / f"lock-{jax.process_index()}") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TryAgain(
                f"{plan.target}: another process ranks into it; wait for it, or name another --output"
            ) from error
        except OSError as error:  # some cluster file systems have no locks: there nobody is kept out
            if error.errno not in WITHOUT_LOCKS:
                raise
        yield


def _opened(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SatjaxError(f"{path.parent} cannot be written ({error.strerror}); name another --output") from error


def _claim(plan: Plan) -> None:
    """Ties the parts to the job: others must not go on with them."""
    if _exists(plan.target):  # it came while this process began
        raise _taken(plan.target)
    _check_claim(plan)
    write_text(plan.parts / "job.json", _claim_of(plan))


def _check_claim(plan: Plan) -> None:
    with contextlib.suppress(FileNotFoundError):
        if (plan.parts / "job.json").read_bytes() != _claim_of(plan).encode():
            raise SatjaxError(
                f"{plan.parts} holds parts of another input, router or choice of candidates; remove it, or name another --output"
            )


def _claim_of(plan: Plan) -> str:
    return json.dumps({"sha256": plan.job})


def _job_of(path: Path) -> str | None:
    """The job that a Parquet file is of; None where there is none, or it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            return (file.schema_arrow.metadata or {}).get(JOB, b"").decode() or None
    except (OSError, ValueError, pa.ArrowException):
        return None


def _rank_chunks(router: Router, plan: Plan, mine: range, stop: Sequence[int], on_progress: Progress) -> None:
    """Ranks those chunks that have no part of this job yet; leaves off early, with nothing half done, where `stop` is filled."""
    todo = {chunk for chunk in mine if _job_of(plan.part(chunk)) != plan.job}
    last = max(todo, default=0)
    total = sum(map(plan.rows, mine))
    done = total - sum(map(plan.rows, todo))
    counting = threading.Lock()
    size, without, waiting = 1, 0, list[tuple[int, pa.Table]]()
    under_way = set[Future[tuple[int, float, int]]]()

    def count(rows: int) -> None:
        nonlocal done
        with counting:
            done += rows
            on_progress(done, total)

    def settle(finished: set[Future[tuple[int, float, int]]]) -> None:
        nonlocal size, without
        for future in finished:
            chunks, seconds, empty = future.result()
            without += empty
            size = max(1, min(MOST, int(chunks * SECONDS / seconds)))

    count(0)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for chunk, rows in _chunks(plan) if todo else ():
            if stop:
                break
            if chunk in todo:
                waiting.append((chunk, rows))
            if len(waiting) >= size or chunk == last:
                under_way.add(pool.submit(_rank_together, router, plan, waiting, stop, count))
                waiting = []
            if len(under_way) == AT_ONCE:
                finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                settle(finished)
            if chunk == last:
                break
        settle(wait(under_way).done)
    if without:
        log.warning("%d rows hold no instruction: their probabilities are null", without)


def _chunks(plan: Plan) -> Iterator[tuple[int, pa.Table]]:
    """The rows of every chunk, in order."""
    chunk, waiting, num_waiting = 0, [], 0
    with _open(plan.source) as file:
        for batch in file.iter_batches(ROWS, columns=[plan.text, *plan.kept]):
            rest = pa.Table.from_batches([batch])
            while len(rest):
                taken = rest.slice(0, ROWS - num_waiting)
                rest, num_waiting = rest.slice(len(taken)), num_waiting + len(taken)
                waiting.append(taken)
                if num_waiting == ROWS:
                    yield chunk, pa.concat_tables(waiting)
                    chunk, waiting, num_waiting = chunk + 1, [], 0
    if waiting:
        yield chunk, pa.concat_tables(waiting)


def _rank_together(
    router: Router, plan: Plan, chunks: list[tuple[int, pa.Table]], stop: Sequence[int], count: Callable[[int], None]
) -> tuple[int, float, int]:
    """Ranks and writes some chunks; returns how many, the seconds that took, and how many rows hold no instruction. `count` hears of rows as
    they are ranked. Raises TryAgain between batches where `stop` is filled.
    """
    began = time.monotonic()
    _go_on(stop)
    texts = [text for _, rows in chunks for text in _texts(rows[plan.text])]
    fit = np.array([is_instruction(text) for text in texts], bool)
    instructions = [text for text, good in zip(texts, fit, strict=True) if text is not None and good]
    counted = 0

    def on_batch(ranked: int) -> None:
        nonlocal counted
        count(ranked - counted)
        counted = ranked
        if ranked < len(instructions):
            _go_on(stop)

    probability_BM = np.full((len(texts), len(plan.names)), np.nan, np.float32)
    if instructions:
        probability_BM[fit] = router.probability(instructions, plan.names, on_batch)
    first = 0
    for chunk, rows in chunks:
        these = slice(first, first + len(rows))
        _write_part(plan, chunk, rows, fit[these], probability_BM[these])
        first += len(rows)
    count(len(texts) - counted)
    return len(chunks), time.monotonic() - began, len(texts) - len(instructions)


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """A column's texts; None for nulls, and for bytes that are not UTF-8, which Parquet may hold."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return [_decoded(value) for value in column.cast(pa.large_binary()).to_pylist()]


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _write_part(plan: Plan, chunk: int, rows: pa.Table, fit: np.ndarray, probability_BM: np.ndarray) -> None:
    """Writes one chunk; `fit` bool `[B]`: whether a row holds an instruction."""
    best_B = np.where(fit, probability_BM.argmax(axis=1), 0)
    columns = {
        CANDIDATE: pa.array(np.array(plan.names, object)[best_B], pa.string(), mask=~fit),
        PROBABILITY: pa.array(probability_BM[np.arange(len(fit)), best_B], mask=~fit),
        **{name: pa.array(column, mask=~fit) for name, column in zip(plan.names, probability_BM.T, strict=True)},
        **{name: rows[name] for name in plan.kept},
    }
    with replacing_file(plan.part(chunk)) as fresh:
        pq.write_table(pa.table(columns).replace_schema_metadata({JOB: plan.job}), fresh, compression="zstd")


def _join(plan: Plan, stop: Sequence[int]) -> None:
    """All parts as one file, which appears whole; several are a row group, so that these are not small."""
    with (
        replacing_file(plan.target) as fresh,
        pq.ParquetWriter(fresh, _read_part(plan, 0).schema, compression="zstd") as writer,
    ):
        for first in range(0, plan.num_chunks, MOST):
            _go_on(stop)
            chunks = range(first, min(first + MOST, plan.num_chunks))
            writer.write_table(pa.concat_tables([_read_part(plan, chunk) for chunk in chunks]))


def _read_part(plan: Plan, chunk: int) -> pa.Table:
    path = plan.part(chunk)
    if _job_of(path) != plan.job:
        raise TryAgain(f"{path} is gone, or of another job; run the same command to rank its rows again")
    with pq.ParquetFile(path) as file:
        return file.read()
