"""Tensors that are read when they are placed, part by part: a host holds one device's share of one parameter at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import jax
import numpy as np

Index = tuple[slice, ...]


@dataclass(frozen=True)
class LazyTensor:
    """An array that is not in memory: `tensor[index]` reads a part of it, `tensor[...]` all of it.

    An index has a slice of step 1 for each of the first axes, or for all. `read` takes one for every axis, with both ends given.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Index], np.ndarray]

    def __getitem__(self, index: Index | slice | EllipsisType) -> np.ndarray:
        slices = () if isinstance(index, EllipsisType) else index if isinstance(index, tuple) else (index,)
        whole = (*slices, *[slice(None)] * (len(self.shape) - len(slices)))
        ends = [part.indices(size) for part, size in zip(whole, self.shape, strict=True)]
        return self.read(tuple(slice(start, max(start, stop)) for start, stop, _ in ends))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that all of it takes in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def T(self) -> "LazyTensor":
        """A matrix transposed."""
        return LazyTensor(self.shape[::-1], self.dtype, lambda index: self.read(index[::-1]).T)

    def rows(self, start: int, stop: int) -> "LazyTensor":
        """Rows `start` to `stop` of the first axis."""

        def read(index: Index) -> np.ndarray:
            first, *rest = index
            return self.read((slice(start + first.start, start + first.stop), *rest))

        return LazyTensor((stop - start, *self.shape[1:]), self.dtype, read)

    def entry(self, row: int) -> "LazyTensor":
        """One entry of the first axis, without that axis."""
        return LazyTensor(self.shape[1:], self.dtype, lambda index: self.read((slice(row, row + 1), *index))[0])

    def astype(self, dtype: Any) -> "LazyTensor":
        """The same in another dtype."""
        return LazyTensor(self.shape, np.dtype(dtype), lambda index: self.read(index).astype(dtype, copy=False))


def lazy(array: np.ndarray) -> LazyTensor:
    """An array that is in memory already."""
    return LazyTensor(array.shape, array.dtype, lambda index: array[index])


def stacked(layers: Sequence[LazyTensor], dtype: Any) -> LazyTensor:
    """Tensors of one shape along a new first axis, in `dtype`; they are read one after another."""

    def read(index: Index) -> np.ndarray:
        chosen, rest = layers[index[0]], index[1:]
        value = np.empty((len(chosen), *(part.stop - part.start for part in rest)), dtype)
        for row, layer in zip(value, chosen, strict=True):
            row[...] = layer.read(rest)
        return value

    return LazyTensor((len(layers), *layers[0].shape), np.dtype(dtype), read)


def below(parts: Sequence[LazyTensor]) -> LazyTensor:
    """Tensors of one dtype, one below the other along their first axis; all rows are read."""

    def read(index: Index) -> np.ndarray:
        rows, *rest = index
        return np.concatenate([part.read((slice(0, part.shape[0]), *rest)) for part in parts])[rows]

    rows = sum(part.shape[0] for part in parts)
    return LazyTensor((rows, *parts[0].shape[1:]), parts[0].dtype, read)


def place_tensor(tensor: LazyTensor, sharding: jax.sharding.Sharding) -> jax.Array:
    """The tensor on the devices of this host that hold a part of it; each part is read once, and let go before the next is."""
    devices_of: dict[tuple, list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(tensor.shape).items():
        ends = tuple(part.indices(size)[:2] for part, size in zip(index or (), tensor.shape, strict=True))
        devices_of.setdefault(ends, []).append(device)
    shards: list[jax.Array] = []
    for ends, devices in devices_of.items():
        part = tensor[tuple(slice(*pair) for pair in ends)]
        shards += jax.block_until_ready([jax.device_put(part, device) for device in devices])
    return jax.make_array_from_single_device_arrays(tensor.shape, sharding, shards)
