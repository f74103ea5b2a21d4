import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AbstractMesh

from satjax.features.row_batches import (
    MIDDLE_OF_AN_ACCELERATOR,
    TOKENS_OF_AN_ACCELERATOR,
    TOKENS_PER_CALL,
    Batching,
    sizes_for,
)
from satjax.instructions import pad_rows
from satjax.sharding import AXES

BUCKETS = (64, 256, 1024)


def devices(count):
    """A mesh that cuts a batch into so many parts; none for 0."""
    return AbstractMesh((count, 1, 1), AXES) if count else None


def bucket(length):
    return next(width for width in BUCKETS if length <= width)


@given(
    st.lists(st.integers(1, 1024), max_size=200),
    st.sampled_from([0, 1, 8, 12]),
    st.sampled_from([(), MIDDLE_OF_AN_ACCELERATOR, (1, 4, 16, 32)]),
    st.sampled_from([0, TOKENS_OF_AN_ACCELERATOR]),
)
def test_every_row_once_in_few_shapes(lengths, count, sizes, largest):
    rows = pad_rows([[i % 97 + 1] * length for i, length in enumerate(lengths)])
    batching = Batching(devices(count), sizes, largest)
    seen, shapes = [], set()
    for index, padded in batching.batches(rows, bucket):
        seen += index.tolist()
        shapes.add(padded.token.shape)
        size, width = padded.token.shape
        assert {bucket(length) for length in rows.length[index]} == {width}
        np.testing.assert_array_equal(padded.length[: len(index)], rows.length[index])
        for row, length, i in zip(padded.token, padded.length, index, strict=False):
            assert set(row[:length].tolist()) == {i % 97 + 1}
            assert not row[length:].any()
        assert size % batching.parts == 0
        assert size == batching.parts or size * width <= max(TOKENS_PER_CALL, largest) * batching.parts
        allowed = batching.sizes_at(width)
        assert size in allowed
        assert 2 * len(index) > size or size == allowed[0]
        assert allowed[0] == 1 or count
    assert sorted(seen) == list(range(len(lengths)))
    most = 1 + len(sizes) if count == 1 or (count and not sizes) else 2 + len(sizes) + (largest > TOKENS_PER_CALL)
    assert len(shapes) <= len(BUCKETS) * most


def test_a_cpu_has_a_batch_of_one_and_a_full_one():
    assert Batching().sizes_at(64) == (1, 64)
    assert sizes_for(33, (1, 64)) == [64]
    assert sizes_for(67, (1, 64)) == [64, 1, 1, 1]


def test_on_an_accelerator_no_rest_goes_one_by_one(monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    allowed = Batching(largest_tokens=TOKENS_OF_AN_ACCELERATOR).sizes_at(64)
    assert allowed == (1, 8, 64, 512)
    assert sizes_for(1, allowed) == [1]
    assert sizes_for(32, allowed) == [8] * 4
    assert sizes_for(96, allowed) == [64] + [8] * 4
    assert max(len(sizes_for(count, allowed)) for count in range(1, 513)) <= 3 + 4 + 4


@pytest.mark.parametrize(
    ("count", "allowed"),
    [(1, (8, 512)), (6, (6, 48, 384, 3072)), (8, (8, 64, 512, 4096)), (64, (64, 512, 4096, 32768))],
)
def test_each_of_several_devices_has_the_rows_that_one_alone_has(monkeypatch, count, allowed):
    monkeypatch.setattr("jax.default_backend", lambda: "tpu")
    assert Batching(devices(count), largest_tokens=TOKENS_OF_AN_ACCELERATOR).sizes_at(64) == allowed
    assert sizes_for(1, allowed) == [allowed[0]]


@pytest.mark.parametrize("width", [64, 192, 768, 5000])
def test_a_batch_grows_with_the_devices(width):
    """With no sizes of its own, as training reads: one program for each width."""
    for largest, one in ((0, max(1, TOKENS_PER_CALL // width)), (32_768, 32_768 // width)):
        for count in (1, 2, 8, 64):
            assert Batching(devices(count), (), largest).sizes_at(width) == (count * one,)


def test_what_comes_of_a_batch_lies_whole_on_every_device(monkeypatch):
    """So that it is bounded, but for what one device makes of its own rows."""
    features = Batching(devices(64), (), TOKENS_OF_AN_ACCELERATOR, row_bytes=2**16)
    assert features.sizes_at(64) == (2**28 // 2**16,)
    assert features.sizes_at(1024) == (64 * 32,)
    monkeypatch.setattr("satjax.features.row_batches.WHOLE_AT_ONCE", 2**10)
    assert features.sizes_at(64) == (512,)
    assert [Batching(mesh, (), 32_768, 2**16).sizes_at(64)[-1] for mesh in (None, devices(1))] == [512, 512]


def test_a_mesh_of_one_device_has_no_batch_below_its_sizes():
    assert Batching(devices(1), ()).sizes_at(64) == (64,)
    assert Batching(devices(1), (1, 4, 16, 32, 64)).sizes_at(64) == (1, 4, 16, 32, 64)
    assert Batching(devices(1), (8,)).sizes_at(768) == (5,)


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
    for index, _ in Batching().batches(pad_rows([[1] * length for length in lengths]), bucket):
        done_rows, done_work = done_rows + len(index), done_work + work[index].sum()
        if done_rows > len(lengths) / 4:
            assert abs(done_rows / len(lengths) - done_work / work.sum()) < 0.1
