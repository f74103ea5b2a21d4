"""Chunks are the rows of the input in its order, whatever its row groups and the type of its texts."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from satjax.errors import SatjaxError
from satjax.rank_file.chunks import read_chunks
from satjax.rank_file.plan import FilePlan
from tests.ranked_files import instructions


@given(st.lists(st.integers(0, 12), max_size=5), st.integers(1, 9))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunks_hold_every_row_once_whatever_the_row_groups(tmp_path_factory, groups, rows):
    path = tmp_path_factory.mktemp("groups") / "in.parquet"
    table = pa.table({"instruction": pa.array([f"{n}" for n in range(sum(groups))]).dictionary_encode()})
    with pq.ParquetWriter(path, table.schema) as writer:
        first = 0
        for size in groups:
            writer.write_table(table.slice(first, size))
            first += size
    plan = FilePlan(path, path.with_name("out"), "instruction", (), (), sum(groups), rows, "job")
    chunks = [(chunk, part["instruction"].to_pylist()) for chunk, part in read_chunks(plan)]
    assert len(chunks) == plan.num_chunks
    assert chunks == [
        (i, [str(n) for n in range(i * rows, min((i + 1) * rows, sum(groups)))]) for i in range(len(chunks))
    ]


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"instruction": [f"what is {n}?" for n in range(999)]}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[40:240] = bytes(255 - value for value in content[40:240])
    path.write_bytes(content)
    with pytest.raises(SatjaxError, match=r"in.parquet cannot be read as Parquet \(.+\); give a Parquet file"):
        list(read_chunks(FilePlan(path, tmp_path / "out", "instruction", (), (), 999, 99, "job")))


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_text_may_be_of_any_arrow_type(ranker, tmp_path, small_chunks, kind):
    texts = [*instructions(6), None]
    column = pa.array(texts)
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    pq.write_table(pa.table({"instruction": column, "again": column}), tmp_path / "in.parquet")
    ranker.run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["again"].to_pylist() == texts
    np.testing.assert_allclose(
        found["probability"].to_numpy()[:6], ranker.router.probability(texts[:6]).max(axis=1), atol=1e-6
    )
