"""What the ability head reads of instructions, on one device and on a mesh, kept and not."""

import dataclasses
import hashlib
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from satjax.assembly import assemble
from satjax.config import MeshConfig
from satjax.errors import SatjaxError
from satjax.features.reader import FeatureReader, FirstStore, feature_store
from satjax.features.row_batches import Batching
from satjax.features.vectors import VectorStore
from satjax.models.router_model import abstract_model, bind
from satjax.sharding import make_mesh, param_shardings
from tests.tiny import ABILITY_ALONE, tiny_config, untrained_params

TEXTS = [f"What is {n} + {n}? {'Show every step. ' * (n % 5)}" for n in range(23)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    config = tiny_config(tmp_path_factory.mktemp("tiny"), **ABILITY_ALONE, router__prompt__buckets=(64, 128))
    assembly = assemble(config.router)
    return assembly, untrained_params(assembly)


@pytest.fixture(scope="module")
def alone(parts):
    assembly, params = parts
    graphdef, _ = abstract_model(assembly.model)
    features = jax.jit(lambda token, length: bind(graphdef, params).features(token, length))
    rows = [assembly.writer.encode([text]) for text in TEXTS]
    return np.concatenate([features(jnp.asarray(row.token), jnp.asarray(row.length)) for row in rows])


def test_each_instruction_has_the_features_it_has_alone(parts, alone):
    assembly, params = parts
    heard = []
    found = FeatureReader(assembly, Batching()).read(params, TEXTS, lambda *done: heard.append(done))
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert np.ptp(found, axis=0).min() > 0
    assert heard[0] == (0, 23)
    assert heard[-1] == (23, 23)
    assert heard == sorted(heard)


def test_a_mesh_changes_nothing(parts, alone):
    assembly, params = parts
    mesh = make_mesh(MeshConfig(2, 2, 2))
    shardings = param_shardings(params, mesh)
    placed = {path: jax.device_put(value, shardings[path]) for path, value in params.items()}
    found = FeatureReader(assembly, Batching(mesh)).read(placed, TEXTS)
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_what_was_read_is_not_read_again(parts, alone, tmp_path, monkeypatch):
    assembly, params = parts
    reader = FeatureReader(assembly, Batching(), VectorStore(tmp_path))
    reader.read(params, TEXTS[5:12])
    texts = []
    encode = type(assembly.writer).encode
    monkeypatch.setattr(type(assembly.writer), "encode", lambda self, new: texts.extend(new) or encode(self, new))
    np.testing.assert_allclose(reader.read(params, TEXTS), alone, atol=1e-5)
    assert sorted(texts) == sorted(TEXTS[:5] + TEXTS[12:])
    texts.clear()
    np.testing.assert_allclose(reader.read(params, TEXTS[::-1]), alone[::-1], atol=1e-5)
    assert texts == []


def test_an_interruption_loses_nothing_that_was_read(parts, tmp_path):
    assembly, params = parts
    reader = FeatureReader(assembly, Batching(), VectorStore(tmp_path))

    def stop(done, total):
        if done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reader.read(params, TEXTS, stop)
    assert len(reader.store.find(TEXTS)) > 5


def test_other_layers_prompts_and_weights_are_kept_apart(parts):
    assembly = parts[0]
    head = assembly.model.ability_head
    longer = dataclasses.replace(assembly.writer.config, buckets=(64, 256))
    other = {**assembly.bases, "llm": dataclasses.replace(assembly.bases["llm"], sha256="0" * 64)}
    variants = [
        assembly,
        *(
            dataclasses.replace(assembly, model=dataclasses.replace(assembly.model, **changes))
            for changes in (
                {"ability_head": dataclasses.replace(head, mean_layers=(1,))},
                {"ability_head": dataclasses.replace(head, last_layers=(1,))},
                {"compute_dtype": "bfloat16"},
            )
        ),
        dataclasses.replace(assembly, writer=dataclasses.replace(assembly.writer, config=longer)),
        dataclasses.replace(assembly, writer=dataclasses.replace(assembly.writer, start_ids=(1, 2))),
        dataclasses.replace(assembly, writer=dataclasses.replace(assembly.writer, end_ids=(1, 2))),
        dataclasses.replace(assembly, bases=other),
        dataclasses.replace(assembly, narrow=True),
        dataclasses.replace(assembly, unmarked=("</s>",)),
    ]
    assert len({feature_store(variant).directory for variant in variants}) == len(variants)
    assert feature_store(assembly).directory == feature_store(assembly).directory


def test_products_that_an_accelerator_rounds_are_kept_apart_from_exact_ones(parts, monkeypatch):
    exact = feature_store(parts[0]).directory

    def kept(backend: str, precision: str | None):
        monkeypatch.setattr("jax.default_backend", lambda: backend)
        with jax.default_matmul_precision(precision):
            return feature_store(parts[0]).directory

    assert {kept("cpu", None), kept("cpu", "default"), kept("gpu", "highest"), kept("tpu", "float32")} == {exact}
    rounded = [kept("gpu", None), kept("tpu", None), kept("gpu", "high")]
    assert len({exact, *rounded}) == 4


def test_another_tokenizer_or_config_has_features_of_its_own(tmp_path):
    router = tiny_config(tmp_path, **ABILITY_ALONE).router
    places = [feature_store(assemble(router)).directory]
    for name in ("tokenizer.json", "config.json"):
        file = assemble(router).bases["llm"].directory / name
        file.write_text(file.read_text() + "\n")
        places.append(feature_store(assemble(router)).directory)
    assert len(set(places)) == 3


def test_the_place_of_features_can_be_named(parts, tmp_path, monkeypatch):
    before = feature_store(parts[0]).directory
    monkeypatch.setenv("SATJAX_FEATURES", str(tmp_path / "share"))
    assert feature_store(parts[0]).directory == tmp_path / "share" / before.name


def test_weights_that_are_rounded_have_features_of_their_own(tmp_path):
    places = [
        feature_store(assemble(tiny_config(tmp_path, **ABILITY_ALONE, router__param_dtype=dtype).router)).directory
        for dtype in ("float32", "bfloat16")
    ]
    assert places[0] != places[1]


def test_what_is_kept_is_found_by_machines_that_compute_it_otherwise(parts, monkeypatch):
    """A key of other fields than these would lose what users have kept."""
    keys = []
    spy = SimpleNamespace(sha256=lambda key: keys.append(json.loads(key)) or hashlib.sha256(key))
    monkeypatch.setattr("satjax.features.reader.hashlib", spy)
    model = parts[0].model
    splash = dataclasses.replace(model, decoder=dataclasses.replace(model.decoder, attention="splash"))
    assert feature_store(dataclasses.replace(parts[0], model=splash)).directory == feature_store(parts[0]).directory
    read = "format llm decoder mean_layers last_layers dtype start end max_tokens"
    assert set(keys[0]) == set(read.split())
    shape = "vocab_size width num_layers num_heads num_kv_heads head_width mlp_width norm_epsilon rope qkv_bias tied_head max_positions"
    assert set(keys[0]["decoder"]) == {*shape.split(), "lora_rank", "lora_tokens", "join_layer"}


def test_a_process_that_reads_for_itself_asks_its_own_store(parts, tmp_path, monkeypatch):
    """Without a mesh the others, if there are any, need not read at all, and would be waited for."""
    assembly, _ = parts
    monkeypatch.setattr("jax.process_count", lambda: 2)
    store = VectorStore(tmp_path)
    assert FeatureReader(assembly, Batching(), store).store is store
    assert isinstance(FeatureReader(assembly, Batching(make_mesh(MeshConfig())), store).store, FirstStore)


def test_what_is_kept_goes_to_other_processes_in_pieces(monkeypatch):
    """All of it at once would lie on every device beside the LLM: what ran fresh would not fit when it goes on."""
    texts = [str(i) for i in range(40_000)]
    kept = {i: np.full(1000, i, np.float32) for i in range(0, len(texts), 2)}
    handed: list[np.ndarray] = []
    monkeypatch.setattr("satjax.features.reader.from_first", lambda value: handed.append(value) or value)
    first = FirstStore(SimpleNamespace(find=lambda asked: dict(kept))).find(texts)
    assert max(value.nbytes for value in handed) <= 2**26
    assert sum(value.ndim == 2 for value in handed) == 2
    monkeypatch.setattr("satjax.features.reader.is_first", lambda: False)

    def received(value):
        sent = handed.pop(0)
        assert (sent.shape, sent.dtype) == (value.shape, value.dtype)
        return sent

    monkeypatch.setattr("satjax.features.reader.from_first", received)
    other = FirstStore(SimpleNamespace(find=lambda asked: pytest.fail("the first one's counts"))).find(texts)
    assert not handed
    assert first.keys() == other.keys() == kept.keys()
    assert all(np.array_equal(first[i], kept[i]) and np.array_equal(other[i], kept[i]) for i in (0, 16_000, 39_998))


def test_nothing_kept_is_nothing_handed_over(monkeypatch):
    monkeypatch.setattr("satjax.features.reader.from_first", lambda value: value)
    assert FirstStore(SimpleNamespace(find=lambda asked: {})).find(["a", "b"]) == {}


@pytest.mark.parametrize(("text", "fault"), [("  ", "empty"), (3, "int, not text"), ("\udc80", "not valid Unicode")])
def test_what_is_no_instruction_is_named_before_the_store_is_asked(parts, tmp_path, text, fault):
    assembly, params = parts
    reader = FeatureReader(assembly, Batching(), VectorStore(tmp_path))
    reader.read(params, TEXTS[:2])
    with pytest.raises(SatjaxError, match=f"instruction 3 of 3 is {fault}"):
        reader.read(params, [*TEXTS[:2], text])
