"""The header of a GGUF file (versions 2 and 3, little-endian): its metadata, and its tensors as they are packed.

The gguf package makes several arrays of each of a vocabulary's 98,000 strings, which is seconds of computing.
"""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""How `struct` names the types of values that the format numbers."""
TEXT, ARRAY = 8, 9


class GGUFTensor(NamedTuple):
    """`packed` is uint8, rows of blocks of the type `kind`, as gguf's `dequantize` takes them."""

    shape: tuple[int, ...]
    kind: Any
    packed: np.ndarray


def read_header(file: Path) -> tuple[dict[str, Any], dict[str, GGUFTensor]]:
    """Metadata and tensors by name. Raises what its parts raise (ValueError, LookupError, OSError and others) where the file is damaged."""
    content = np.asarray(np.memmap(file, mode="r"))
    cursor = _Cursor(content.data)
    if (magic := bytes(cursor.take(4))) != b"GGUF":
        raise ValueError(f"it begins with {magic!r}")
    if (version := cursor.number("I")) not in (2, 3):
        raise ValueError(f"version {version}")
    num_tensors, num_values = cursor.numbers("Q", 2)
    metadata = cursor.named(num_values, lambda: cursor.value(cursor.number("I")))
    found = cursor.named(
        num_tensors, lambda: (cursor.numbers("Q", cursor.number("I")), *cursor.numbers("I"), *cursor.numbers("Q"))
    )
    alignment = metadata.get("general.alignment", 32)
    if alignment < 1:
        raise ValueError(f"general.alignment {alignment}")
    first = -(-cursor.at // alignment) * alignment
    return metadata, {
        name: _tensor(content, first + offset, size, kind) for name, (size, kind, offset) in found.items()
    }


def _tensor(content: np.ndarray, first: int, size: tuple[int, ...], kind: int) -> GGUFTensor:
    from gguf import GGMLQuantizationType
    from gguf.quants import quant_shape_to_byte_shape

    named, shape = GGMLQuantizationType(kind), size[::-1]
    packed = quant_shape_to_byte_shape(shape, named)
    return GGUFTensor(shape, named, content[first : first + math.prod(packed)].reshape(packed))


class _Cursor:
    """Takes values from the bytes of a file, one after the other; raises ValueError where they end within one."""

    def __init__(self, content: memoryview):
        self.content, self.at = content, 0

    def take(self, size: int) -> memoryview:
        piece = self.content[self.at : self.at + size]
        if len(piece) < size:
            raise ValueError(f"it ends at byte {len(self.content)}")
        self.at += size
        return piece

    def numbers(self, form: str, count: int = 1) -> tuple[Any, ...]:
        return struct.unpack(f"<{count}{form}", self.take(count * struct.calcsize(form)))

    def number(self, form: str) -> Any:
        return self.numbers(form)[0]

    def text(self) -> str:
        return str(self.take(self.number("Q")), "utf-8")

    def value(self, kind: int) -> Any:
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            return self.number(SCALARS[kind])
        kind, count = self.number("I"), self.number("Q")
        return list(self.numbers(SCALARS[kind], count)) if kind in SCALARS else [self.value(kind) for _ in range(count)]

    def named(self, count: int, read: Callable[[], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            name = self.text()
            if name in found:
                raise ValueError(f"two entries are named {name!r}")
            found[name] = read()
        return found
