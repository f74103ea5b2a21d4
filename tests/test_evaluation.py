"""What people see of a report and of a bench, whatever is known of costs."""

import contextlib
from types import SimpleNamespace

import pytest

from satjax.render.evaluation import bench_table, report_table
from tests.test_load import CONFIGS

FIGURES = {
    "synthetic": True,
    "instructions": 12,
    "split": "test",
    "candidates": ["a", "b"],
    "correctness": {"auroc_pooled": 0.71234, "auroc_per_candidate": None},
    "routing": {
        "all": {"router": 0.5, "best_single": None, "random": 0.25, "oracle": 1.0, "n": 12, "n_with_a_choice": 12}
    },
}
COST = {"range": [8.12e-05, 0.00499], "left_out": [], "zero_router": {"aiq": 0.7}, "oracle": {"aiq": 0.95}}
PAIR = {
    "strong": {"candidate": "[b]s"},
    "weak": {"candidate": "w"},
    "oracle": {"apgr": 0.9, "cpt50": 0.1, "cpt80": 0.2},
}


def test_a_report(capsys):
    report_table(FIGURES)
    out = capsys.readouterr().out
    assert "synthetic zoo: generated instructions, planted abilities" in out
    assert "12 instructions (test), 2 candidates" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["auroc_pooled", "0.7123"] in rows
    assert ["auroc_per_candidate", "None"] in rows
    assert ["routing", "accuracy", "(all):", "router", "50.00", "%"] in rows
    assert ["routing", "accuracy", "(all):", "best_single", "None"] in rows
    assert "on" not in out.split()
    few = {**FIGURES["routing"]["all"], "n": 3, "n_with_a_choice": 5}
    report_table({**FIGURES, "routing": {"[/llama]": few}})
    assert "routing accuracy ([/llama]): router" in capsys.readouterr().out
    report_table({**FIGURES, "synthetic": False, "routing": {"all": few}})
    out = capsys.readouterr().out
    assert "synthetic" not in out
    assert ["routing", "accuracy", "(all):", "on", "3", "instructions"] in [line.split() for line in out.splitlines()]
    rows = [line.split() for line in out.splitlines()]
    assert ["routing", "accuracy", "(all):", "two", "answered", "5", "instructions"] in rows
    assert "no routing accuracy" not in out
    report_table({**FIGURES, "routing": {"[/x]": few | {"router": None, "reason": "3 of 12"}}})
    assert "no routing accuracy ([/x]): 3 of 12\n" in capsys.readouterr().out


