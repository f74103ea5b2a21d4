"""The speed benchmarks run to their end, on small sizes: what a box that is lent for minutes is to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALL = ("--runs", "1", "--instruction-tokens", "24", "--profile-tokens", "40")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("rank", (*SMALL, "--lengths", "2"), {"figures", "ratios", "compilations_after_warm_up"}),
        ("train", (*SMALL, "--rows", "1"), {"figures", "outcomes_per_second_of_the_published_way"}),
        ("scale", ("--runs", "1", "--points", "2"), {"series"}),
    ],
)
def test_a_small_run(name, options, expected, tmp_path):
    out = tmp_path / "report.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--out", str(out), *options]
    done = subprocess.run(command, env={**os.environ, "XLA_FLAGS": ""}, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert expected <= set(report)
    assert report.get("compilations_after_warm_up", 0) == 0
    assert report.get("relative_difference_between_libraries", 0) < 1e-4
