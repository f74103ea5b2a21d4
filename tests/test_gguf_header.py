"""The header as the gguf package reads it, in a fraction of its time; what is damaged in it is one line."""

import contextlib
import itertools
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.errors import SatjaxError
from satjax.weights.gguf import GGUFFile
from satjax.weights.gguf_header import read_header
from tests.seconds import seconds

Q8_0, BF16 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.BF16


def write(file: Path, words: int = 3) -> Path:
    """A file with a value of every type, lists of them, and tensors of several."""
    writer = gguf.GGUFWriter(file, "llama")
    for name, value in (("uint8", 200), ("int8", -5), ("uint16", 60_000), ("int16", -300), ("uint32", 2**32 - 1)):
        getattr(writer, f"add_{name}")(name, value)
    for name, value in (
        ("int32", -(2**31)),
        ("uint64", 2**63),
        ("int64", -(2**40)),
        ("float32", 0.1),
        ("float64", 0.1),
    ):
        getattr(writer, f"add_{name}")(name, value)
    writer.add_bool("bool", True)
    writer.add_string("string", "né\n")
    writer.add_string("empty", "")
    for name, values in (("ints", [1, -2, 3]), ("floats", [0.1, 2.5]), ("bools", [True, False])):
        writer.add_array(name, values)
    writer.add_array("words", [f"wörd {n}" for n in range(words)])
    rows = np.arange(4 * 64, dtype=np.float32).reshape(4, 64)
    writer.add_tensor("plain", rows)
    writer.add_tensor("flat", rows[0])
    writer.add_tensor("half", rows.astype(np.float16))
    for name, kind in (("blocks", Q8_0), ("brain", BF16)):
        writer.add_tensor(name, gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_it_is_what_gguf_reads(tmp_path):
    file = write(tmp_path / "model.gguf")
    metadata, tensors = read_header(file)
    reader = gguf.GGUFReader(file)
    expected = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert metadata == expected
    assert [type(value) for value in metadata.values()] == [type(value) for value in expected.values()]
    assert list(tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        assert tensors[tensor.name].shape == tuple(tensor.shape.tolist()[::-1])
        assert tensors[tensor.name].kind == tensor.tensor_type
        assert tensors[tensor.name].packed.tobytes() == tensor.data.tobytes()


def test_a_vocabulary_costs_little(tmp_path):
    file = write(tmp_path / "model.gguf", words=20_000)
    assert 4 * seconds(lambda: GGUFFile(file)) < seconds(lambda: gguf.GGUFReader(file))


def header(*values: bytes, version: int = 3, magic: bytes = b"GGUF", tensors: int = 0) -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, len(values)) + b"".join(values)


def value(name: str, kind: int, packed: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + packed


ARCHITECTURE = value("general.architecture", 8, struct.pack("<Q", 5) + b"llama")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (header(magic=b"GGML"), "it begins with b'GGML'"),
        (header(version=1), "version 1"),
        (header(version=3 << 24), "version 50331648"),
        (header(ARCHITECTURE, ARCHITECTURE), "two entries are named 'general.architecture'"),
        (header(value("x", 99, b"")), "99"),
        (header(value("x", 8, struct.pack("<Q", 2**63))), "it ends at byte"),
        (header(value("x", 8, struct.pack("<Q", 1) + b"\xff")), "can't decode"),
        (header(value("x", 9, struct.pack("<IQ", 4, 2**62))), "it ends at byte"),
        (header(value("x", 9, struct.pack("<IQ", 8, 2**62))), "it ends at byte"),
        (header(value("x", 9, struct.pack("<IQ", 9, 1) * 20_000)), "recursion"),
        (header(value("general.alignment", 4, struct.pack("<I", 0))), "general.alignment 0"),
        (header(value("general.alignment", 8, struct.pack("<Q", 0))), "not supported between"),
        (header(tensors=2**60), "it ends at byte"),
        (header(tensors=1) + value("t", 2**30, b""), "it ends at byte"),
    ],
    ids=itertools.count(),
)
def test_what_is_damaged_is_one_line(tmp_path, content, said):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(SatjaxError, match="is truncated or no GGUF file") as raised:
        GGUFFile(file)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("whole") / "model.gguf")


@settings(max_examples=100)
@given(at=st.floats(0, 0.7), byte=st.integers(0, 255))
def test_any_byte_may_be_wrong(whole, at, byte):
    content = bytearray(whole.read_bytes())
    content[int(len(content) * at)] = byte
    file = whole.with_name("altered.gguf")
    file.write_bytes(content)
    with contextlib.suppress(SatjaxError):
        GGUFFile(file)
