"""The rows of the input as chunks, and their texts."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from satjax.rank_file.plan import FilePlan, open_input, unreadable


def read_chunks(plan: FilePlan) -> Iterator[tuple[int, pa.Table]]:
    """The rows of every chunk, in order."""
    chunk, waiting, num_waiting = 0, [], 0
    with open_input(plan.source) as file:
        for batch in _batches(plan, file):
            rest = pa.Table.from_batches([batch])
            while len(rest):
                taken = rest.slice(0, plan.chunk_rows - num_waiting)
                rest, num_waiting = rest.slice(len(taken)), num_waiting + len(taken)
                waiting.append(taken)
                if num_waiting == plan.chunk_rows:
                    yield chunk, pa.concat_tables(waiting)
                    chunk, waiting, num_waiting = chunk + 1, [], 0
    if waiting:
        yield chunk, pa.concat_tables(waiting)


def _batches(plan: FilePlan, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    batches = file.iter_batches(plan.chunk_rows, columns=[plan.column, *plan.kept])
    while True:
        try:
            batch = next(batches, None)
        except (OSError, pa.ArrowException) as error:
            raise unreadable(plan.source, error) from error
        if batch is None:
            return
        yield batch


def texts_of(column: pa.ChunkedArray) -> list[str | None]:
    """A column's texts; None for nulls, and for bytes that are not UTF-8, which Parquet may hold."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return [_decoded(value) for value in column.cast(pa.large_binary()).to_pylist()]


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