def test_a_bench(capsys):
    def method(value: float, accuracies: list[float]) -> dict:
        names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
        routing = {"all": {"by_seed": accuracies, "best_single": 0.5, "oracle": None, "n": 12, "n_with_a_choice": 12}}
        return {"correctness": {name: {"mean": value} for name in names}, "routing": routing}

    methods = {"router": method(0.75, [0.5]), "neighbours": method(0.7, [0.25, 0.5])}
    bench_table({**FIGURES, "methods": methods})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["router", "0.7500", "0.7500", "0.7500", "0.7500"] in rows
    assert ["neighbours", "37.50", "%"] in rows
    assert ["best_single", "50.00", "%"] in rows
    assert ["oracle", "None"] in rows
    assert not any(row[:1] == ["instructions"] for row in rows)
    assert not any(row[:3] == ["two", "candidates", "answered"] for row in rows)
    for found in methods.values():
        found["routing"]["all"] |= {"n": 3, "n_with_a_choice": 5, "reason": "3 of 12"}
    bench_table({**FIGURES, "methods": methods})
    out = capsys.readouterr().out
    assert "no routing accuracy (all): 3 of 12\n" in out
    assert ["two", "candidates", "answered", "5"] in [line.split() for line in out.splitlines()]
    assert not any("left" in row for row in rows)
    bench_table({**FIGURES, "methods": {"[/b]": methods["router"] | {"seeds": 9, "differ_in": "families"}}})
    said = "[/b]: means over the 9 families that were left out in turn, not over seeds"
    assert said in capsys.readouterr().out
    for method in methods.values():
        method["routing"]["[/llama]"] = method["routing"]["all"]
    bench_table({**FIGURES, "methods": methods})
    assert ["routing", "accuracy", "all", "[/llama]"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    for method in methods.values():
        del method["routing"]["[/llama]"]
    methods["router"]["routing"]["all"] |= {"n": 0, "by_seed": [None, None]}
    bench_table({**FIGURES, "methods": methods})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["router", "None"] in rows
    assert ["instructions", "0"] in rows


@pytest.mark.parametrize("parts", [("cost", "pair"), ("cost",), ("pair",), ()])
def test_a_bench_with_costs_or_a_pair(capsys, parts):
    names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
    method = {
        "correctness": {name: {"mean": 0.5} for name in names},
        "routing": {"all": {"by_seed": [0.5], "best_single": 0.5, "oracle": None, "n": 12, "n_with_a_choice": 12}},
        "cost": {"aiq": {"mean": 0.8}, "above_zero_router": {"mean": 0.1}},
        "pair": {"apgr": {"mean": 0.6}, "cpt50": {"mean": 0.25}, "cpt80": {"mean": None}},
    }
    references = {name: {"cost": COST, "pair": PAIR}[name] for name in parts}
    bench_table({**FIGURES, **references, "methods": {"router": method}})
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    cost = ("0.8000 +0.1000", "0.9500", "0.7000") if "cost" in parts else ("", "", "")
    pair = ("0.6000 25.00 % None", "0.9000 10.00 % 20.00 %") if "pair" in parts else ("", "")
    if parts:
        assert " ".join(["router", cost[0], pair[0]]).replace("  ", " ").strip() in lines
        assert " ".join(["oracle", cost[1], pair[1]]).replace("  ", " ").strip() in lines
    assert ("zero_router 0.7000" in lines) == ("cost" in parts)
    assert ("AIQ: over budgets of $0.0812 to $4.99 per 1,000 calls" in lines) == ("cost" in parts)
    assert ("APGR, CPT: calls shared out between [b]s and w" in lines) == ("pair" in parts)
    assert any(line.startswith("quality against cost") for line in lines) == bool(parts)


def test_candidates_of_unknown_cost_are_named(capsys):
    names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
    method = {
        "correctness": {name: {"mean": 0.5} for name in names},
        "routing": {"all": {"by_seed": [0.5], "best_single": 0.5, "oracle": None, "n": 12, "n_with_a_choice": 12}},
        "cost": {"aiq": {"mean": 0.8}, "above_zero_router": {"mean": 0.1}},
    }
    for left_out, said in ((["[/b]", "c"], True), ([], False)):
        bench_table({**FIGURES, "cost": {**COST, "left_out": left_out}, "methods": {"router": method}})
        assert ("left out there, for want of costs: [/b], c\n" in capsys.readouterr().out) == said


@pytest.mark.parametrize("verb", ["evaluate", "bench", "protocol", "calibrate"])
def test_figures_are_shown_before_they_are_written(verb, monkeypatch, tmp_path):
    """A place that cannot be written costs no figures."""
    from satjax.cli import main

    made, figures = [], {}
    found = SimpleNamespace(figures=figures, calibration=None)
    for where, result in (
        ("satjax.router.Router.load", None),
        ("satjax.evaluation.evaluate.evaluate", figures),
        ("satjax.evaluation.bench.bench", figures),
        ("satjax.evaluation.protocols.onboarding.onboarding", figures),
        ("satjax.evaluation.calibrate.recalibrate", found),
    ):
        monkeypatch.setattr(where, lambda *_, result=result, **__: result)
    for where in (
        "satjax.render.evaluation.report_table",
        "satjax.render.evaluation.bench_table",
        "satjax.render.protocols.protocol_tables",
        "satjax.render.recalibration.calibration_tables",
    ):
        monkeypatch.setattr(where, lambda *_: made.append("shown"))
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("satjax.evaluation.calibrate.write_calibrated", lambda *_: (tmp_path / "file" / "x").mkdir())
    place = str(tmp_path / "file" / "reports")
    arguments = ["--outcomes", "synthetic", "--out", place]
    if verb == "protocol":
        arguments = ["onboarding", "--config", str(CONFIGS / "smoke.py"), "--workdir", place]
    with contextlib.suppress(NotADirectoryError):
        assert main([verb, *arguments]) == 2
    assert made == ["shown"]
