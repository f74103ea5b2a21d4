"""Tensors of a Hugging Face directory of safetensors files, read part by part."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from satjax.errors import SatjaxError
from satjax.weights.lazy import Index, LazyTensor

INDEX = "model.safetensors.index.json"
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
}


def shards(directory: Path) -> list[Path]:
    """The safetensors files of a model, sorted: `model.safetensors`, or what its index names, or all there are (maybe none).

    Raises SatjaxError where the index cannot be read or names a file that is absent.
    """
    if (directory / "model.safetensors").is_file():
        return [directory / "model.safetensors"]
    index = directory / INDEX
    if not index.is_file():
        return sorted(directory.glob("*.safetensors"))
    try:
        files = sorted(directory / name for name in set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SatjaxError(f"{index} is no index of shards ({error}); copy or download it again") from error
    if missing := [file.name for file in files if not file.is_file()]:
        raise SatjaxError(
            f"base weights {directory}: {len(missing)} of {len(files)} shards are missing, first {missing[0]}; copy or download them again"
        )
    return files


class SafetensorsDir(Mapping[str, LazyTensor]):
    """All tensors of a directory's `shards` by name, in their own dtypes; a file is open only while it is read.

    Raises SatjaxError for a file that is truncated, and for a name that stands in two shards.
    """

    def __init__(self, directory: Path):
        self._file_of: dict[str, Path] = {}
        for file in shards(directory):
            for name in _names(file):
                if name in self._file_of:
                    raise SatjaxError(
                        f"{file}: tensor {name} stands also in {self._file_of[name].name}; the directory mixes two models"
                    )
                self._file_of[name] = file

    def __getitem__(self, name: str) -> LazyTensor:
        file = self._file_of[name]
        with _opened(file) as tensors:
            stored = tensors.get_slice(name)
            shape, kind = tuple(stored.get_shape()), stored.get_dtype()
        if kind not in DTYPES:
            raise SatjaxError(f"{file}: tensor {name} has dtype {kind}, which satjax does not read")

        def read(index: Index) -> np.ndarray:
            with _opened(file) as tensors:
                return tensors.get_slice(name)[index] if shape else tensors.get_tensor(name)

        return LazyTensor(shape, np.dtype(DTYPES[kind]), read)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


def _names(file: Path) -> list[str]:
    with _opened(file) as tensors:
        return list(tensors.keys())


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(str(file), framework="numpy") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise SatjaxError(f"{file} is truncated or no safetensors file ({error}); copy or download it again") from error
