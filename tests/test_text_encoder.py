"""The text encoder against transformers: MiniLM from its real file, and a random BERT of E5's shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from satjax.instructions import pad_rows
from satjax.models.text_encoder import EncoderConfig, TextEncoder
from satjax.weights.base import open_base
from tests.base_models import minilm
from tests.hf import our_encoder, randomize, tensors_of

TEXTS = ["How tall is the Eiffel Tower?", "x = [i ** 2 for i in range(10)]", "naïve café, 東京 🙂", "a"]


def mean_pooled(torch, model, token, length):
    mask = torch.arange(token.shape[1])[None] < torch.tensor(length)[:, None]
    with torch.no_grad():
        states = model(torch.tensor(token).long(), attention_mask=mask.long()).last_hidden_state
    pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.nn.functional.normalize(pooled, dim=-1).numpy()


@nnx.jit
def _embed(encoder, token, length):
    return encoder(token, length)


def embed(encoder, token: np.ndarray, length: np.ndarray) -> np.ndarray:
    return np.asarray(_embed(encoder, jnp.asarray(token), jnp.asarray(length)))


def cosines(ours: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return (ours * expected).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(expected, axis=-1)


def bert(torch, settings, tensors=None):
    from transformers import BertConfig, BertModel

    config = BertConfig(**settings)
    config._attn_implementation = "eager"
    model = BertModel(config, add_pooling_layer=False)
    if tensors is None:
        return randomize(torch, model)
    known = {name: torch.tensor(np.asarray(value)) for name, value in tensors.items() if "pooler" not in name}
    missing, _ = model.load_state_dict(known, strict=False)
    assert not [name for name in missing if "position_ids" not in name]
    return model.eval()


def test_minilm(torch):
    base = open_base(minilm().directory)
    encoder, _ = our_encoder(base.tensors, base.config)
    rows = pad_rows([base.tokenizer.encode(text).ids for text in TEXTS])
    expected = mean_pooled(torch, bert(torch, base.config, base.tensors), rows.token, rows.length)
    ours = embed(encoder, rows.token, rows.length)
    assert cosines(ours, expected).min() > 0.9999
    np.testing.assert_allclose(np.linalg.norm(ours, axis=-1), 1, atol=1e-5)


def test_a_random_bert_of_the_shape_of_e5(torch):
    """E5-Large has 24 layers of 16 heads of 64; here with fewer layers and narrower, the same proportions."""
    sizes = {"vocab_size": 120, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    model = bert(torch, {**sizes, "intermediate_size": 256, "max_position_embeddings": 64, "layer_norm_eps": 1e-12})
    encoder, _ = our_encoder(tensors_of(model), {**model.config.to_dict(), "model_type": "bert"})
    rng = np.random.default_rng(0)
    token, length = rng.integers(1, 120, (3, 50)), np.array([50, 17, 1], np.int32)
    expected = mean_pooled(torch, model, token, length)
    ours = embed(encoder, token, length)
    assert cosines(ours, expected).min() > 0.99999


def random_bert(torch):
    sizes = {"vocab_size": 120, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return bert(torch, {**sizes, "intermediate_size": 128, "max_position_embeddings": 64, "layer_norm_eps": 1e-12})


def test_the_first_token_as_bge_takes_it(torch):
    model = random_bert(torch)
    encoder, _ = our_encoder(tensors_of(model), {**model.config.to_dict(), "model_type": "bert"}, "cls")
    rng = np.random.default_rng(0)
    token, length = rng.integers(1, 120, (4, 20)), np.array([20, 7, 1, 0], np.int32)
    mask = torch.arange(20)[None] < torch.tensor(length)[:3, None]
    with torch.no_grad():
        first = model(torch.tensor(token[:3]).long(), attention_mask=mask.long()).last_hidden_state[:, 0]
    ours = embed(encoder, token, length)
    np.testing.assert_allclose(ours[:3], torch.nn.functional.normalize(first, dim=-1).numpy(), atol=1e-5)
    np.testing.assert_array_equal(ours[3], 0)
    assert cosines(ours[:3], mean_pooled(torch, model, token[:3], length[:3])).min() < 0.97


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_empty_row_has_no_gradient(torch, pooling):
    """Texts of profiles are cut into chunks, of which some have none; a mesh adds rows of its own."""
    model = random_bert(torch)
    encoder, _ = our_encoder(tensors_of(model), {**model.config.to_dict(), "model_type": "bert"}, pooling)
    token, length = jnp.ones((2, 5), jnp.int32), jnp.array([5, 0])
    gradient = nnx.jit(nnx.grad(lambda encoder: encoder(token, length)[:, :7].sum()))(encoder)
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.isfinite(leaf[...]).all(), path


def test_padding_changes_nothing_and_an_empty_row_is_zero():
    base = open_base(minilm().directory)
    encoder, _ = our_encoder(base.tensors, base.config)
    ids = base.tokenizer.encode(TEXTS[0]).ids
    tight, wide = pad_rows([ids]), pad_rows([ids, []], width=64)
    one, both = embed(encoder, tight.token, tight.length), embed(encoder, wide.token, wide.length)
    np.testing.assert_allclose(one[0], both[0], atol=1e-6)
    np.testing.assert_array_equal(both[1], 0)


def test_tables_in_bfloat16_are_added_in_the_dtype_of_the_computation():
    """The same numbers, stored in either dtype."""
    config = EncoderConfig(vocab_size=50, width=64, num_layers=1, num_heads=4, mlp_width=96)
    graphdef, state = nnx.split(TextEncoder(config, nnx.Rngs(0)))
    stored = jax.tree.map(lambda value: value.astype(jnp.bfloat16), state)
    token, length = np.arange(20, dtype=np.int32).reshape(2, 10), np.array([10, 6], np.int32)
    narrow, wide = (
        embed(nnx.merge(graphdef, given), token, length)
        for given in (stored, jax.tree.map(lambda value: value.astype(jnp.float32), stored))
    )
    np.testing.assert_allclose(narrow, wide, atol=1e-6)
