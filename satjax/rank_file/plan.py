"""What is ranked, and where to: the input and the names are checked before anything is written, and a digest says what the output is made of."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from satjax.errors import SatjaxError, TryAgain, first_line, unknown_name
from satjax.export.directory import router_sha256
from satjax.outcomes.arrow_types import is_text
from satjax.router import Router

ROWS = 512
"""Instructions of a chunk, the least that is ranked and kept at once."""
CANDIDATE, PROBABILITY = "candidate", "probability"


@dataclass(frozen=True)
class FilePlan:
    """What is ranked, and where to: `names` are the candidates, `column` that of instructions, `kept` the other columns, `chunk_rows` the rows
    of a chunk, `job` the digest of all that makes the output.
    """

    source: Path
    target: Path
    column: str
    kept: tuple[str, ...]
    names: tuple[str, ...]
    num_rows: int
    chunk_rows: int
    job: str

    @property
    def parts(self) -> Path:
        """Where finished chunks lie until all are there."""
        return _parts(self.target)

    @property
    def num_chunks(self) -> int:
        """Chunks of the input."""
        return -(-self.num_rows // self.chunk_rows)

    def rows(self, chunk: int) -> int:
        """Rows of one chunk."""
        return min(self.chunk_rows, self.num_rows - chunk * self.chunk_rows)

    def part(self, chunk: int) -> Path:
        """The file of one chunk."""
        return self.parts / f"part-{chunk:08d}.parquet"


def make_plan(
    router: Router,
    directory: Path,
    source: Path,
    target: Path,
    column: str,
    candidates: tuple[str, ...] | None,
    stop: Sequence[int],
) -> FilePlan:
    """Plans what `rank_file` is asked for, after a look at the input's columns and a pass over its bytes for the digest.

    Raises SatjaxError for what does not fit, and for a target that exists without parts; TryAgain where `stop` is filled.
    """
    names = tuple(router.candidates if candidates is None else candidates)
    for name in names:
        if name not in router.candidates:
            raise unknown_name("candidate", name, router.candidates)
    if not names:
        raise SatjaxError("there is no candidate to rank; name at least one")
    if twice := _repeated(names):
        raise SatjaxError(f"candidate {twice!r} is named twice; name each candidate once")
    kept, num_rows = check_files(source, target, column)
    if twice := _repeated((CANDIDATE, PROBABILITY, *names, *kept)):
        raise SatjaxError(f"{source}: the output would have two columns {twice!r}; rename the input's, or leave it out")
    job = {
        "input": _sha256(source, stop),
        "text": column,
        "kept": kept,
        "router": router_sha256(directory),
        "candidates": names,
        "rows": ROWS,
    }
    digest = hashlib.sha256(json.dumps(job).encode()).hexdigest()
    return FilePlan(source, target, column, kept, names, num_rows, ROWS, digest)


def check_files(source: Path, target: Path, column: str) -> tuple[tuple[str, ...], int]:
    """The columns of the input beside that of the instructions, and its rows. Raises SatjaxError for what no router could rank."""
    if exists(target) and not exists(_parts(target)):
        raise taken(target)
    with open_input(source) as file:
        columns, num_rows = file.schema_arrow, file.metadata.num_rows
    if column not in columns.names:
        unknown = unknown_name("column", column, columns.names)
        raise SatjaxError(f"{source}: {unknown} --column names the column of the instructions")
    if columns.names.count(column) > 1:
        raise SatjaxError(f"{source} has two columns {column!r}; rename all but that of the instructions")
    kind = columns.field(column).type
    if not is_text(kind):
        raise SatjaxError(
            f"{source}: column {column!r} is {kind}, not text; --column names the column of the instructions"
        )
    if not num_rows:
        raise SatjaxError(f"{source} has no rows; there is nothing to rank")
    return tuple(name for name in columns.names if name != column), num_rows


def _parts(target: Path) -> Path:
    if not target.name:
        raise SatjaxError(f"--output {target} is a directory; name a file for the ranking")
    return target.with_name(f"{target.name}.parts")


def _repeated(names: Iterable[str]) -> str | None:
    return next((name for name, times in Counter(names).items() if times > 1), None)


def _sha256(path: Path, stop: Sequence[int]) -> str:
    """Of the whole content: the same on every host, and another where only the order of rows is."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(2**22):
            digest.update(block)
            go_on(stop)
    return digest.hexdigest()


def open_input(source: Path) -> pq.ParquetFile:
    """The input, to be closed by the caller. Raises SatjaxError where it cannot be read as Parquet."""
    try:
        return pq.ParquetFile(source)
    except FileNotFoundError as error:
        raise SatjaxError(f"{source}: there is no such file") from error
    except (OSError, pa.ArrowException) as error:
        raise unreadable(source, error) from error


def unreadable(source: Path, error: Exception) -> SatjaxError:
    """The error to raise for an input that is no Parquet, or damaged."""
    return SatjaxError(
        f"{source} cannot be read as Parquet ({first_line(error)}); give a Parquet file with a column of instructions"
    )


def exists(path: Path) -> bool:
    """Whether anything is there; False also for a name that is too long for there to be."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises for names that are too long)


def taken(target: Path) -> SatjaxError:
    """The error to raise where something else is in the target's place."""
    return SatjaxError(f"{target} exists; remove it, or name another --output")


def go_on(stop: Sequence[int]) -> None:
    """Raises TryAgain where a stop is asked for."""
    if stop:
        raise TryAgain(f"interrupted; every finished chunk of {ROWS} rows is kept: run the same command to go on")
