import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.weights.base import open_base
from satjax.weights.lazy import below, lazy
from satjax.weights.names import decoder_config, decoder_params, decoder_tensors, encoder_config, encoder_params
from tests.tiny import BERT, LLAMA, write_tiny_encoder, write_tiny_llm


def llm(tmp_path):
    base = open_base(write_tiny_llm(tmp_path / "llm"))
    return dict(base.tensors.items()), base.config


def test_every_mismatch_is_reported_at_once(tmp_path):
    tensors, config = llm(tmp_path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.norm.weight"] = lazy(np.ones(5, np.float32))
    tensors["model.layers.0.extra.weight"] = lazy(np.ones(1, np.float32))
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
    np.testing.assert_array_equal(whole["upper/mlp/up/kernel"][:1], cut["lower/mlp/up/kernel"][...])
    np.testing.assert_array_equal(whole["upper/mlp/up/kernel"][1:], cut["upper/mlp/up/kernel"][...])
    np.testing.assert_array_equal(
        cut["lower/attention/q/kernel"][...][0], tensors["model.layers.0.self_attn.q_proj.weight"].T[...]
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
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' of an LLM is not supported"),
        ({"num_attention_heads": 0, "head_dim": None}, "of the LLM: config.json cannot be read"),
        ({"num_hidden_layers": "many"}, "of the LLM: config.json cannot be read"),
        ({"rope_scaling": {"rope_type": "linear"}}, "of the LLM: config.json has no 'factor'"),
    ],
)
def test_what_is_not_supported_is_refused(changes, words):
    with pytest.raises(SatjaxError, match=words):
        decoder_config({**LLAMA, "vocab_size": 100, **changes})


@pytest.mark.parametrize("key", ["hidden_size", "num_attention_heads", "rms_norm_eps", "vocab_size"])
def test_a_setting_that_is_missing_is_named(key):
    with pytest.raises(SatjaxError, match=f"of the LLM: config.json has no '{key}'"):
        decoder_config({k: v for k, v in {**LLAMA, "vocab_size": 100}.items() if k != key})
    if key in BERT:
        with pytest.raises(SatjaxError, match=f"of the text encoder: config.json has no '{key}'"):
            encoder_config({k: v for k, v in {**BERT, "vocab_size": 100}.items() if k != key})


def fused(tensors):
    """The tensors as Phi-3 stores them."""
    for i in range(LLAMA["num_hidden_layers"]):
        for part, names in (("self_attn.{}_proj", "qkv"), ("mlp.{}_proj", ("gate", "up"))):
            at = f"model.layers.{i}.{part}.weight"
            rows = [tensors.pop(at.format(name)) for name in names]
            tensors[at.format("qkv" if part.startswith("self") else "gate_up")] = below(rows)
    return tensors


def test_fused_tensors_are_split(tmp_path):
    tensors, config = llm(tmp_path)
    expected = decoder_params(tensors, decoder_config(config))
    found = decoder_params(fused(dict(tensors)), decoder_config(config))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path][...], value[...])
        if path.endswith("kernel"):
            np.testing.assert_array_equal(found[path][1:, :3], value[1:, :3])
    tensors = fused(dict(tensors))
    tensors["model.layers.1.self_attn.qkv_proj.weight"] = lazy(np.zeros((60, 32), np.float32))
    with pytest.raises(
        SatjaxError, match=r"\(1 mismatches\): model.layers.1.self_attn.qkv_proj.weight is \(60, 32\), not \(64"
    ):
        decoder_params(tensors, decoder_config(config))


@pytest.mark.parametrize("split", [True, False], ids=["split", "fused"])
@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"model_type": "qwen2"}], ids=str)
def test_tensors_made_of_parameters_are_those_that_they_came_from(tmp_path, changes, split):
    tensors, config = llm(tmp_path)
    shape = decoder_config({**config, **changes}, join_layer=1)
    if not shape.tied_head:
        tensors["lm_head.weight"] = lazy(np.random.default_rng(0).normal(size=(config["vocab_size"], 32)))
    if shape.qkv_bias and split:
        tensors |= {
            f"model.layers.{i}.self_attn.{name}_proj.bias": lazy(np.arange(size, dtype=np.float32))
            for i in range(3)
            for name, size in (("q", 32), ("k", 16), ("v", 16))
        }
    tensors = tensors if split else fused(tensors)
    again = decoder_tensors(decoder_params(tensors, shape), shape, fused=not split)
    assert again.keys() == tensors.keys()
    for name, value in tensors.items():
        assert again[name].shape == value.shape
        np.testing.assert_array_equal(again[name][...], value[...].astype(np.float32), err_msg=name)


def test_the_config_files_of_the_papers_sizes():
    factors = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
    phi = {
        "model_type": "phi3",
        "hidden_size": 3072,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 8192,
        "vocab_size": 32064,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "rope_scaling": {"type": "longrope", **factors},
        "original_max_position_embeddings": 4096,
        "max_position_embeddings": 131_072,
        "sliding_window": 262_144,
        "attention_bias": False,
        "tie_word_embeddings": False,
    }
    ours = decoder_config(phi)
    assert (ours.head_width, ours.num_kv_heads, ours.max_positions) == (96, 32, 131_072)
    assert (ours.tied_head, ours.qkv_bias) == (False, False)
    assert (ours.rope.kind, ours.rope.original_positions) == ("longrope", 4096)
    assert ours.rope.attention_factor == pytest.approx((1 + np.log(32) / np.log(4096)) ** 0.5)
    qwen = {
        "model_type": "qwen2",
        "hidden_size": 896,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "intermediate_size": 4864,
        "vocab_size": 151_936,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "max_position_embeddings": 32_768,
        "sliding_window": 32_768,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
    }
    ours = decoder_config(qwen)
    assert (ours.head_width, ours.num_kv_heads, ours.max_positions) == (64, 2, 32_768)
    assert (ours.tied_head, ours.qkv_bias, ours.rope.theta) == (True, True, 1_000_000.0)


def test_candidates_must_join_below_the_top():
    with pytest.raises(SatjaxError, match="the LLM has 3 layers; give at most 2"):
        decoder_config({**LLAMA, "vocab_size": 100}, join_layer=3)


def test_an_encoder_of_another_kind_is_refused():
    with pytest.raises(SatjaxError, match="no text encoder that satjax knows"):
        encoder_config({"model_type": "roberta"})
