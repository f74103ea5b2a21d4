"""Lazy tensors read what was asked for and nothing else, and place it as JAX would place the array itself."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from jax.sharding import NamedSharding, PartitionSpec

from satjax.config import MeshConfig
from satjax.sharding import make_mesh
from satjax.weights.lazy import LazyTensor, lazy, place_tensor, stacked

VALUE = np.arange(6 * 8, dtype=np.float32).reshape(6, 8)


def counted(value: np.ndarray) -> tuple[LazyTensor, list[int]]:
    """The value, and a list that receives the size of everything that is read of it."""
    sizes: list[int] = []

    def read(index):
        sizes.append(value[index].size)
        return value[index]

    return LazyTensor(value.shape, value.dtype, read), sizes


@given(
    arrays.basic_indices(VALUE.shape, allow_newaxis=False, allow_ellipsis=False), st.integers(0, 3), st.integers(3, 6)
)
def test_an_index_reads_what_it_reads_of_an_array(index, start, stop):
    parts = index if isinstance(index, tuple) else (index,)
    index = tuple(part for part in parts if isinstance(part, slice) and part.step in (None, 1))
    np.testing.assert_array_equal(lazy(VALUE)[index], VALUE[index])
    np.testing.assert_array_equal(lazy(VALUE).T[index], VALUE.T[index])
    np.testing.assert_array_equal(lazy(VALUE).rows(start, stop)[index], VALUE[start:stop][index])
    np.testing.assert_array_equal(lazy(VALUE).rows(start, stop).T[index], VALUE[start:stop].T[index])
    both = stacked([lazy(VALUE), lazy(2 * VALUE)], np.float16)
    np.testing.assert_array_equal(both[index], np.stack([VALUE, 2 * VALUE]).astype(np.float16)[index])


def test_shapes_dtypes_and_sizes_are_known_without_reading():
    tensor, read = counted(VALUE)
    views = [
        tensor.T,
        tensor.rows(1, 3),
        tensor.rows(1, 3).T,
        tensor.astype(np.float16),
        stacked([tensor] * 5, np.int8),
    ]
    assert [view.shape for view in views] == [(8, 6), (2, 8), (8, 2), (6, 8), (5, 6, 8)]
    assert [view.dtype for view in views] == [np.float32] * 3 + [np.float16, np.int8]
    assert [view.nbytes for view in views] == [192, 64, 64, 96, 240]
    assert read == []


def test_views_read_only_what_they_show():
    tensor, read = counted(VALUE)
    tensor.rows(2, 5).T[1:3, :1]
    assert read == [2]
    stacked([tensor] * 5, np.float32)[3:, :, :2]
    assert read == [2, 12, 12]


@pytest.mark.parametrize("spec", [(), ("fsdp",), (None, "tensor"), ("tensor", "fsdp"), (None, ("fsdp", "tensor"))])
def test_placing_equals_putting_the_array_itself(spec):
    sharding = NamedSharding(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)), PartitionSpec(*spec))
    tensor, read = counted(VALUE)
    placed, expected = (
        place_tensor(tensor.astype(np.float16), sharding),
        jax.device_put(VALUE.astype(np.float16), sharding),
    )
    assert (placed.sharding, placed.dtype) == (expected.sharding, expected.dtype)
    for ours, theirs in zip(placed.addressable_shards, expected.addressable_shards, strict=True):
        assert (ours.device, ours.index) == (theirs.device, theirs.index)
        np.testing.assert_array_equal(ours.data, theirs.data)
    assert sum(read) == VALUE.size, "every element is read once, however many devices hold it"
    assert max(read) == expected.addressable_shards[0].data.size


def test_on_a_single_device_all_is_read_at_once():
    tensor, read = counted(VALUE)
    placed = place_tensor(tensor, jax.sharding.SingleDeviceSharding(jax.devices()[3]))
    assert placed.devices() == {jax.devices()[3]}
    np.testing.assert_array_equal(placed, VALUE)
    assert read == [48]
