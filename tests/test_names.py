import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.weights.base import open_base
from satjax.weights.names import decoder_config, decoder_params, encoder_config, encoder_params
from tests.tiny import LLAMA, write_tiny_encoder, write_tiny_llm


def llm(tmp_path):
    base = open_base(write_tiny_llm(tmp_path / "llm"))
    return dict(base.tensors.items()), base.config


def test_every_mismatch_is_reported_at_once(tmp_path):
    tensors, config = llm(tmp_path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.norm.weight"] = np.ones(5, np.float32)
    tensors["model.layers.0.extra.weight"] = np.ones(1, np.float32)
    with pytest.raises(SatjaxError, match="3 mismatches") as raised:
        decoder_params(tensors, decoder_config(config))
    for words in ("mlp.up_proj.weight is missing", "model.norm.weight is (5,), not (32,)", "extra.weight is not known"):
        assert words in str(raised.value)


def test_encoder_mismatches_too(tmp_path):
    base = open_base(write_tiny_encoder(tmp_path / "encoder"))
    tensors = dict(base.tensors.items())
    del tensors["embeddings.LayerNorm.bias"]
    with pytest.raises(SatjaxError, match=r"text encoder .*embeddings.LayerNorm.bias is missing"):
        encoder_params(tensors, encoder_config(base.config))


def test_layers_are_stacked_below_and_above_the_join(tmp_path):
    tensors, config = llm(tmp_path)
    whole = decoder_params(tensors, decoder_config(config))
    cut = decoder_params(tensors, decoder_config(config, join_layer=1))
    assert whole["upper/mlp/up/kernel"].shape == (3, 32, 64)
    np.testing.assert_array_equal(whole["upper/mlp/up/kernel"][:1], cut["lower/mlp/up/kernel"])
    np.testing.assert_array_equal(whole["upper/mlp/up/kernel"][1:], cut["upper/mlp/up/kernel"])
    np.testing.assert_array_equal(
        cut["lower/attention/q/kernel"][0], tensors["model.layers.0.self_attn.q_proj.weight"].T
    )


def test_parameters_take_the_dtype_asked_for(tmp_path):
    tensors, config = llm(tmp_path)
    assert {value.dtype for value in decoder_params(tensors, decoder_config(config), np.float16).values()} == {
        np.dtype(np.float16)
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba"}, "no LLM that satjax knows"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope type 'yarn' is not supported"),
        ({"partial_rotary_factor": 0.5}, "partial rotary"),
    ],
)
def test_what_is_not_supported_is_refused(changes, words):
    with pytest.raises(SatjaxError, match=words):
        decoder_config({**LLAMA, "vocab_size": 100, **changes})


def test_candidates_must_join_below_the_top():
    with pytest.raises(SatjaxError, match="the LLM has 3 layers; give at most 2"):
        decoder_config({**LLAMA, "vocab_size": 100}, join_layer=3)


def test_an_encoder_of_another_kind_is_refused():
    with pytest.raises(SatjaxError, match="no text encoder that satjax knows"):
        encoder_config({"model_type": "roberta"})
