import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.features.row_batches import (
    MIDDLE_OF_AN_ACCELERATOR,
    TOKENS_OF_AN_ACCELERATOR,
    TOKENS_PER_CALL,
    batch_sizes,
    row_batches,
    sizes_for,
)
from satjax.instructions import pad_rows

BUCKETS = (64, 256, 1024)


def bucket(length):
    return next(width for width in BUCKETS if length <= width)


@given(
    st.lists(st.integers(1, 1024), max_size=200),
    st.sampled_from([0, 1, 8, 12]),
    st.sampled_from([(), MIDDLE_OF_AN_ACCELERATOR, (1, 4, 16, 32)]),
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
        allowed = batch_sizes(width, multiple_of, sizes, largest)
        assert size in allowed
        assert 2 * len(index) > size or size == allowed[0]
        assert allowed[0] == 1 or multiple_of
        if multiple_of:
            assert size % multiple_of == 0
    assert sorted(seen) == list(range(len(lengths)))
    most = 1 + len(sizes) if multiple_of else 2 + len(sizes) + (largest > TOKENS_PER_CALL)
    assert len(shapes) <= len(BUCKETS) * most


def test_a_cpu_has_a_batch_of_one_and_a_full_one():
    assert batch_sizes(64) == (1, 64)
    assert batch_sizes(64, multiple_of=8) == (64,)
    assert sizes_for(33, (1, 64)) == [64]
    assert sizes_for(67, (1, 64)) == [64, 1, 1, 1]


def test_on_an_accelerator_no_rest_goes_one_by_one(monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    allowed = batch_sizes(64, largest_tokens=TOKENS_OF_AN_ACCELERATOR)
    assert allowed == (1, 8, 64, 512)
    assert sizes_for(1, allowed) == [1]
    assert sizes_for(32, allowed) == [8] * 4
    assert sizes_for(96, allowed) == [64] + [8] * 4
    assert max(len(sizes_for(count, allowed)) for count in range(1, 513)) <= 3 + 4 + 4


@pytest.mark.parametrize(("rows", "allowed"), [(1, (8, 512)), (8, (8, 512)), (6, (12, 516)), (64, (64, 512))])
def test_few_instructions_make_a_small_batch_on_a_mesh_of_accelerators_too(monkeypatch, rows, allowed):
    monkeypatch.setattr("jax.default_backend", lambda: "tpu")
    assert batch_sizes(64, rows, largest_tokens=TOKENS_OF_AN_ACCELERATOR) == allowed
    assert sizes_for(1, allowed) == [allowed[0]]


@given(st.integers(1, 600), st.sampled_from([(1, 64), (1, 8, 64, 512), (8, 512), (5,)]))
def test_batches_hold_all_rows_and_are_not_more_than_they_have_to_be(count, allowed):
    sizes = sizes_for(count, allowed)
    assert sum(sizes) >= count
    assert sum(sizes[:-1]) < count
    assert sizes == sorted(sizes, reverse=True)


def test_rows_done_tell_the_share_of_the_work():
    lengths = [40] * 2000 + [1000] * 2000
    work = np.array(lengths)
    done_rows = done_work = 0
    for index, _ in row_batches(pad_rows([[1] * length for length in lengths]), bucket):
        done_rows, done_work = done_rows + len(index), done_work + work[index].sum()
        if done_rows > len(lengths) / 4:
            assert abs(done_rows / len(lengths) - done_work / work.sum()) < 0.1
