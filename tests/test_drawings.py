import base64
import io
import warnings

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from satjax.evaluation.report import drawings

HULL = {"cost": [1e-4, 4e-3], "outcome": [0.5, 0.9]}
STEP = {
    "newest": "a",
    "release_date": "2024-01",
    "router": 0.5,
    "best_single": None,
    "random": 0.1,
    "oracle": 0.9,
    "router_interval": {"low": 0.4, "high": 0.55},
    "best_single_interval": {"low": None, "high": None},
    "random_interval": {"low": 0.05, "high": 0.15},
    "oracle_interval": {"low": 0.8, "high": 0.95},
}
SHARE = {
    "mean": 0.25,
    "best": 0.5,
    "mean_interval": {"low": 0.2, "high": 0.35},
    "best_interval": {"low": 0.45, "high": 0.6},
}
COVERAGE = {
    "chosen_on": "train",
    "best_candidate": "a",
    "best_candidate_right": 0.75,
    "best_candidate_right_interval": {"low": 0.7, "high": 0.85},
    "sizes": {"1": {"covers_best": SHARE, "oracle": SHARE}},
}
SIZE = {
    "auroc_pooled": 0.7,
    "auroc_per_candidate": None,
    "auroc_within_instruction": 0.6,
    "routed": 0.5,
    "deviations": dict.fromkeys(["auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "routed"]),
    "intervals": {
        "auroc_pooled": [0.6, 0.8],
        "auroc_per_candidate": [None, None],
        "auroc_within_instruction": [0.5, 0.7],
        "routed": [0.4, 0.55],
    },
}


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that were saved."""
    saved, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **options: (saved.append(self), savefig(self, *a, **options))
    )
    return saved


def pixels(png: str) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(png)))


def cost_figures(names: list[str], costs: list[float], outcomes: list[float]) -> dict:
    points = zip(names, costs, outcomes, strict=True)
    return {
        "range": [min(costs), max(costs)],
        "candidates": {name: {"cost": cost, "outcome": outcome} for name, cost, outcome in points},
        "zero_router": {"hull": HULL},
        "oracle": {"hull": {"cost": [1e-4], "outcome": [0.95]}},
    }


def methods(count: int) -> dict:
    one = {"reliability": {"probability": [0.1, 0.9], "outcome": [0.2, 0.8]}, "cost": {"hull": HULL}}
    return {"router": one, **{f"m{i}": one for i in range(count)}}


def test_names_of_candidates_close_to_each_other_do_not_cover_each_other(drawn):
    names = [f"org/candidate-{i}" for i in range(6)]
    costs, outcomes = [1e-4, 1.05e-4, 1.1e-4, 5e-3, 5.2e-3, 5.4e-3], [0.5, 0.502, 0.498, 0.9, 0.901, 0.903]
    drawings.quality_against_cost(cost_figures(names, costs, outcomes), methods(2))
    (axes,) = drawn[0].axes
    notes = [each for each in axes.get_children() if isinstance(each, Annotation)]
    assert [note.get_text() for note in notes] == [name.removeprefix("org/") for name in names]
    boxes = [Text.get_window_extent(note) for note in notes]
    assert all(box.count_overlaps([other for other in boxes if other is not box]) == 0 for box in boxes)
    frame = axes.get_window_extent()
    assert all(frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) for box in boxes)


def test_candidates_of_one_last_name_keep_the_first(drawn):
    names = ["a/llama", "b/llama", "org/", "org/yi", "plain"]
    drawings.quality_against_cost(
        cost_figures(names, [1e-4, 1e-3, 2e-3, 4e-3, 5e-3], [0.5, 0.6, 0.7, 0.8, 0.9]), methods(1)
    )
    notes = [each for each in drawn[0].axes[0].get_children() if isinstance(each, Annotation)]
    assert [note.get_text() for note in notes] == ["a/llama", "b/llama", "org/", "yi", "plain"]


def test_costs_far_apart_have_a_logarithmic_axis_and_lines_bend_on_it(drawn):
    for costs, scale in (([1e-4, 5e-3], "log"), ([1e-3, 5e-3], "linear"), ([0.0, 5e-3], "linear")):
        drawings.quality_against_cost(cost_figures(["a", "b"], costs, [0.5, 0.9]), methods(1))
        assert drawn[-1].axes[0].get_xscale() == scale
    router = next(line for line in drawn[0].axes[0].get_lines() if line.get_label() == "router")
    cost, outcome = router.get_data()
    np.testing.assert_allclose(outcome, np.interp(cost, [0.1, 4], [50, 90]))
    assert cost[-1] == pytest.approx(5)
    assert len(cost) > 100


def test_dollars_in_names_are_no_mathematics(drawn):
    name = r"a-$x^_{$-\b"
    literal = name.replace("$", r"\$")
    drawings.quality_against_cost(cost_figures([name, "b"], [1e-4, 5e-3], [0.5, 0.9]), {name: methods(0)["router"]})
    drawings.reliability({name: methods(0)["router"]})
    drawings.release_stream([{**STEP, "newest": name}])
    drawings.coverage({**COVERAGE, "best_candidate": name})
    assert len(drawn) == 4
    for figure in drawn:
        assert any(literal in text.get_text() for text in figure.findobj(Text))


def test_every_method_has_a_line_of_its_own_and_the_router_is_in_front(drawn):
    drawings.reliability(methods(15))
    lines = [line for line in drawn[0].axes[0].get_lines() if not line.get_label().startswith("_")]
    assert [line.get_label() for line in lines] == [*(f"m{i}" for i in range(15)), "router"]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 16
    assert lines[-1].get_zorder() == max(line.get_zorder() for line in lines)


def test_protocols_are_drawn_with_what_is_missing_left_out(drawn):
    for png in (
        drawings.release_stream([STEP, {**STEP, "newest": "b"}]),
        drawings.onboarding({"16": SIZE, "64": SIZE}),
        drawings.coverage(COVERAGE),
    ):
        assert pixels(png).std() > 0.05
    stream, onboarding, coverage = drawn
    assert [label.get_text() for label in stream.axes[0].get_xticklabels()] == ["a  2024-01", "b  2024-01"]
    assert [axes.get_xscale() for axes in onboarding.axes] == ["log", "log"]
    assert [label.get_text() for label in onboarding.axes[0].get_xticklabels()] == ["16", "64"]
    (bars,) = onboarding.axes[1].collections
    np.testing.assert_allclose([bar[:, 1] for bar in bars.get_segments()], [[40, 55]] * 2)
    assert coverage.axes[1].get_lines()[-1].get_ydata() == [75, 75]
    for axes in coverage.axes:
        best, mean = (bars.get_segments()[0][:, 1] for bars in axes.collections)
        np.testing.assert_allclose([best, mean], [[45, 60], [20, 35]])
    (band,) = coverage.axes[1].patches
    np.testing.assert_allclose(band.get_window_extent().y1, coverage.axes[1].transData.transform((0, 85))[1])
    of_oracle, of_router, of_best_single, of_random = (band.get_paths() for band in stream.axes[0].collections)
    assert of_best_single == []
    for (path,), ends in ((of_oracle, [80, 95]), (of_router, [40, 55]), (of_random, [5, 15])):
        np.testing.assert_allclose(np.unique(path.vertices[:, 1]), ends)


def test_how_far_single_draws_are_is_a_band(drawn):
    far = {**SIZE, "deviations": {**SIZE["deviations"], "routed": 0.2}}
    drawings.onboarding({"16": far, "64": SIZE})
    bars, band = drawn[0].axes[1].collections
    np.testing.assert_allclose([bar[:, 1] for bar in bars.get_segments()], [[40, 55]] * 2)
    np.testing.assert_allclose(np.unique(band.get_paths()[0].vertices[:, 1]), [30, 50, 70])


def test_coverage_without_weaker_candidates_or_ends_is_drawn(drawn):
    nothing = {"low": None, "high": None}
    drawings.coverage({**COVERAGE, "best_candidate_right_interval": nothing, "sizes": {}})
    assert drawn[0].axes[1].get_lines()[-1].get_ydata() == [75, 75]


@pytest.mark.parametrize("installed", [True, False])
def test_letters_that_the_font_lacks_come_from_another_one_where_that_is_installed(installed, monkeypatch, caplog):
    """The only letter of East Asia in matplotlib's other fonts stands for all."""
    name = "の"
    monkeypatch.setattr(drawings, "EAST_ASIAN", ("Nowhere Sans", *(["STIXGeneral"] if installed else [])))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        drawings.quality_against_cost(cost_figures([name, "b"], [1e-4, 5e-3], [0.5, 0.9]), {name: methods(0)["router"]})
        drawings.reliability({name: methods(0)["router"]})
        drawings.release_stream([{**STEP, "newest": name}])
        drawings.coverage({**COVERAGE, "best_candidate": name})
    assert any("missing from font" in str(each.message) for each in said) != installed
    assert "Nowhere" not in caplog.text
