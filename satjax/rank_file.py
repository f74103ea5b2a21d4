"""Ranks a whole file of instructions: streamed, spread over devices and hosts, and continued after a kill where it stopped.

The file is cut into chunks of consecutive rows. A chunk's probabilities are a Parquet file of their own until all are there, so that what
exists is complete, in the order of the input, and no row can be lost or stand twice.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

ROWS = 4096
"""Instructions of a chunk: what a kill can cost, and what lies in memory at once, a few times over."""
AT_ONCE = 2
"""Chunks under way: one is read and tokenized while the devices work on another."""
CANDIDATE, PROBABILITY = "candidate", "probability"

Progress = Callable[[int, int], Any]


@dataclass(frozen=True)
class Plan:
    """What is ranked, and where to: `names` are the candidates, `text` the column of instructions, `kept` the other columns."""

    source: Path
    target: Path
    text: str
    kept: tuple[str, ...]
    names: tuple[str, ...]
    num_rows: int

    @property
    def parts(self) -> Path:
        """Where finished chunks lie until all are there."""
        return self.target.with_name(f"{self.target.name}.parts")

    @property
    def num_chunks(self) -> int:
        """Chunks of the input."""
        return -(-self.num_rows // ROWS)

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
    the first process joins them. Raises TryAgain where `stop` was filled meanwhile: what is done is kept, and the same call goes on from
    there. Raises SatjaxError for files that do not fit, for a target that exists, and where the parts there belong to another input or router.
    """
    plan = _plan(router, source, target, text, candidates)
    _claim(plan, directory)
    mine = range(jax.process_index(), plan.num_chunks, jax.process_count())
    _rank_chunks(router, plan, mine, stop, on_progress)
    if stop:
        raise TryAgain("interrupted; what is ranked is kept: run the same command to go on")
    wait_for_all("every chunk is ranked")
    if is_first():
        _join(plan)
    wait_for_all("all are one file")  # JAX, which ends next, waits for the last process five minutes only


def _plan(router: Router, source: Path, target: Path, text: str, candidates: tuple[str, ...] | None) -> Plan:
    names = candidates or router.candidates
    for name in names:
        if name not in router.candidates:
            raise unknown_name("candidate", name, router.candidates)
    if target.exists():
        raise SatjaxError(f"{target} exists; remove it, or name another --output")
    with _open(source) as file:
        columns, num_rows = file.schema_arrow, file.metadata.num_rows
    if text not in columns.names:
        raise unknown_name(
            f"{source} has no column {text!r}; --column names the instructions': column", text, columns.names
        )
    kind = columns.field(text).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise SatjaxError(
            f"{source}: column {text!r} is {kind}, not text; --column names the column of the instructions"
        )
    kept = tuple(name for name in columns.names if name != text)
    twice = {CANDIDATE, PROBABILITY}.intersection(kept + names) | set(kept).intersection(names)
    if twice or len(set(kept)) < len(kept) or len(set(names)) < len(names):
        raise SatjaxError(
            f"{source}: the output would have two columns {min(twice or kept)!r}; rename the input's, or leave it out"
        )
    return Plan(source, target, text, kept, tuple(names), num_rows)


def _open(source: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source)
    except (OSError, pa.ArrowException) as error:
        raise SatjaxError(f"{source} cannot be read as Parquet ({str(error).splitlines()[0][:160]})") from error


def _claim(plan: Plan, directory: Path) -> None:
    """Ties the parts to input, router and candidates: others must not go on with them."""
    with _open(plan.source) as file:
        layout = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    job = {
        "input": [plan.source.stat().st_size, plan.num_rows, layout, _footer_sha256(plan.source)],
        "text": plan.text,
        "kept": plan.kept,
        "router": router_sha256(directory),
        "candidates": plan.names,
        "rows": ROWS,
    }
    written = json.dumps({"sha256": hashlib.sha256(json.dumps(job).encode()).hexdigest()})
    path = plan.parts / "job.json"
    if path.is_file() and path.read_text(encoding="utf-8") != written:
        raise SatjaxError(
            f"{plan.parts} holds parts of another input, router or choice of candidates; remove it, or name another --output"
        )
    write_text(path, written)


def _footer_sha256(path: Path) -> str:
    """Of a Parquet file's metadata: where each column begins and ends, and least and greatest values. Files of one size differ in it."""
    with path.open("rb") as stream:
        stream.seek(-8, os.SEEK_END)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(-8 - length, os.SEEK_END)
        return hashlib.sha256(stream.read(length)).hexdigest()


def _rank_chunks(router: Router, plan: Plan, mine: range, stop: Sequence[int], on_progress: Progress) -> None:
    """Ranks those chunks that have no part yet; leaves off early, with nothing half done, where `stop` is filled."""
    todo = {chunk for chunk in mine if not plan.part(chunk).is_file()}
    sizes = [min(ROWS, plan.num_rows - chunk * ROWS) for chunk in mine]
    total = sum(sizes)
    done = sum(size for chunk, size in zip(mine, sizes, strict=True) if chunk not in todo)
    without, under_way = 0, set[Future[tuple[int, int]]]()
    on_progress(done, total)

    def settle(finished: set[Future[tuple[int, int]]]) -> None:
        nonlocal done, without
        for future in finished:
            rows, empty = future.result()
            done, without = done + rows, without + empty
            on_progress(done, total)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for chunk, rows in _chunks(plan) if todo else ():
            if chunk in todo:
                under_way.add(pool.submit(_rank_chunk, router, plan, chunk, rows))
            if len(under_way) == AT_ONCE:
                finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                settle(finished)
            if stop:
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


def _rank_chunk(router: Router, plan: Plan, chunk: int, rows: pa.Table) -> tuple[int, int]:
    """Ranks and writes one chunk; returns its rows, and how many of them hold no instruction."""
    texts = rows[plan.text].to_pylist()
    fit = np.array([is_instruction(text) for text in texts], bool)
    probability_BM = np.full((len(texts), len(plan.names)), np.nan, np.float32)
    if fit.any():
        instructions = [text for text, good in zip(texts, fit, strict=True) if good]
        probability_BM[fit] = router.probability(instructions, plan.names)
    best_B = np.where(fit, probability_BM.argmax(axis=1), 0)
    columns = {
        CANDIDATE: pa.array(np.array(plan.names, object)[best_B], pa.string(), mask=~fit),
        PROBABILITY: pa.array(probability_BM[np.arange(len(texts)), best_B], mask=~fit),
        **{name: pa.array(column, mask=~fit) for name, column in zip(plan.names, probability_BM.T, strict=True)},
        **{name: rows[name] for name in plan.kept},
    }
    with replacing_file(plan.part(chunk)) as fresh:
        pq.write_table(pa.table(columns), fresh, compression="zstd")
    return len(texts), int((~fit).sum())


def _join(plan: Plan) -> None:
    """All parts as one file, which appears whole; then the parts go."""
    with explain_full_disk(plan.target), replacing_file(plan.target) as fresh:
        writer: pq.ParquetWriter | None = None
        for chunk in range(plan.num_chunks):
            part = pq.read_table(plan.part(chunk))
            writer = writer or pq.ParquetWriter(fresh, part.schema, compression="zstd")
            writer.write_table(part)
        if writer is None:
            raise SatjaxError(f"{plan.source} has no rows; there is nothing to rank")
        writer.close()
    shutil.rmtree(plan.parts)
