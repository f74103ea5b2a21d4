"""The decoder against transformers in float32: small random models of every kind, and SmolLM2 from its real file."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from satjax.models.decoder import Decoder, DecoderConfig
from satjax.weights.base import open_base
from tests.base_models import smollm2
from tests.hf import SIZES, our_decoder, our_logits, randomize, relative_error, tensors_of

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
TOKEN = np.random.default_rng(0).integers(3, 97, (2, 40))


def longrope(long: bool) -> dict:
    # transformers chooses the factors by the longest position of the batch; 16 or 64 original positions make 40 tokens long or short.
    original = 16 if long else 64
    factors = {"short_factor": [1.0, 1.1, 1.3, 1.5], "long_factor": [1.0, 2.0, 4.0, 7.0]}
    return {
        "rope_scaling": {"type": "longrope", "rope_type": "longrope", **factors},
        "original_max_position_embeddings": original,
    }


def reference(torch, kind: str, **settings):
    import transformers

    config_class = getattr(transformers, f"{kind}Config")
    model_class = getattr(transformers, f"{kind}ForCausalLM")
    torch.manual_seed(0)
    config = config_class(**{**SIZES, **settings})
    config._attn_implementation = "eager"
    return randomize(torch, model_class(config).float())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Llama", {}),
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"rope_scaling": LLAMA3_ROPE, "rope_theta": 500_000.0}),
        ("Llama", {"attention_bias": False, "head_dim": 16}),
        ("Qwen2", {"rope_theta": 1_000_000.0}),
        ("Qwen2", {"rope_theta": 1_000_000.0, "tie_word_embeddings": True}),
        ("Phi3", {}),
        ("Phi3", longrope(long=False)),
        ("Phi3", longrope(long=True)),
    ],
    ids=["llama", "tied", "llama3-rope", "wide-heads", "qwen2", "qwen2-tied", "phi3", "phi3-short", "phi3-long"],
)
def test_small_random_models(torch, kind, settings):
    model = reference(torch, kind, **settings)
    with torch.no_grad():
        expected = model(torch.tensor(TOKEN)).logits.numpy()
    decoder, config = our_decoder(tensors_of(model), model.config.to_dict())
    assert config.tied_head == settings.get("tie_word_embeddings", False)
    assert relative_error(our_logits(decoder, TOKEN), expected) < 1e-5


def test_longrope_long_and_short_differ(torch):
    models = [reference(torch, "Phi3", **longrope(long)) for long in (False, True)]
    ours = [our_logits(our_decoder(tensors_of(m), m.config.to_dict())[0], TOKEN) for m in models]
    assert relative_error(ours[0], ours[1]) > 1e-2


def test_smollm2_from_its_gguf(torch):
    """The reference reads the same dequantized tensors; llama.cpp's row order is undone by the reader, which the greedy text shows."""
    from transformers import LlamaConfig, LlamaForCausalLM

    base = open_base(smollm2().directory)
    decoder, _ = our_decoder(base.tensors, base.config)
    model = LlamaForCausalLM(LlamaConfig(**base.config)).eval()
    state = {name: torch.tensor(value[...]) for name, value in base.tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    ids = base.tokenizer.encode("The capital of France is").ids
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits.numpy()
    assert relative_error(our_logits(decoder, np.array([ids])), expected) < 1e-3
    text, length = np.zeros((1, 12), np.int64), len(ids)
    text[0, :length] = ids
    for n in range(length, 12):
        text[0, n] = our_logits(decoder, text, np.array([n], np.int32))[0, n - 1].argmax()
    assert base.tokenizer.decode(text[0, length:].tolist()).startswith(" Paris")


def small(join_layer: int = 0, lora_tokens: str = "all", lora_rank: int = 0) -> Decoder:
    config = DecoderConfig(50, 16, 4, 4, 2, 4, 32, lora_rank=lora_rank, join_layer=join_layer, lora_tokens=lora_tokens)
    return Decoder(config, nnx.Rngs(0))


@nnx.jit
def _run(decoder: Decoder, text, length, suffix):
    return decoder(text, length, suffix)


def run(decoder: Decoder, text, length, suffix=None):
    arrays = (None if x is None else jnp.asarray(x, jnp.float32) for x in (text, suffix))
    text, suffix = arrays
    return _run(decoder, text, jnp.asarray(length, jnp.int32), suffix)


def test_a_suffix_is_the_same_as_more_text():
    """With candidates joining at layer 0, one suffix after n tokens equals a text of n + s tokens."""
    decoder, rng = small(), np.random.default_rng(1)
    text, suffix = rng.normal(size=(2, 9, 16)), rng.normal(size=(2, 3, 4, 16))
    length = np.array([9, 5])
    ours = run(decoder, text, length, suffix).suffix
    for b in range(2):
        for m in range(3):
            whole = np.concatenate([text[b, : length[b]], suffix[b, m]])[None]
            states = run(decoder, whole, [whole.shape[1]]).text
            np.testing.assert_allclose(ours[b, m], states[0, length[b] :], atol=2e-5)


@pytest.mark.parametrize("join_layer", [0, 2])
def test_suffixes_do_not_see_each_other_nor_padding(join_layer):
    decoder, rng = small(join_layer), np.random.default_rng(2)
    text, suffix = rng.normal(size=(1, 8, 16)), rng.normal(size=(1, 3, 2, 16))
    before = run(decoder, text, [6], suffix).suffix
    changed = suffix.copy()
    changed[:, 1] += 1
    after = run(decoder, text, [6], changed).suffix
    np.testing.assert_array_equal(before[:, [0, 2]], after[:, [0, 2]])
    assert np.abs(before[:, 1] - after[:, 1]).max() > 1e-3
    noisy = text.copy()
    noisy[:, 6:] += 100
    padded = run(decoder, noisy, [6], suffix).suffix
    np.testing.assert_array_equal(before, padded)


@pytest.mark.parametrize("lora_tokens", ["all", "suffix"])
def test_adapters_move_the_tokens_they_are_for(lora_tokens):
    decoder, rng = small(1, lora_tokens, lora_rank=2), np.random.default_rng(3)
    text, suffix = rng.normal(size=(1, 5, 16)), rng.normal(size=(1, 2, 1, 16))
    before = run(decoder, text, [5], suffix)
    up = decoder.upper.mlp.up
    up.lora_b[...] = jnp.ones_like(up.lora_b[...])
    after = run(decoder, text, [5], suffix)
    assert np.abs(before.suffix - after.suffix).max() > 1e-3
    assert bool(np.abs(before.text - after.text).max() > 1e-3) == (lora_tokens == "all")


def test_summaries_are_of_each_layer_in_turn():
    """Candidates join at layer 2 of 4: what is above does not change the summaries below."""
    decoder, rng = small(2), np.random.default_rng(4)
    text, suffix = rng.normal(size=(2, 5, 16)), rng.normal(size=(2, 2, 1, 16))
    before = run(decoder, text, [5, 3], suffix)
    assert before.summary.mean.shape == before.summary.last.shape == (4, 2, 16)
    np.testing.assert_array_equal(before.summary.mean, run(decoder, text, [5, 3]).summary.mean)
    decoder.upper.mlp.up.kernel[...] += 1.0
    above = run(decoder, text, [5, 3])
    np.testing.assert_array_equal(before.summary.mean[:2], above.summary.mean[:2])
    assert np.abs(before.summary.mean[2] - above.summary.mean[2]).max() > 1e-3
    last = np.asarray(above.text)[[0, 1], [4, 2]]
    unit = last / np.sqrt((last**2).mean(axis=-1, keepdims=True))
    np.testing.assert_allclose(above.summary.last[3], unit, atol=1e-4)
    decoder.lower.mlp.up.kernel[...] += 1.0
    assert np.abs(before.summary.mean[0] - run(decoder, text, [5, 3]).summary.mean[0]).max() > 1e-3
