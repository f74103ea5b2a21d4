"""The page of a bench: escaped, complete, and honest about what is missing."""

import copy

from satjax.evaluation.report import write_html

ROUTING = {
    "router": 0.5,
    "by_seed": [0.5, 0.54],
    "best_single": 0.48,
    "random": 0.25,
    "oracle": 0.9,
    "n": 50,
    "router_interval": {"mean": 0.5, "low": 0.41, "high": 0.59, "n": 50},
}
MEASURES = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier", "ece", "log_loss")


def method(value: float, **routing) -> dict:
    figure = {"mean": value, "deviation": 0.01, "low": value - 0.1, "high": value + 0.1, "n": 50}
    return {
        "seeds": 2,
        "fit_seconds": 1.5,
        "chosen": {},
        "correctness": {name: dict(figure) for name in MEASURES},
        "reliability": {"probability": [0.2, 0.8], "outcome": [0.3, 0.7], "count": [5, 5]},
        "routing": {"all": {**ROUTING, **routing}},
    }


FIGURES = {
    "split": "test",
    "instructions": 50,
    "candidates": ["a", "b"],
    "synthetic": False,
    "methods": {
        "router": method(0.7),
        "<b>rival</b>": method(0.6, router_gain={"mean": 0.021, "low": 0.001, "high": 0.04, "n": 50}),
    },
}


def page_of(figures: dict, tmp_path) -> str:
    write_html(figures, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_figures_intervals_and_gains_are_there(tmp_path):
    page = page_of(FIGURES, tmp_path)
    assert "50 instructions of the test split, 2 candidates" in page
    assert "52.00 <small>[41.0, 59.0]</small>" in page
    assert "0.7000 ± 0.0100 <small>[0.600, 0.800]</small>" in page
    assert "+2.10 <small>[0.1, 4.0]</small>" in page
    assert "48.00" in page
    assert "synthetic" not in page


def test_names_are_escaped(tmp_path):
    page = page_of(FIGURES, tmp_path)
    assert "<b>rival</b>" not in page
    assert "&lt;b&gt;rival&lt;/b&gt;" in page


def test_the_best_of_a_column_is_marked_and_less_is_better_for_losses(tmp_path):
    page = page_of(FIGURES, tmp_path)
    # Three AUROCs are the router's, three losses the rival's; both route alike.
    assert page.count('<td class="best">0.7000') == 3
    assert page.count('<td class="best">0.6000') == 3
    assert page.count('<td class="best">52.00') == 2


def test_what_is_missing_is_a_dash(tmp_path):
    figures = copy.deepcopy(FIGURES)
    for entry in figures["methods"].values():
        entry["routing"]["all"]["best_single"] = None
        entry["correctness"]["ece"] = {"mean": None, "deviation": None, "low": None, "high": None, "n": 50}
    del figures["methods"]["<b>rival</b>"]["routing"]["all"]["router_gain"]
    page = page_of(figures, tmp_path)
    assert page.count("<td>–") == 3
    assert "points" not in page
