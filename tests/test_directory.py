"""The router directory: written whole or not at all, and nothing in it can change unnoticed."""

import hashlib
import json
import os
import shutil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from satjax.config import TrainConfig
from satjax.config.mapping import from_mapping
from satjax.errors import SatjaxError
from satjax.export import directory as export
from satjax.export.directory import read_router, rewrite_router
from satjax.files import safe_name
from satjax.router import Router
from satjax.train import train
from tests.tiny import tiny_config
from tests.trained import Trained


def test_the_directory_holds_what_the_design_says(trained: Trained):
    names = {path.name for path in trained.router.iterdir()}
    assert names == {
        "config.json",
        "params",
        "tokenizer.json",
        "profiles",
        "aptitude_test.json",
        "calibration.json",
        "train_config.json",
        "README.md",
    }
    assert len(list((trained.router / "profiles").glob("*.json"))) == 6
    assert [path.name for path in trained.workdir.iterdir() if path.name.startswith(".")] == []


def test_it_reads_back_as_it_was_trained(trained: Trained):
    files = read_router(trained.router)
    assert files.config == trained.config.router
    assert files.order_seed == trained.config.seed
    assert files.base_sha256.keys() == {"llm", "encoder"}
    assert all(len(digest) == 64 for digest in files.base_sha256.values())
    assert files.learned
    assert all(path.startswith("connector/") or "/lora_" in path for path in files.learned)
    assert {profile.aptitude_test for profile in files.profiles} == {files.test.fingerprint}
    assert files.calibration.fitted_on == 16
    settings = from_mapping(TrainConfig, files.training)
    assert settings.stages == trained.config.stages
    assert settings.router == trained.config.router
    assert settings.data.outcomes == trained.outcomes.name, "no folder of the machine that trained it"


def test_a_router_that_keeps_no_config_of_its_training_is_read_all_the_same(trained: Trained, tmp_path):
    """As those that were exported before."""
    copy = trained.copy(tmp_path / "old")
    (copy / "train_config.json").unlink()
    config = json.loads((copy / "config.json").read_text())
    del config["files"]["train_config.json"]
    export._write_config(copy, config)
    assert read_router(copy).training == {}


def names_in(router) -> list[str]:
    """One file of every kind."""
    params = sorted(path for path in (router / "params").rglob("*") if path.is_file())
    profile = sorted((router / "profiles").iterdir())[0]
    fixed = ("tokenizer.json", "aptitude_test.json", "calibration.json", "train_config.json", "README.md")
    return [*fixed, *(path.relative_to(router).as_posix() for path in (profile, params[0], params[-1]))]


def test_a_missing_file_is_named(trained: Trained, tmp_path):
    for number, name in enumerate(names_in(trained.router)):
        copy = trained.copy(tmp_path / str(number))
        (copy / name).unlink()
        with pytest.raises(SatjaxError, match=rf"router .*: {name} is missing .*copy the router again") as raised:
            Router.load(copy)
        assert "\n" not in str(raised.value)


def test_what_else_lies_in_the_directory_is_not_read(trained: Trained, tmp_path):
    router = shutil.copytree(trained.router, tmp_path / "router")
    (router / "dangling").symlink_to("/nowhere")
    os.mkfifo(router / "pipe")
    assert len(read_router(router).profiles) == 6
    (router / "calibration.json").unlink()
    (router / "calibration.json").symlink_to("/nowhere")
    with pytest.raises(SatjaxError, match=r"calibration\.json is missing"):
        read_router(router)


def test_an_altered_file_is_named(trained: Trained, tmp_path):
    for number, name in enumerate(names_in(trained.router)):
        copy = trained.copy(tmp_path / str(number))
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(SatjaxError, match=rf"router .*: {name} was altered"):
            Router.load(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("norms"), "config.json was altered"),
        (lambda c: c.update(format=99), "has format 99, this satjax reads format 2"),
        (lambda c: c.update(order_seed=7), "config.json was altered"),
        (lambda c: c.update(files=[]), "config.json was altered"),
        (lambda c: c["base_sha256"].update(llm="0" * 64), "config.json was altered"),
    ],
)
def test_an_altered_config_is_refused(trained: Trained, tmp_path, change, message):
    copy = trained.copy(tmp_path / "router")
    config = json.loads((copy / "config.json").read_text())
    change(config)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(SatjaxError, match=message) as raised:
        read_router(copy)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["../payload", "profiles/../../payload", "{outside}/payload", "./payload", "a//payload"]
)
def test_a_router_of_others_names_no_file_outside_of_it(trained: Trained, tmp_path, name):
    copy, name = trained.copy(tmp_path / "theirs" / "router"), name.format(outside=tmp_path)
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("payload")
    config = json.loads((copy / "config.json").read_text())
    config["files"][name] = hashlib.sha256(b"payload").hexdigest()
    export._write_config(copy, config)
    with (
        pytest.raises(SatjaxError, match=r"config\.json was altered .*the file name"),
        rewrite_router(copy, tmp_path / "mine" / "router"),
    ):
        pass
    assert not list((tmp_path / "mine").rglob("payload"))


def test_a_copy_holds_what_links_stood_for(trained: Trained, tmp_path):
    copy = trained.copy(tmp_path / "router")
    name = next(name for name in names_in(copy) if name.startswith("params/"))
    (copy / name).rename(copy / "elsewhere")
    (copy / name).symlink_to(os.path.relpath(copy / "elsewhere", (copy / name).parent))
    with rewrite_router(copy, tmp_path / "deeper" / "router"):
        pass
    assert read_router(tmp_path / "deeper" / "router").learned
    assert not (tmp_path / "deeper" / "router" / name).is_symlink()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"'])
def test_a_config_that_is_none_is_refused(trained: Trained, tmp_path, text):
    copy = trained.copy(tmp_path / "router")
    (copy / "config.json").write_text(text)
    with pytest.raises(SatjaxError, match=r"config\.json was altered"):
        read_router(copy)


def test_a_directory_that_is_no_router_says_so(tmp_path):
    with pytest.raises(SatjaxError, match=r"is no router: it has no config\.json; give the directory that"):
        read_router(tmp_path)


def test_base_weights_that_changed_are_refused(trained: Trained, tmp_path):
    """The whole home is copied, so that the router of the copy names weights that are then altered."""
    home = tmp_path / "home"
    for name in ("llm", "encoder", "outcomes"):
        shutil.copytree(trained.directory / name, home / name)
    router = train(tiny_config(home, calibration_instructions=0), tmp_path / "run")
    Router.load(router)
    weights = home / "llm" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(SatjaxError, match=r"another sha256 .*give it the weights that it names"):
        Router.load(router)


def test_an_export_that_fails_leaves_nothing(trained: Trained, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    monkeypatch.setattr(export, "_digests", lambda directory: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(trained.config, workdir)
    assert not (workdir / "router").exists()
    assert not [path for path in workdir.iterdir() if path.name.startswith(".router")]
    monkeypatch.undo()
    assert read_router(train(trained.config, workdir)).calibration == read_router(trained.router).calibration


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
@example("m" * 251, "m" * 252)
@example("模" * 90, "模" * 91)
def test_any_candidate_has_a_safe_file_name_of_its_own(a, b):
    name = safe_name(a)
    assert "/" not in name
    assert len(name.encode()) <= 109
    assert not name.startswith(".")
    assert name
    assert (a == b) == (safe_name(b) == name)
