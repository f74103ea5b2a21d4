"""Parquet files batch by batch: what a few bytes of one would unpack to is found out before it is unpacked."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from satjax.outcomes.arrow_types import is_text

ROWS_AT_ONCE = 4096


def batches(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of about as many bytes, unpacked, as the dictionaries that come with each of them: those of its row group, whole."""
    for group in range(file.num_row_groups):
        rows = ROWS_AT_ONCE
        if file.metadata.row_group(group).num_rows > rows:
            first = next(file.iter_batches(rows, [group], columns))
            held = sum(column.dictionary.nbytes for column in first.columns if pa.types.is_dictionary(column.type))
            rows = max(rows, rows * held // max(1, unpacked_size(first)))
        yield from file.iter_batches(rows, [group], columns)


def unpacked_size(batch: pa.RecordBatch) -> int:
    """Bytes of a batch without dictionaries."""
    return sum(map(_size, batch.columns))


def _size(column: pa.Array) -> int:
    if not (pa.types.is_dictionary(column.type) and is_text(column.type)):
        return column.nbytes
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return (pc.sum(lengths).as_py() or 0) + 8 * len(column)
