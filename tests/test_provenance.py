"""A report says what it is of."""

import json
from dataclasses import replace

from satjax.cli import main
from satjax.evaluation.provenance import made_of
from satjax.export import router_sha256
from satjax.outcomes import read_table
from tests.trained import Trained


def test_outcomes_and_routers_are_told_apart(trained: Trained):
    table = read_table(trained.outcomes)
    made = made_of("outcomes", table, [trained.router, "default"], encoder="dir:x")
    ours, shipped = made["routers"]
    assert ours == {"path": str(trained.router), "sha256": router_sha256(trained.router)}
    assert shipped["path"] == "default"
    assert made["encoder"] == "dir:x"
    other = replace(table, scores_MN=1 - table.scores_MN)
    assert made_of("outcomes", other)["outcomes"]["sha256"] != made["outcomes"]["sha256"]
    assert made_of("elsewhere", table)["outcomes"]["sha256"] == made["outcomes"]["sha256"]
    assert "routers" not in made_of("outcomes", table)


def test_every_report_says_so(trained: Trained, tmp_path, capsys):
    flags = ["--router", str(trained.router), "--outcomes", str(trained.outcomes)]
    assert main(["evaluate", *flags, "--out", str(tmp_path)]) == 0
    made = json.loads((tmp_path / "report.json").read_text())["made"]
    assert made["routers"][0]["path"] == str(trained.router)
    encoder = f"dir:{trained.directory / 'encoder'}"
    page = page_of_a_bench(trained, tmp_path, encoder)
    assert f"Made by satjax {made['satjax']} of outcomes {trained.outcomes}" in page
    assert made["routers"][0]["sha256"][:12] in page


def page_of_a_bench(trained: Trained, folder, encoder: str) -> str:
    from satjax.evaluation.bench import bench
    from satjax.evaluation.report import write_html
    from satjax.router import Router

    table = read_table(trained.outcomes)
    figures = bench([Router.load(trained.router)], table, encoder=None, baselines=["candidate_means"])
    figures["made"] = made_of(trained.outcomes, table, [trained.router], encoder=encoder)
    write_html(figures, folder / "page.html")
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert f"the baselines read embeddings of {encoder}" in " ".join(page.split())
    return page
