"""Embeddings: each text's own, whatever stands beside it, computed once."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from satjax.errors import SatjaxError
from satjax.evaluation import embed as module
from satjax.evaluation.embed import embed
from satjax.instructions import lose_middle, pad_rows
from satjax.models.text_encoder import TextEncoder
from satjax.weights.base import open_base
from satjax.weights.fetch import BaseModel, resolve
from satjax.weights.names import encoder_config, encoder_params
from tests.base_models import minilm
from tests.hf import with_params
from tests.tiny import BERT, write_tiny_encoder, write_tiny_llm

TEXTS = [f"What is {n} + {n}? {'sort the list of words ' * (n % 9)}" for n in range(40)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(module, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny") / "encoder")


@pytest.fixture
def base(encoder) -> BaseModel:
    return resolve(f"dir:{encoder}")


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.glob("embeddings/**/*") if path.is_file()]


@nnx.jit
def run(encoder, token, length):
    return encoder(token, length)


def never(*_):
    raise AssertionError("computed again")


def test_each_embedding_is_the_encoders_own(base):
    embedding_BE = embed(base, TEXTS)
    assert embedding_BE.shape == (40, BERT["hidden_size"])
    assert embedding_BE.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embedding_BE, axis=1), 1, atol=1e-5)
    files = open_base(base.directory)
    config = encoder_config(files.config)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: TextEncoder(config, nnx.Rngs(0))))
    reference = with_params(graphdef, encoder_params(files.tensors, config))
    width = BERT["max_position_embeddings"]
    rows = pad_rows([lose_middle(files.tokenizer.encode(text).ids, width) for text in TEXTS], width)
    for i in range(0, 40, 5):
        alone = run(reference, jnp.asarray(rows.token[i : i + 1]), jnp.asarray(rows.length[i : i + 1]))
        np.testing.assert_allclose(embedding_BE[i : i + 1], alone, atol=1e-5)


def test_order_of_the_texts_is_kept(base):
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(embed(base, [TEXTS[i] for i in order]), embed(base, TEXTS)[order], atol=1e-5)


def test_long_texts_lose_their_middle(base, monkeypatch):
    start, end = "What is the number of words? " * 3, " sort the list" * 5
    texts = [f"{start}convert{end}", f"{start}{'a word ' * 50}{end}"]
    monkeypatch.setattr(module, "MAX_TOKENS", 20)
    same = embed(base, texts)
    np.testing.assert_array_equal(same[0], same[1])
    monkeypatch.setattr(module, "MAX_TOKENS", 256)
    other = embed(base, texts)
    assert np.abs(other[0] - other[1]).max() > 1e-3


def test_the_question_after_long_examples_is_read(base, monkeypatch):
    """Few-shot prompts of one task begin alike: what tells them apart stands at the end."""
    monkeypatch.setattr(module, "MAX_TOKENS", 20)
    examples = "What is the number of words? sort the list of words " * 5
    one, other = embed(base, [f"{examples}convert a word", f"{examples}What is 2 + 2?"])
    assert np.abs(one - other).max() > 1e-3


def test_the_second_time_they_are_read(base, cache, monkeypatch):
    heard: list[tuple[int, int]] = []
    first = embed(base, TEXTS, on_progress=lambda *count: heard.append(count))
    assert heard == sorted(heard)
    assert heard[-1] == (40, 40)
    assert len(heard) > 1
    monkeypatch.setattr(module, "_embed", never)
    np.testing.assert_array_equal(embed(base, TEXTS, on_progress=lambda *count: heard.append(count)), first)
    assert heard[-2:] == [(40, 40), (40, 40)]


def test_other_weights_texts_and_prefixes_are_other_embeddings(base, cache, tmp_path):
    others = [
        embed(base, TEXTS[:2]),
        embed(base, TEXTS[:2], query_prefix="query: "),
        embed(resolve(f"dir:{write_tiny_encoder(tmp_path / 'other', seed=5)}"), TEXTS[:2]),
        embed(base, TEXTS[2:4]),
    ]
    first = others[0]
    assert all(np.abs(first - other).max() > 1e-4 for other in others[1:])
    np.testing.assert_allclose(embed(base, [f"query: {text}" for text in TEXTS[:2]]), others[1], atol=1e-6)


def test_another_pooling_of_the_same_weights_is_another_embedding(encoder, tmp_path):
    copied = tmp_path / "bge"
    shutil.copytree(encoder, copied)
    (copied / "1_Pooling").mkdir()
    before = embed(resolve(f"dir:{copied}"), TEXTS[:2])
    (copied / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert np.abs(embed(resolve(f"dir:{copied}"), TEXTS[:2]) - before).max() > 1e-4


def test_an_llm_is_no_text_encoder(tmp_path):
    with pytest.raises(SatjaxError, match="no text encoder"):
        embed(resolve(f"dir:{write_tiny_llm(tmp_path / 'llm')}"), TEXTS)


def test_minilm_tells_alike_from_unlike():
    base = minilm()
    texts = ["How do I bake bread?", "A recipe for a loaf of sourdough", "The derivative of x squared"]
    embedding_BE = embed(base, texts)
    assert embedding_BE[0] @ embedding_BE[1] > 0.3 + embedding_BE[0] @ embedding_BE[2]


def test_a_mesh_that_the_program_has_set_changes_nothing(base, cache):
    expected = embed(base, TEXTS)
    shutil.rmtree(cache)
    with jax.set_mesh(jax.make_mesh((2,), ("model",), devices=jax.devices()[:2])):
        np.testing.assert_allclose(embed(base, TEXTS), expected, atol=1e-6)
