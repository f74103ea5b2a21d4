"""Tensors of a Hugging Face directory of safetensors files, read one at a time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from satjax.errors import SatjaxError

INDEX = "model.safetensors.index.json"


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


class SafetensorsDir(Mapping[str, np.ndarray]):
    """All tensors of a directory's `shards` by name; each is read when it is asked for, in its own dtype.

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

    def __getitem__(self, name: str) -> np.ndarray:
        file = self._file_of[name]
        try:
            with safe_open(str(file), framework="numpy") as opened:
                dtype = opened.get_slice(name).get_dtype()
                if dtype != "BF16":
                    return opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise _damaged(file, error) from error
        except (KeyError, AttributeError, TypeError) as error:
            raise SatjaxError(f"{file}: tensor {name} has dtype {dtype}, which satjax does not read") from error
        return _read_bfloat16(file, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


def _names(file: Path) -> list[str]:
    try:
        with safe_open(str(file), framework="numpy") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> SatjaxError:
    return SatjaxError(f"{file} is truncated or no safetensors file ({error}); copy or download it again")


def _read_bfloat16(file: Path, name: str) -> np.ndarray:
    """bfloat16 by its place in the file: not every version of the library has that type on its numpy side."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        start, end = header[name]["data_offsets"]
        stream.seek(8 + size + start)
        return np.frombuffer(stream.read(end - start), ml_dtypes.bfloat16).reshape(header[name]["shape"])
