"""What is installed and made: every package that satjax imports is declared, its types are found, and nobody's work is in the way."""

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools

import satjax

ROOT = Path(__file__).parents[1]
UNDER_OTHERS = {"starlette", "pydantic_core", "jaxlib"}
"""Imported as the inside of fastapi, pydantic and jax, whose versions choose theirs."""
OTHER_NAMES = {"absl": "absl-py", "orbax": "orbax-checkpoint", "sklearn": "scikit-learn"}
"""Packages that are not named as what is imported of them."""


@pytest.fixture
def packaging(monkeypatch) -> dict:
    """What setup.py tells setuptools."""
    said: dict = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: said.update(options))
    runpy.run_path(str(ROOT / "setup.py"))
    return said


def test_every_package_that_is_imported_is_declared(packaging):
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "satjax").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    modules |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - UNDER_OTHERS - {"satjax"}
    wanted = [
        *packaging["install_requires"],
        *(line for lines in packaging["extras_require"].values() for line in lines),
    ]
    declared = {re.split(r"[\[<>=]", line)[0].lower().replace("_", "-") for line in wanted}
    assert {OTHER_NAMES.get(name, name.lower().replace("_", "-")) for name in imported} - declared == set()


def test_the_version_stands_in_one_place(packaging):
    assert packaging["version"] == satjax.__version__
    assert satjax.__version__ not in (ROOT / "setup.py").read_text(encoding="utf-8")


def test_type_checkers_of_users_see_the_types(packaging):
    assert "py.typed" in packaging["package_data"]["satjax"]
    assert (ROOT / "satjax" / "py.typed").is_file()


def test_it_says_which_systems_it_is_for(packaging):
    assert any("Linux" in line for line in packaging["classifiers"])
    assert "Linux and macOS" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_clean_leaves_what_people_trained():
    command = ["make", "--no-print-directory", "--dry-run", "clean"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["rm", "-rf", ".venv", "runs/demo", "build"]


def test_an_image_is_sent_what_it_copies_and_nothing_else():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "launch" / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert ignored[1] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == {name for line in copied for name in line.split()}
    assert ignored[-1] == "**/__pycache__"


def test_an_old_python_is_named_and_makes_nothing(tmp_path):
    """`python -m venv` would keep it in an environment that is there, so that a newer one named afterwards would change nothing."""
    for name in ("Makefile", "setup.py", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    old = tmp_path / "python3.9"
    code = "import sys; sys.version_info = (3, 9, 1); exec(sys.argv[2])"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    old.chmod(0o755)
    made = subprocess.run(["make", "rank", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert "is Python 3.9, and satjax needs 3.11 or newer: name one, such as PYTHON=python3.12" in made.stderr
    assert not (tmp_path / ".venv").exists()
