"""Reading files of other tools: piece by piece, within bounds, and in one line of error for people."""

import contextlib
import csv
import json
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NoReturn

import ijson
import pyarrow as pa
import pyarrow.parquet as pq

from satjax.errors import SatjaxError
from satjax.outcomes.arrow_types import value_type
from satjax.outcomes.importers.guarded import LARGEST, Guarded, check_values
from satjax.outcomes.parquet_batches import batches, unpacked_size
from satjax.outcomes.splits import folded

LARGEST_FIELD, LARGEST_ROW = 4 * 2**20, 32 * 2**20
"""Characters of one field and of one row of a CSV file."""
LARGEST_PART, NESTED_ROWS = 32 * 2**20, 64
"""Bytes of a Parquet file that are unpacked at once, unless one row has more, and rows of one with lists in it."""
LARGEST_ARCHIVE = 64 * 2**30
"""Bytes of all members of an archive, unpacked; they are read one by one, never to disk."""
ZSTANDARD = 93
"""Compression method of zip members that the standard library reads from Python 3.14 on."""


@contextlib.contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turns whatever a damaged or foreign file raises into one line that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise SatjaxError(f"{path} cannot be read: there is no such file; mend its name") from error
    except (
        *(OSError, EOFError, ValueError, RecursionError, MemoryError, OverflowError, NotImplementedError, RuntimeError),
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, pa.ArrowException, ijson.JSONError, csv.Error),
    ) as error:
        raise SatjaxError(
            f"{path} cannot be read as {what} ({' '.join(str(error).split())[:120] or type(error).__name__}); is it damaged, or of another format?"
        ) from error


