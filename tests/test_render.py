"""What people see; names are never cut, however narrow the terminal."""

import pytest

from satjax.calibration import Calibration, Threshold
from satjax.render import bench_table, calibration_tables, progress, protocol_tables, ranking_table, report_table, steps
from satjax.router import Ranked

LONG = "an-organization/a-candidate-with-a-name-that-is-much-longer-than-most-2024-08-06"


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")


def test_a_ranking(capsys):
    ranking_table("Sort [3, 1, 2].", [Ranked("able", 0.75), Ranked("[red]b[/red]", 0.5)], 5)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == "Sort [3, 1, 2]."
    assert lines[2].split() == ["#", "candidate", "P(handles", "it)"]
    assert lines[3].split() == ["1", "able", "0.750", "█" * 18]
    assert lines[4].split() == ["2", "[red]b[/red]", "0.500", "█" * 12]
    assert lines[5] == "(3 more candidates)"


def test_names_are_folded_not_cut(capsys, narrow):
    ranking_table("x", [Ranked(LONG, 1.0)], 1)
    out = capsys.readouterr().out
    assert LONG in "".join(word for word in out.split() if not set(word) & {"█", "#"}).replace("1.000", "")
    assert "1.000" in out
    assert "…" not in out
    assert "more candidates" not in out


def test_a_long_instruction_shows_its_ends(capsys):
    ranking_table("start " + "middle " * 100 + "the end", [Ranked("a", 0.1)], 1)
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("start middle")
    assert "…" in out
    assert "the end" in out
    assert len(out) < 400


FIGURES = {
    "synthetic": True,
    "instructions": 12,
    "split": "test",
    "candidates": ["a", "b"],
    "correctness": {"auroc_pooled": 0.71234, "auroc_per_candidate": None},
    "routing": {"all": {"router": 0.5, "best_single": None, "random": 0.25, "oracle": 1.0, "n": 12}},
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
    few = {**FIGURES["routing"]["all"], "n": 3}
    report_table({**FIGURES, "synthetic": False, "routing": {"all": few}})
    out = capsys.readouterr().out
    assert "synthetic" not in out
    assert ["routing", "accuracy", "(all):", "on", "3", "instructions"] in [line.split() for line in out.splitlines()]


def test_progress_keeps_standard_output_clean(capsys):
    with progress("scoring") as on_progress:
        on_progress(1, 2)
        on_progress(2, 2)
    assert capsys.readouterr().out == ""


def test_a_bench(capsys):
    def method(value: float, accuracies: list[float]) -> dict:
        names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
        routing = {"all": {"by_seed": accuracies, "best_single": 0.5, "oracle": None, "n": 12}}
        return {"correctness": {name: {"mean": value} for name in names}, "routing": routing}

    methods = {"router": method(0.75, [0.5]), "neighbours": method(0.7, [0.25, 0.5])}
    bench_table({**FIGURES, "methods": methods})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["router", "0.7500", "0.7500", "0.7500", "0.7500"] in rows
    assert ["neighbours", "37.50", "%"] in rows
    assert ["best_single", "50.00", "%"] in rows
    assert ["oracle", "None"] in rows
    assert not any(row[:1] == ["instructions"] for row in rows)
    methods["router"]["routing"]["all"] |= {"n": 0, "by_seed": [None, None]}
    bench_table({**FIGURES, "methods": methods})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["router", "None"] in rows
    assert ["instructions", "0"] in rows


COST = {"range": [8.12e-05, 0.00499], "zero_router": {"aiq": 0.7}, "oracle": {"aiq": 0.95}}
PAIR = {
    "strong": {"candidate": "[b]s"},
    "weak": {"candidate": "w"},
    "oracle": {"apgr": 0.9, "cpt50": 0.1, "cpt80": 0.2},
}


@pytest.mark.parametrize("parts", [("cost", "pair"), ("cost",), ("pair",), ()])
def test_a_bench_with_costs_or_a_pair(capsys, parts):
    names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
    method = {
        "correctness": {name: {"mean": 0.5} for name in names},
        "routing": {"all": {"by_seed": [0.5], "best_single": 0.5, "oracle": None, "n": 12}},
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


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter([0.0, 0.0, 10.0, 20.0, 22.0, 60.0])
    monkeypatch.setattr("satjax.render.time.monotonic", lambda: next(clock))
    with steps() as on_progress:
        for done in range(4):
            on_progress("baselines", done, 4)
        on_progress("baselines", 4, 4)
    assert capsys.readouterr().err.splitlines() == ["baselines: 2 of 4, about 20 s left"]


def test_steps_of_several_kinds(capsys):
    with steps() as on_progress:
        on_progress("embeddings", 1, 2)
        on_progress("baselines", 1, 3)
        on_progress("embeddings", 2, 2)
    assert capsys.readouterr().out == ""


def test_what_protocols_found(capsys):
    names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
    sizes = {"16": {**dict.fromkeys(names, 0.7), "routed": 0.5}}
    protocol_tables({"protocol": "onboarding", "sizes": sizes})
    assert ["16", "0.7000", "0.7000", "0.7000", "0.7000", "50.00", "%"] in rows_of(capsys)
    sizes["16"] |= {"mean_items": 14.25, "auroc_per_candidate": None}
    protocol_tables({"protocol": "onboarding", "sizes": sizes})
    assert ["16", "(mean", "14.2)", "0.7000", "None", "0.7000", "0.7000", "50.00", "%"] in rows_of(capsys)
    step = {
        "release_date": "2024-01",
        "newest": "[b]x",
        "router": 0.5,
        "best_single": 0.4,
        "random": 0.1,
        "oracle": 0.9,
    }
    protocol_tables({"protocol": "release stream", "releases": [step]})
    assert ["2024-01", "[b]x", "50.00", "%", "40.00", "%", "10.00", "%", "90.00", "%"] in rows_of(capsys)
    pair = {"mean": 0.25, "best": 0.5}
    found = {"best_candidate": "a", "best_candidate_right": 0.75, "instructions": 8}
    protocol_tables({"protocol": "coverage", **found, "sizes": {"2": {"covers_best": pair, "oracle": pair}}})
    rows = rows_of(capsys)
    assert ["a", "is", "right", "on", "75.00", "%", "of", "8", "instructions"] in rows
    assert ["2", "25.00", "%", "50.00", "%", "25.00", "%", "50.00", "%"] in rows


def rows_of(capsys):
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_thresholds_of_free_candidates_save_nothing_and_shares_that_none_keeps_say_so(capsys):
    calibration = Calibration(thresholds=(Threshold(0.9, 0.7, 0.5, 0.0, 0.55, 0.0),))
    found = {"brier": 0.1, "ece": None, "log_loss": 0.3}
    figures = {
        "split": "val",
        "instructions": 9,
        "candidates": ["a"],
        "method": "platt",
        "correctness": {"before": found, "platt": found},
    }
    figures |= {"best_candidate": "a", "priced_instructions": 9, "missed_shares": [0.99]}
    calibration_tables(calibration, figures)
    out = capsys.readouterr().out
    assert "platt (written)" in out
    assert "before (fitted on these)" in out
    assert "other folds than fitted on, but for before" in " ".join(out.split())
    calibration_tables(calibration, {**figures, "split": "test"})
    other = capsys.readouterr().out
    assert "fitted on these" not in other
    assert "but for" not in other
    assert out.index("99 %") < out.index("90 %") < out.index("0.700")
    assert "none does" in out
    assert "90.91 %" in out
