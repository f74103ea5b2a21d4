import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from satjax.instructions import pad_rows
from satjax.row_batches import TOKENS_OF_AN_ACCELERATOR, TOKENS_PER_CALL, batch_sizes, row_batches

BUCKETS = (64, 256, 1024)


def bucket(length):
    return next(width for width in BUCKETS if length <= width)


@given(
    st.lists(st.integers(1, 1024), max_size=200),
    st.sampled_from([0, 1, 8, 12]),
    st.sampled_from([(1,), (1, 4, 16, 32)]),
    st.sampled_from([0, TOKENS_OF_AN_ACCELERATOR]),
)
def test_every_row_once_in_few_shapes(lengths, multiple_of, sizes, largest):
    rows = pad_rows([[i % 97 + 1] * length for i, length in enumerate(lengths)])
    seen, shapes = [], set()
    for index, padded in row_batches(rows, bucket, multiple_of, sizes, largest):
        seen += index.tolist()
        shapes.add(padded.token.shape)
        size, width = padded.token.shape
        assert {bucket(length) for length in rows.length[index]} == {width}
        np.testing.assert_array_equal(padded.length[: len(index)], rows.length[index])
        for row, length, i in zip(padded.token, padded.length, index, strict=False):
            assert set(row[:length].tolist()) == {i % 97 + 1}
            assert not row[length:].any()
        assert size == 1 or size * width <= max(TOKENS_PER_CALL, largest) + max(multiple_of, 1) * width
        assert size in batch_sizes(width, multiple_of, sizes, largest)
        assert 2 * len(index) > size or size == 1 or multiple_of
        if multiple_of:
            assert size % multiple_of == 0
    assert sorted(seen) == list(range(len(lengths)))
    assert len(shapes) <= len(BUCKETS) * (1 if multiple_of else 1 + len(sizes) + (largest > TOKENS_PER_CALL))


def test_rows_done_tell_the_share_of_the_work():
    lengths = [40] * 2000 + [1000] * 2000
    work = np.array(lengths)
    done_rows = done_work = 0
    for index, _ in row_batches(pad_rows([[1] * length for length in lengths]), bucket):
        done_rows, done_work = done_rows + len(index), done_work + work[index].sum()
        if done_rows > len(lengths) / 4:
            assert abs(done_rows / len(lengths) - done_work / work.sum()) < 0.1