def found(paths: Sequence[Path | str], *patterns: str) -> list[Path]:
    """The files among `paths`, and those below its directories that match; raises SatjaxError for what holds none."""
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            below = sorted({file for pattern in patterns for file in path.rglob(pattern)})
            if not below:
                raise SatjaxError(f"{path}: no {' or '.join(patterns)} in this directory or below")
            files += below
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def json_lines(path: Path, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each line of a JSONL file stands, as errors name it, and its object; empty lines are passed over."""
    with explained(path, what), path.open("rb") as stream:
        number = 0
        while line := stream.readline(LARGEST):
            number += 1
            where = f"{path} line {number}"
            if len(line) == LARGEST:
                raise SatjaxError(f"{where} is longer than {LARGEST:,} bytes; is it {what}?")
            if not line.strip():
                continue
            yield where, parsed_object(line, where, what)


def csv_rows(path: Path, what: str, needed: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row of a CSV file stands, as errors name it, and its values by the names in the header."""
    before = csv.field_size_limit(LARGEST_FIELD)
    try:
        with explained(path, what), path.open(newline="", encoding="utf-8-sig") as stream:
            lines = _Lines(stream)
            reader = csv.DictReader(lines, strict=True)
            names = [name for name in reader.fieldnames or () if name]
            for name in needed:
                if name not in names:
                    raise SatjaxError(f"{path}: column {name!r} is missing; it is not {what}")
            if twice := [name for name, count in Counter(names).most_common(1) if count > 1]:
                raise SatjaxError(f"{path}: two columns are named {twice[0][:40]!r}; rename or drop one")
            for line, row in enumerate(reader, start=2):
                lines.next_row()
                if None in row or None in row.values():
                    raise SatjaxError(
                        f"{path} row {line}: it has another number of fields than the header; the file is cut short or altered"
                    )
                yield f"{path} row {line}", row
    finally:
        csv.field_size_limit(before)


class _Lines:
    """Lines of a text file for `csv`, which joins as many as a row takes: no more characters than a row may have."""

    def __init__(self, stream: IO[str]):
        self._stream, self._left = stream, LARGEST_ROW

    def next_row(self) -> None:
        self._left = LARGEST_ROW

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise ValueError(f"a row of more than {LARGEST_ROW:,} characters")
        if not line:
            raise StopIteration
        return line


def parquet_rows(path: Path, what: str, wanted: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each row of a Parquet file stands, as errors name it, and its values; columns that nobody wants are not read, and stand as None."""
    with explained(path, what):
        schema = pq.read_schema(path)
        if twice := [name for name, count in Counter(schema.names).most_common(1) if count > 1]:
            raise SatjaxError(f"{path}: two columns are named {twice[0][:40]!r}; rename or drop one")
        columns = [name for name in schema.names if name in wanted] or schema.names[:1]
        kinds = {name: value_type(schema.field(name).type) for name in columns}
        for name, kind in kinds.items():
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
                raise SatjaxError(f"{path}: column {name!r} is {kind}, not text; write it as text")
        nested = any(map(pa.types.is_nested, kinds.values()))
        flat = [name for name, kind in kinds.items() if not pa.types.is_nested(kind)]
        unread, row = dict.fromkeys(schema.names), 0
        with pq.ParquetFile(path, read_dictionary=flat) as file:
            # What lists hold has no dictionary, and may be one long text many times.
            for batch in file.iter_batches(NESTED_ROWS, columns=columns) if nested else batches(file, columns):
                batch.validate(full=True)
                for part in _parts(batch):
                    for values in part.to_pylist():
                        row += 1
                        yield f"{path} row {row}", unread | values


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in parts that may be unpacked whole."""
    size = unpacked_size(batch)
    if size <= LARGEST_PART:
        yield batch
    elif len(batch) > 1:
        for start, end in ((0, len(batch) // 2), (len(batch) // 2, len(batch))):
            yield from _parts(batch.slice(start, end - start))
    elif size <= LARGEST:
        yield batch
    else:
        raise ValueError(f"a row of more than {LARGEST:,} bytes")


def json_items(path: Path, prefix: str, what: str, *, pairs: bool = False) -> Iterator[Any]:
    """The values at `prefix` of a large JSON file, in ijson's notation, one at a time; with `pairs`, members of the object there."""
    with explained(path, what), path.open("rb") as stream:
        guarded = Guarded(stream)
        for item in (ijson.kvitems if pairs else ijson.items)(guarded, prefix, use_float=True):
            guarded.next_item()
            yield item


def json_object(path: Path, what: str) -> dict[str, Any]:
    """A small JSON file that holds an object."""
    return parsed_object(read_whole(path, what), str(path), what)


def parsed_object(text: bytes, where: str, what: str) -> dict[str, Any]:
    """Bytes that hold one JSON object."""
    try:
        check_values(text)
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SatjaxError(f"{where} is no JSON ({str(error)[:80]}); the file is cut short or damaged") from error
    if not isinstance(value, dict):
        raise SatjaxError(f"{where} is no JSON object; is it {what}?")
    return value


def read_whole(path: Path, what: str) -> bytes:
    """A file that must not be larger than LARGEST."""
    with explained(path, what), path.open("rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise SatjaxError(f"{path} is larger than {LARGEST:,} bytes; is it {what}?")
    return content


def zip_members(path: Path, what: str, choose: Callable[[list[str]], Iterable[str]]) -> Iterator[tuple[str, bytes]]:
    """Chosen members of an archive, and where each stands: one at a time, never on disk.

    Sizes in a zip are claims: a member is read up to its own and must end there.
    """
    left = LARGEST_ARCHIVE
    with explained(path, what), zipfile.ZipFile(path) as archive:
        # A name that stands twice was written again; the last writing counts.
        for name in choose(list(dict.fromkeys(archive.namelist()))):
            info, where = archive.getinfo(name), f"{path} member {name!r}"
            if info.file_size > LARGEST:
                raise SatjaxError(
                    f"{where} unpacks to {info.file_size:,} bytes, more than any real result; get it again"
                )
            if info.compress_type == ZSTANDARD:
                content = _zstandard_member(path, info, where)
            else:
                with archive.open(info) as stream:
                    content = stream.read(info.file_size + 1)
            if zlib.crc32(content) != info.CRC:
                raise SatjaxError(f"{where} is damaged; get it again")
            left -= len(content)
            if left < 0:
                raise SatjaxError(f"{path} unpacks to more than {LARGEST_ARCHIVE:,} bytes; import it in parts")
            yield where, content


def _zstandard_member(path: Path, info: zipfile.ZipInfo, where: str) -> bytes:
    """Up to one byte more than the member should have."""
    if info.flag_bits & 0x1:
        raise SatjaxError(f"{where} is encrypted; unlock it first")
    with path.open("rb") as stream:
        stream.seek(info.header_offset)
        header = stream.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile(f"no member at byte {info.header_offset}")
        # Lengths of name and extra field, which precede the data.
        stream.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
        packed = stream.read(min(info.compress_size, LARGEST))
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as unpacked:
        return unpacked.read(info.file_size + 1)


def number(value: Any, where: str, name: str) -> float:
    """A score or cost as a float, NaN for nothing; raises SatjaxError for what is no number."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return float("nan")
    try:
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):  # of a column of booleans in CSV
            return float(value.strip().lower() == "true")
        if isinstance(value, bool | int | float | str | Decimal):
            return float(value)
    except (ValueError, OverflowError):
        pass
    no_number(value, where, name)


def no_number(value: Any, where: str, name: str) -> NoReturn:
    """Raises the error for a value that is no number."""
    raise SatjaxError(f"{where}: {folded(name)} is {str(value)[:40]!r}, not a number; mend or empty it")


def listed(names: Iterable[object]) -> str:
    """Names out of a file, for an error."""
    return ", ".join(repr(str(name)) for name in names) or "there is none"


def chat_text(messages: list[Any]) -> str:
    """Text of chat messages, whose content is text, or parts of which some have text."""
    texts = []
    for message in messages:
        content = message.get("content", message.get("prompt")) if isinstance(message, dict) else message
        for part in content if isinstance(content, list) else [content]:
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(text, str) and text.strip():
                texts.append(text)
    return "\n\n".join(texts)
