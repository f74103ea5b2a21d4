"""Every guide of `docs/` is run: its commands end well, and what it shows of their output is what they print, but for the numbers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.xla import QUICK_CODE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PATHS = (("rank",), ("outcomes", "train", "assess", "serve"), ("outcomes", "pod"))
"""Guides in the order in which somebody follows them: one goes on from what another one made."""
REFERENCE = ("architecture", "large", "measure", "results", "speed", "troubleshooting")
"""Pages that hold nothing to be run: their commands want real data, a large LLM or an hour."""
BLOCK = re.compile(r"^```(sh|python|output)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(guide: str) -> list[tuple[str, str]]:
    return BLOCK.findall((DOCS / f"{guide}.md").read_text(encoding="utf-8"))


def run(kind: str, text: str, directory: Path) -> str:
    command = ["bash", "-euo", "pipefail", "-c", text] if kind == "sh" else [sys.executable, "-W", "error", "-c", text]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XLA_FLAGS": QUICK_CODE}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def shape(line: str) -> str:
    """A line without numbers, bars and the spaces that depend on them."""
    return " ".join(re.sub(r"[█▏▎▍▌▋▊▉]+", "", re.sub(r"\d[\d,.]*", "0", line)).split())


def follow(guide: str, directory: Path) -> None:
    printed: set[str] = set()
    for kind, text in blocks(guide):
        if kind == "output":
            missing = [line for line in text.splitlines() if shape(line) not in printed]
            assert not missing, f"docs/{guide}.md shows {missing}; printed were {sorted(printed)}"
        else:
            printed = {shape(line) for line in run(kind, text, directory).splitlines()}


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_guides(path, tmp_path):
    for name in ("configs", "launch"):
        (tmp_path / name).symlink_to(ROOT / name)
    for guide in path:
        assert blocks(guide)
        follow(guide, tmp_path)


def test_every_guide_is_followed():
    followed = {guide for path in PATHS for guide in path}
    assert {path.stem for path in DOCS.glob("*.md")} - set(REFERENCE) == followed
    assert not any(blocks(page) for page in REFERENCE)


def test_no_page_points_at_nothing():
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"


def test_the_readme_names_every_guide():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in DOCS.glob("*.md") if f"docs/{path.name}" not in readme] == []


def test_the_messages_that_are_explained_are_ours():
    rows = re.findall(r"^\| `([^`]+)`", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    messages = [text for text in rows if " " in text and not text.startswith("zsh: ")]
    assert len(messages) > 8
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "satjax").rglob("*.py"))
    for text in messages:
        longest = max(re.split(r"…|\d+|hub:|WORKDIR", text), key=len).strip(" ,")
        assert longest in code, f"{text!r} is no message of satjax"


@pytest.mark.parametrize(("line", "expected"), [("1  a  0.692  ████", "0 a 0"), ("(22 more)", "(0 more)")])
def test_numbers_do_not_count(line, expected):
    assert shape(line) == expected
