import json

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from satjax.errors import SatjaxError
from satjax.weights.safetensors_dir import INDEX, SafetensorsDir, shards
from tests.base_models import minilm

DTYPES = [np.float32, np.float16, np.int64, ml_dtypes.bfloat16]


def write_bfloat16(file, name, value):
    """By hand, as the format is specified: length of the header, header, data."""
    header = {name: {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [0, value.nbytes]}}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + value.tobytes())


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_as_it_is(tmp_path, dtype):
    value = np.arange(-5, 7).reshape(3, 4).astype(dtype)
    if dtype is ml_dtypes.bfloat16:
        write_bfloat16(tmp_path / "model.safetensors", "a", value)
    else:
        save_file({"a": value, "b": value[0]}, str(tmp_path / "model.safetensors"))
    read = SafetensorsDir(tmp_path)["a"]
    assert read.dtype == dtype
    assert type(read[...]) is np.ndarray
    np.testing.assert_array_equal(read[...].astype(np.float64), value.astype(np.float64))
    np.testing.assert_array_equal(read[1:, 2:3].astype(np.float64), value[1:, 2:3].astype(np.float64))


def test_bfloat16_after_other_tensors_is_found_at_its_offset(tmp_path, torch):
    from safetensors.torch import save_file as save_torch

    values = {name: torch.randn(3, n + 1, dtype=torch.bfloat16) for n, name in enumerate("abc")}
    save_torch({**values, "d": torch.randn(5)}, str(tmp_path / "model.safetensors"))
    read = SafetensorsDir(tmp_path)
    for name, value in values.items():
        np.testing.assert_array_equal(read[name][...].astype(np.float32), value.float().numpy())


def test_shards_read_as_one_mapping(tmp_path):
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=(2, 3)).astype(np.float32) for name in "abcd"}
    save_file({name: values[name] for name in "ab"}, str(tmp_path / "model-1.safetensors"))
    save_file({name: values[name] for name in "cd"}, str(tmp_path / "model-2.safetensors"))
    read = SafetensorsDir(tmp_path)
    assert set(read) == set(values)
    assert len(read) == 4
    for name, value in values.items():
        np.testing.assert_array_equal(read[name][...], value)
    with pytest.raises(KeyError):
        read["e"]


def test_the_index_decides_which_files_are_shards(tmp_path):
    for name in "ab":
        save_file({name: np.ones(2, np.float32)}, str(tmp_path / f"{name}.safetensors"))
    save_file({"a": np.zeros(2, np.float32)}, str(tmp_path / "consolidated.safetensors"))
    with pytest.raises(SatjaxError, match="mixes two models"):
        SafetensorsDir(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))
    assert set(SafetensorsDir(tmp_path)) == {"a", "b"}
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(SatjaxError, match="no index of shards"):
        shards(tmp_path)


@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_one_line(tmp_path_factory, share):
    whole = save({"weight": np.ones((20, 20), np.float32), "bias": np.ones(20, np.float32)})
    directory = tmp_path_factory.mktemp("cut")
    (directory / "model.safetensors").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SatjaxError, match="truncated or no safetensors file") as raised:
        SafetensorsDir(directory)
    assert "\n" not in str(raised.value)


def test_a_dtype_that_is_not_read_is_named(tmp_path):
    header = json.dumps({"a": {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(SatjaxError, match="a has dtype F8_E8M0"):
        SafetensorsDir(tmp_path)["a"]


def test_minilm():
    tensors = SafetensorsDir(minilm().directory)
    assert tensors["embeddings.word_embeddings.weight"].shape == (30522, 384)
    assert tensors["encoder.layer.5.intermediate.dense.weight"].shape == (1536, 384)
    assert {tensors[name].dtype for name in tensors if name.endswith("weight")} == {np.dtype(np.float32)}
