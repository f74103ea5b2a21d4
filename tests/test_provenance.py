"""A report says what it is of."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from satjax.cli import main
from satjax.config.load import load_config
from satjax.evaluation.provenance import made_of, table_sha256
from satjax.export.directory import router_sha256
from satjax.outcomes import read_table
from satjax.weights import fetch
from tests.trained import Trained


def test_outcomes_routers_and_configs_are_told_apart(trained: Trained):
    table = read_table(trained.outcomes)
    made = made_of("outcomes", table, [trained.router, "default"], encoder="dir:x")
    ours, shipped = made["routers"]
    assert ours == {"path": str(trained.router), "sha256": router_sha256(trained.router)}
    assert shipped["path"] == "default"
    assert made["encoder"] == "dir:x"
    assert made_of("elsewhere", table)["outcomes"]["sha256"] == made["outcomes"]["sha256"]
    assert not made_of("outcomes", table).keys() & {"routers", "config_sha256"}
    smoke = str(Path(__file__).parents[1] / "configs" / "smoke.py")
    configs = [load_config(smoke, [f"--config.seed={seed}"]) for seed in (0, 1)]
    one, two = (made_of("outcomes", table, config=config)["config_sha256"] for config in configs)
    assert one != two


def test_whatever_a_figure_can_depend_on_counts(trained: Trained):
    table = read_table(trained.outcomes)
    first, *rest = table.items
    others = [
        replace(table, scores_MN=1 - table.scores_MN),
        replace(table, cost_usd_MN=np.ones_like(table.scores_MN)),
        replace(table, items=(replace(first, split="val" if first.split == "test" else "test"), *rest)),
        replace(table, items=(replace(first, task="another"), *rest)),
        replace(table, candidates=(replace(table.candidates[0], family="another"), *table.candidates[1:])),
    ]
    assert len({table_sha256(each) for each in (table, *others)}) == 1 + len(others)


def test_every_report_says_so(trained: Trained, tmp_path, monkeypatch):
    encoder = f"dir:{trained.directory / 'encoder'}"
    resolve = fetch.resolve
    monkeypatch.setattr(fetch, "resolve", lambda _: resolve(encoder))
    flags = ["--router", str(trained.router), "--outcomes", str(trained.outcomes), "--out", str(tmp_path)]
    expected = made_of(trained.outcomes, read_table(trained.outcomes), [trained.router])
    assert main(["evaluate", *flags]) == 0
    assert json.loads((tmp_path / "report.json").read_text())["made"] == expected | {"candidates": None}
    assert main(["bench", *flags, "--baselines", "candidate_means"]) == 0
    made = json.loads((tmp_path / "report.json").read_text())["made"]
    assert made == expected | {"encoder": encoder}
    page = " ".join((tmp_path / "report.html").read_text(encoding="utf-8").split())
    assert f"Made by satjax {made['satjax']} of outcomes {trained.outcomes}" in page
    assert made["routers"][0]["sha256"][:12] in page
    assert f"; the baselines read embeddings of {encoder}" in page
