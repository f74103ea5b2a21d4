"""A training that is killed, as a user would see it: processes, signals and what lies on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from satjax.files import canonical_json
from satjax.training.run_log import read_metrics
from tests.tiny import write_tiny_config
from tests.xla import QUICK_CODE

STEPS = 10


@pytest.fixture(scope="module")
def config_file(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("tiny")
    return write_tiny_config(home / "config.py", home)


def start(config_file: Path, workdir: Path, prelude: str = "") -> subprocess.Popen:
    code = f"{prelude}\nimport sys\nfrom satjax.cli import main\nsys.exit(main(sys.argv[1:]))"
    arguments = ["train", "--config", str(config_file), "--workdir", str(workdir)]
    environment = {**os.environ, "XLA_FLAGS": QUICK_CODE, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for_step(process: subprocess.Popen, workdir: Path, step: int) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        lines = read_metrics(workdir / "metrics.jsonl")
        if lines and lines[-1]["step"] >= step:
            return
        time.sleep(0.005)
    pytest.fail(f"step {step} was not reached: {process.communicate()}")


def repeated(workdir: Path) -> list[dict]:
    """What is logged of every step, less the time that it took, which is another one every time."""
    timed = ("seconds", "instructions_per_second")
    lines = read_metrics(workdir / "metrics.jsonl")
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


def learned(workdir: Path) -> dict[str, str]:
    """What the router is: its settings, and digests of its files; those of `params/` hold times of day, so their arrays count instead."""
    config = json.loads((workdir / "router" / "config.json").read_text())
    files = {name: digest for name, digest in config.pop("files").items() if not name.startswith("params/")}
    return files | {"config.json": canonical_json(config), "params": _params(workdir)}


def _params(workdir: Path) -> str:
    code = (
        "import sys, hashlib, numpy as np, orbax.checkpoint as ocp\n"
        "tree = ocp.StandardCheckpointer().restore(sys.argv[1])\n"
        "print(hashlib.sha256(b''.join(np.asarray(tree[k]).tobytes() for k in sorted(tree))).hexdigest())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str((workdir / "router" / "params").absolute())],
        capture_output=True, text=True, check=True, env={**os.environ, "XLA_FLAGS": QUICK_CODE, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    return result.stdout.strip()


def test_killed_at_any_step_and_resumed_ends_with_the_same_router(config_file, tmp_path):
    whole = start(config_file, tmp_path / "whole")
    assert whole.wait(240) == 0, whole.communicate()
    broken = tmp_path / "broken"
    # Before the first checkpoint, between checkpoints, at the border of the stages, and near the end.
    for step, number in ((1, signal.SIGKILL), (4, signal.SIGTERM), (6, signal.SIGKILL), (8, signal.SIGKILL)):
        process = start(config_file, broken)
        wait_for_step(process, broken, step)
        process.send_signal(number)
        output = process.communicate(timeout=120)
        assert not (broken / "router").exists(), "the run was over before the signal came"
        if number == signal.SIGTERM:
            assert process.returncode == 75, output
            assert "everything is saved" in output[1]
        else:
            assert process.returncode == -signal.SIGKILL
    last = start(config_file, broken)
    assert last.wait(240) == 0, last.communicate()
    assert [line["step"] for line in read_metrics(broken / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert repeated(broken) == repeated(tmp_path / "whole")
    assert learned(broken) == learned(tmp_path / "whole")


KILL_IN_SAVE = """
import os, signal, sys
def hook(event, args):
    # The last act of a save is to rename its temporary directory: die just before it.
    if event == "os.rename" and "/checkpoints/6." in str(args[0]) and "tmp" in str(args[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""


def test_a_kill_during_a_save_leaves_the_checkpoint_before(config_file, tmp_path):
    process = start(config_file, tmp_path, KILL_IN_SAVE)
    output = process.communicate(timeout=240)
    assert process.returncode == -signal.SIGKILL, output
    saved = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert {"3", "4"} & saved
    assert "6" not in saved
    again = start(config_file, tmp_path)
    output = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert "going on after step 3" in output[1] or "going on after step 4" in output[1]
