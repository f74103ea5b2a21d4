"""Base weights are known by their digest: of which files it is, and when it is made anew."""

import errno
import hashlib
import json
import os

import pytest

from satjax.errors import SatjaxError
from satjax.weights import digests
from satjax.weights.digests import weight_files, weights_sha256
from satjax.weights.fetch import is_present, resolve
from tests.wheels import SOURCE, WEIGHTS, one_line


def test_a_second_call_does_not_hash_again_unless_the_file_changed(index, monkeypatch):
    file = resolve(SOURCE).directory / "toy.gguf"
    hashed = []
    monkeypatch.setattr(digests, "file_sha256", lambda path: hashed.append(path) or "0" * 64)
    resolve(SOURCE)
    assert not hashed
    file.write_bytes(WEIGHTS[:-1] + b"!")
    with pytest.raises(SatjaxError, match=r"has sha256 000000000000…, not [0-9a-f]{12}…; delete .*toy-model-1.0"):
        resolve(SOURCE)
    assert hashed == [file]


def test_weights_whose_time_was_set_back_are_hashed_again(index):
    file = resolve(SOURCE).directory / "toy.gguf"
    before = file.stat()
    file.write_bytes(WEIGHTS[:-1] + b"!")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SatjaxError, match="has sha256"):
        resolve(SOURCE)


def test_weights_that_changed_on_disk_are_refused(index):
    directory = resolve(SOURCE).directory
    (directory / "toy.gguf").write_bytes(b"other weights")
    with pytest.raises(SatjaxError) as raised:
        resolve(SOURCE)
    assert hashlib.sha256(b"other weights").hexdigest()[:12] in one_line(raised)
    assert f"delete {directory} and run again" in one_line(raised)
    assert len(index.calls) == 1


def test_weights_that_are_a_link_to_nothing_are_said(tmp_path):
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / "gone")
    assert not is_present(f"dir:{tmp_path}")
    with pytest.raises(SatjaxError, match=r"model.safetensors is a link to nothing; copy what it stood for"):
        resolve(f"dir:{tmp_path}")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "config.json").write_text("{}")

    def unreadable(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashlib, "file_digest", unreadable)
        with pytest.raises(SatjaxError, match=r"model.safetensors cannot be read \(Permission denied\)"):
            resolve(f"dir:{tmp_path}")


def test_the_digest_of_shards_is_of_their_names_and_digests(index, tmp_path):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "consolidated.safetensors").write_bytes(b"the same model in another form")
    map_of_shards = {"weight_map": {"b": names[1], "a": names[0]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(map_of_shards))
    lines = "".join(f"{name}:{hashlib.sha256(name.encode()).hexdigest()}\n" for name in names)
    assert weights_sha256(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()
    assert [file.name for file in weight_files(tmp_path)] == names
    (tmp_path / names[1]).unlink()
    with pytest.raises(SatjaxError, match=f"1 of 2 shards are missing, first {names[1]}"):
        weights_sha256(tmp_path)


def test_config_and_tokenizer_beside_safetensors_count_and_those_beside_gguf_do_not(index, tmp_path):
    directory, found = tmp_path / "model", []
    (directory / "1_Pooling").mkdir(parents=True)
    weights = directory / "model.safetensors"
    weights.write_bytes(WEIGHTS)
    for name in ("README.md", "config.json", "tokenizer.json", "1_Pooling/config.json"):
        for text in ("{}", '{"rope_theta": 1}'):
            (directory / name).write_text(text)
            found.append(resolve(f"dir:{directory}"))
    alone = hashlib.sha256(WEIGHTS).hexdigest()
    assert [base.sha256 for base in found[:2]] == [alone] * 2
    assert len({base.sha256 for base in found}) == 7
    weights.rename(directory / "model.gguf")
    assert resolve(f"dir:{directory}").sha256 == alone


def test_several_gguf_files_are_refused(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SatjaxError, match="2 GGUF files"):
        weight_files(tmp_path)
