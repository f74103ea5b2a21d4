"""The pages of a bench and of each protocol: escaped, complete, and honest about what is missing."""

import copy
from collections import Counter
from html.parser import HTMLParser

from satjax.evaluation.comparison import ONE_NEW, SEEN
from satjax.evaluation.report.html import write_html
from satjax.metrics import CORRECTNESS

ROUTING = {
    "router": 0.52,
    "by_seed": [0.5, 0.54],
    "best_single": 0.48,
    "best_single_candidate": "a",
    "best_single_chosen_on": "train",
    "random": 0.25,
    "oracle": 0.9,
    "n": 50,
    "router_interval": {"mean": 0.52, "low": 0.41, "high": 0.59, "n": 50},
    "best_single_interval": {"mean": 0.48, "low": 0.35, "high": 0.6, "n": 50},
    "random_interval": {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 50},
    "oracle_interval": {"mean": 0.9, "low": 0.8, "high": 0.95, "n": 50},
    "gap_recovered": 0.095,
    "gap_interval": {"mean": 0.095, "low": -0.02, "high": 0.21, "n": 50},
    "selection_entropy": 0.71,
    "entropy_interval": {"mean": 0.71, "low": 0.6, "high": 0.8, "n": 50},
}
MEASURES = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier", "ece", "log_loss")


def method(value: float, **routing) -> dict:
    figure = {"mean": value, "deviation": 0.01, "low": value - 0.1, "high": value + 0.1, "n": 50}
    return {
        "seeds": 2,
        "fit_seconds": 1.5,
        "chosen": {},
        "correctness": {name: dict(figure) for name in MEASURES},
        "reliability": {
            "low": [0.2, 0.75],
            "high": [0.25, 0.8],
            "probability": [0.21, 0.79],
            "outcome": [0.3, 0.7],
            "count": [5, 1234],
        },
        "routing": {"all": {**ROUTING, **routing}},
    }


FIGURES = {
    "split": "test",
    "instructions": 50,
    "candidates": ["a", "b"],
    "synthetic": False,
    "methods": {
        "router": method(0.7),
        "<b>rival</b>": {
            **method(0.6, router_gain={"mean": 0.021, "low": 0.001, "high": 0.04, "n": 50}),
            "router_less_it": {name: {"mean": 0.0123, "low": -0.0005, "high": 0.025, "n": 50} for name in CORRECTNESS},
        },
    },
}


PNG = 'src="data:image/png;base64,iVBOR'


