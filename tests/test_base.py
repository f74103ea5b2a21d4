import json

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.weights.base import open_base
from tests.base_models import minilm, smollm2
from tests.tiny import write_tiny_llm


def test_a_directory_of_safetensors(tmp_path):
    base = open_base(write_tiny_llm(tmp_path / "llm"))
    assert base.config["model_type"] == "llama"
    assert base.tensors["model.norm.weight"].shape == (base.config["hidden_size"],)
    assert base.tokenizer.decode(base.tokenizer.encode("sort the list").ids) == "sort the list"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, "", "{", "[]"])
def test_a_missing_or_damaged_file_is_one_line(tmp_path, name, content):
    directory = write_tiny_llm(tmp_path / "llm")
    if content is None:
        (directory / name).unlink()
    else:
        (directory / name).write_text(content)
    with pytest.raises(SatjaxError, match=f"{name} cannot be read") as raised:
        open_base(directory)
    assert "\n" not in str(raised.value)


def test_a_directory_without_weights_is_refused(tmp_path):
    with pytest.raises(SatjaxError, match=r"no \*.safetensors and no \*.gguf"):
        open_base(tmp_path)


def test_a_damaged_gguf_file_is_one_line(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(12))
    with pytest.raises(SatjaxError, match="truncated or no GGUF file") as raised:
        open_base(tmp_path)
    assert "\n" not in str(raised.value)


def test_minilm_neither_cuts_nor_pads():
    base = open_base(minilm().directory)
    stored = json.loads((base_file := minilm().directory / "tokenizer.json").read_text("utf-8"))
    assert stored["truncation"], f"{base_file} was chosen because it cuts"
    assert stored["padding"]
    long, short = base.tokenizer.encode_batch(["word " * 700, "word"])
    assert (len(long), len(short)) == (702, 3)
    assert base.config["model_type"] == "bert"


def test_smollm2():
    base = open_base(smollm2().directory)
    assert base.config["model_type"] == "llama"
    assert base.config["tie_word_embeddings"]
    embedding = base.tensors["model.embed_tokens.weight"]
    assert embedding.shape == (base.config["vocab_size"], base.config["hidden_size"]) == (49152, 576)
    assert embedding.dtype == np.float32
    assert base.tokenizer.get_vocab_size() == 49152