def page_of(figures: dict, tmp_path) -> str:
    write_html(figures, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_figures_intervals_and_gains_are_there(tmp_path):
    page = page_of(FIGURES, tmp_path)
    assert "50 instructions of the test split, 2 candidates" in page
    assert "52.00 <small>[41.0, 59.0]</small>" in page
    assert "0.7000 ± 0.0100 <small>[0.600, 0.800]</small>" in page
    assert "+2.10 <small>[0.1, 4.0]</small>" in page
    assert page.count("<td>+0.0123 <small>[-0.0005, 0.0250]</small></td>") == len(CORRECTNESS)
    assert "48.00 <small>[35.0, 60.0]</small>" in page
    assert "9.50 <small>[-2.0, 21.0]</small>" in page
    assert "71.00 <small>[60.0, 80.0]</small>" in page
    assert '<th scope="col">0.20 – 0.25</th><th scope="col">0.75 – 0.80</th>' in page
    assert page.count("<td>0.210 → 0.300 <small>n = 5</small></td><td>0.790 → 0.700 <small>n = 1234</small></td>") == 2
    assert "synthetic" not in page
    check_outline(page)


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


def test_bold_goes_to_rivals_and_the_page_says_what_it_means(tmp_path):
    assert "Bold is the best of a column.</p>" in page_of(FIGURES, tmp_path)
    methods = {**FIGURES["methods"], SEEN: method(0.9, router=0.99), ONE_NEW: method(0.1, router=0.95)}
    page = page_of({**FIGURES, "methods": methods, "protocol": "unseen families", "folds": {"a": ["x"]}}, tmp_path)
    assert f"Bold is the best of a column, {SEEN} and {ONE_NEW} apart: more went into them.</p>" in page
    assert page.count('<td class="best">0.7000') == page.count('<td class="best">0.6000') == 3
    assert page.count('class="best"') == page.count('<span class="heard"> best</span></td>') == 10


def test_where_the_best_single_candidate_was_chosen(tmp_path):
    def with_routing(**routing):
        return {**FIGURES, "methods": {name: method(0.7, **routing) for name in FIGURES["methods"]}}

    assert "is chosen on the train split" in page_of(FIGURES, tmp_path)
    assert "is chosen on the val split" in page_of(with_routing(best_single_chosen_on="val"), tmp_path)
    nobody = with_routing(best_single_candidate=None, best_single_chosen_on="test")
    page = page_of(nobody, tmp_path)
    assert "There is no best single candidate: the table has outcomes of no other split" in page
    assert "is chosen on" not in page


class Outline(HTMLParser):
    """What people who hear a page, or use a keyboard, go by."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()
        self.open = []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.counts[tag] += 1
        self.counts[f"{tag} scope"] += "scope" in named
        self.counts["focusable"] += named.get("tabindex") == "0" and bool(named["aria-label"])
        self.counts["viewport"] += named.get("name") == "viewport"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline_of(page: str) -> Counter:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    return outline.counts


def check_outline(page: str) -> None:
    counts = outline_of(page)
    assert counts["table"] == counts["caption"] == counts["focusable"] > 0
    assert counts["th"] == counts["th scope"]
    assert page.count('scope="row"') == counts["tr"] - counts["table"], "a head each, and a name in every other row"
    assert counts["viewport"] == 1


def test_what_is_missing_is_a_dash(tmp_path):
    figures = copy.deepcopy(FIGURES)
    for entry in figures["methods"].values():
        routing = ("best_single", "best_single_candidate", "best_single_interval", "gap_recovered")
        entry["routing"]["all"] |= dict.fromkeys(routing) | {"gap_interval": {"low": None, "high": None}}
        entry["correctness"]["ece"] = {"mean": None, "deviation": None, "low": None, "high": None, "n": 50}
    del figures["methods"]["<b>rival</b>"]["routing"]["all"]["router_gain"]
    page = page_of(figures, tmp_path)
    assert page.count("<td>–") == 5
    assert "points" not in page


def test_a_bench_by_folds_says_what_was_left_out(tmp_path):
    page = page_of(
        {**FIGURES, "protocol": "unseen families", "folds": {"<i>llama": ["l-1", "l-2"], "yi": ["y"]}}, tmp_path
    )
    assert "<h1>satjax protocol: unseen families</h1>" in page
    assert "never met its family" in page
    assert "<li>&lt;i&gt;llama: l-1, l-2</li>" in page
    assert SEEN not in page
    assert ONE_NEW not in page
    page = page_of({**FIGURES, "protocol": "leave category out", "folds": ["law", "math"]}, tmp_path)
    assert "never met its category" in page
    assert "<li>law</li>" in page
    assert "left out in turn" not in page_of(FIGURES, tmp_path)


def test_fits_that_are_no_seeds_are_called_what_they_are(tmp_path):
    methods = {"router": method(0.7), SEEN: method(0.8), ONE_NEW: method(0.75) | {"seeds": 9, "differ_in": "families"}}
    found = {**FIGURES, "methods": methods, "protocol": "unseen families", "folds": {"a": ["x"], "b": ["y"]}}
    page = page_of(found, tmp_path)
    assert f"Those of {ONE_NEW} are means over the 9 families that were left out in turn" in page
    assert "<td>9 families</td>" in page
    assert "<td>2</td>" in page
    assert f"{SEEN} was trained on what those have not met" in page
    assert f"{ONE_NEW} is each of those routers among all candidates" in page
    assert "families" not in page_of(FIGURES, tmp_path)


def test_candidates_of_unknown_cost_are_named(tmp_path):
    points = {"cost": [0.001, 0.002], "outcome": [0.5, 0.6]}
    priced = {"expected_cost": 0.001, "cost": 0.001, "outcome": 0.5}
    cost = {
        "n": 50,
        "range": [0.001, 0.002],
        "candidates": {"a": priced},
        "left_out": [],
        "zero_router": {"n": 50, "aiq": 0.5, "hull": points},
        "oracle": {"aiq": 0.9, "hull": points},
    }
    figure = {"mean": 0.6, "deviation": None, "low": 0.5, "high": 0.7, "n": 50}
    found = {"aiq": figure, "above_zero_router": figure, "hull": points}
    figures = {**FIGURES, "cost": cost, "methods": {"router": method(0.7) | {"cost": found}}}
    page = page_of(figures, tmp_path)
    assert "for want of costs" not in page
    check_outline(page)
    page = page_of({**figures, "cost": {**cost, "left_out": ["<c>", "d"]}}, tmp_path)
    assert "for want of costs in the training split or in this one: &lt;c&gt;, d." in page


def test_a_method_that_is_told_the_task_is_named(tmp_path):
    told = "subject_means is told the true task of each instruction"
    assert told not in page_of(FIGURES, tmp_path)
    assert told in page_of({**FIGURES, "methods": {**FIGURES["methods"], "subject_means": method(0.5)}}, tmp_path)


def test_what_is_not_fitted_has_no_seconds(tmp_path):
    methods = {"router": method(0.7), "rerank": method(0.6) | {"fit_seconds": None, "chosen": {}}}
    assert page_of({**FIGURES, "methods": methods}, tmp_path).count("<td>–</td>") == 1


def test_a_release_stream(tmp_path):
    step = {
        "newest": "new<1>",
        "release_date": "2024-07",
        "best_single_candidate": "old",
        "router": 0.4242,
        "best_single": 0.4,
        "random": 0.1,
        "oracle": 0.9,
        "n": 77,
        "router_interval": {"mean": 0.4242, "low": 0.31, "high": 0.53, "n": 77},
        "best_single_interval": {"mean": 0.4, "low": 0.29, "high": 0.51, "n": 77},
        "random_interval": {"mean": 0.1, "low": 0.05, "high": 0.16, "n": 77},
        "oracle_interval": {"mean": 0.9, "low": 0.82, "high": 0.96, "n": 77},
        "selection_entropy": 0.625,
        "gain_interval": {"mean": 0.0242, "low": -0.01, "high": 0.05, "n": 77},
    }
    collapsed = {**step, "selection_entropy": 0.0}
    page = page_of({"protocol": "release stream", "trained_on": ["a", "b"], "releases": [step, collapsed]}, tmp_path)
    assert "the first 2 candidates (a, b)" in page
    assert page.count("new&lt;1&gt;") == page.count("<td>77</td>") == 2
    assert "<td>42.42 <small>[31.0, 53.0]</small></td>" in page
    assert "<td>40.00 <small>[29.0, 51.0]</small></td>" in page
    assert "<td>10.00 <small>[5.0, 16.0]</small></td>" in page
    assert "<td>90.00 <small>[82.0, 96.0]</small></td>" in page
    assert page.count("<td>0.62</td>") == page.count("<td>0.00</td>") == 1
    assert "+2.42 <small>[-1.0, 5.0]</small>" in page
    check_outline(page)
    assert PNG in page
    assert "No figures for" not in page
    short = {**step, "reason": "3 of 12"}
    page = page_of({"protocol": "release stream", "trained_on": ["a", "b"], "releases": [short]}, tmp_path)
    assert "No figures for new&lt;1&gt;: 3 of 12." in page


def test_routing_that_cannot_be_measured_says_why(tmp_path):
    assert "No routing accuracy" not in page_of(FIGURES, tmp_path)
    unknown = dict.fromkeys(("router", "best_single", "random", "oracle", "gap_recovered", "selection_entropy"))
    page = page_of({**FIGURES, "methods": {"router": method(0.7, **unknown, reason="3 of 50")}}, tmp_path)
    assert "No routing accuracy for all: 3 of 50." in page


def test_onboarding(tmp_path):
    names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier", "ece", "log_loss")
    intervals = {name: [0.65, 0.75] for name in names} | {"routed": [0.45, 0.55]}
    deviations = dict.fromkeys([*names, "routed"])
    size = {**dict.fromkeys(names, 0.7), "routed": 0.5, "draws": 1, "deviations": deviations, "intervals": intervals}
    unknown = {
        **size,
        "mean_items": 60.52,
        "auroc_per_candidate": None,
        "intervals": {**intervals, "auroc_per_candidate": [None, None]},
    }
    figures = {"protocol": "onboarding", "instructions": 9, "candidates": ["a"], "sizes": {"16": size, "64": unknown}}
    page = page_of(figures, tmp_path)
    assert "9 instructions" in page
    assert page.count("0.7000 <small>[0.650, 0.750]</small>") == 11
    assert "<td>– <small></small></td>" in page
    assert '<th scope="row">16</th>' in page
    assert '<th scope="row">64 <small>60.5 on average</small></th>' in page
    assert page.count("50.00 <small>[45.0, 55.0]</small>") == 2
    check_outline(page)
    assert PNG in page


def test_coverage(tmp_path):
    ends = {"mean_interval": {"low": 0.2, "high": 0.35}, "best_interval": {"low": 0.45, "high": 0.6}}
    share = {"mean": 0.25, "best": 0.5, **ends}
    size = {"unions": 3, "covers_best": share, "oracle": share, "best_union": ["b", "c<d>"]}
    found = {
        "protocol": "coverage",
        "chosen_on": "train",
        "best_candidate": "a&b",
        "best_candidate_right": 0.75,
        "best_candidate_right_interval": {"low": 0.7, "high": 0.85},
        "instructions": 8,
        "sizes": {"2": size},
    }
    page = page_of(found, tmp_path)
    assert "a&amp;b, the best candidate, is right on\n75.00 <small>[70.0, 85.0]</small> % of 8 instructions" in page
    assert page.count("<td>25.00 <small>[20.0, 35.0]</small></td><td>50.00 <small>[45.0, 60.0]</small></td>") == 2
    assert "were chosen on the train split" in page
    assert 'class="warn"' not in page
    assert "b, c&lt;d&gt;" in page
    check_outline(page)
    assert PNG in page
    assert 'class="warn">No outcomes outside the test split' in page_of({**found, "chosen_on": "test"}, tmp_path)
