"""Methods beside each other, on outcomes that are known beforehand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from satjax import metrics
from satjax.evaluation import figures as figures_module
from satjax.evaluation.comparison import Method, compare
from satjax.evaluation.evaluate import write_report
from satjax.evaluation.intervals import RESAMPLES
from satjax.evaluation.report.html import write_html
from satjax.outcomes import synthetic_zoo
from satjax.render.evaluation import bench_table
from tests.costly import costly_figures, costly_zoo


def test_an_oracle_is_above_all_and_chance_has_no_gain():
    table = synthetic_zoo(seed=2, num_items=300, num_candidates=4)
    test = table.split("test")
    outcome = test.scores_MN.T
    noise = np.random.default_rng(0).random((2, *outcome.shape))
    methods = {"router": Method(np.stack([outcome, outcome]), {}, None), "noise": Method(noise, {}, 0.0)}
    figures = compare(methods, table, test, {})["methods"]
    assert figures["router"]["correctness"]["auroc_pooled"]["mean"] == 1.0
    gain = figures["noise"]["routing"]["all"]["router_gain"]
    assert gain["low"] > 0.2
    # The same method twice: no gain, and a paired interval of width 0.
    again = compare({"router": methods["noise"], "again": methods["noise"]}, table, test, {})["methods"]
    assert again["again"]["routing"]["all"]["router_gain"] | {"n": 0} == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 0}


def test_a_method_without_anything_to_be_measured_on_is_none_and_the_report_valid_json(tmp_path):
    """The best single candidate of the training split answered nothing of the test split."""
    table = synthetic_zoo(seed=2, num_items=300, num_candidates=4)
    best = int(table.split("train").scores_MN.mean(axis=1).argmax())
    test = table.split("test")
    scores = test.scores_MN.copy()
    scores[best] = np.nan
    noise = Method(np.random.default_rng(0).random((2, *scores.T.shape)), {}, None)
    figures = compare({"router": noise, "again": noise}, table, replace(test, scores_MN=scores), {})
    json.dumps(figures, allow_nan=False)
    assert figures["methods"]["router"]["routing"]["all"]["by_seed"] == [None, None]
    assert figures["methods"]["again"]["routing"]["all"]["router_gain"]["mean"] is None
    write_html(figures, tmp_path / "report.html")
    bench_table(figures)


@pytest.fixture(scope="module")
def costly() -> dict:
    return costly_figures()


def test_costs_and_a_pair_are_figures_of_every_method(costly):
    assert set(costly["methods"]["router"]) | {"router_less_it"} == set(costly["methods"]["noise"]) >= {"cost", "pair"}
    router, noise = (costly["methods"][name] for name in ("router", "noise"))
    assert router["cost"]["above_zero_router"]["low"] > 0 > noise["cost"]["above_zero_router"]["high"]
    assert router["pair"]["apgr"]["mean"] > noise["pair"]["apgr"]["mean"]
    assert costly["cost"]["zero_router"]["aiq"] < router["cost"]["aiq"]["mean"] < costly["cost"]["oracle"]["aiq"]
    dearest = max(costly["cost"]["candidates"].items(), key=lambda entry: entry[1]["expected_cost"])[0]
    assert costly["pair"]["strong"]["candidate"] == dearest


def test_a_method_that_calls_everyone_has_no_figures_of_one_call(tmp_path, capsys):
    table = costly_zoo()
    test = table.split("test")
    noise = np.random.default_rng(0).random((1, *test.scores_MN.T.shape))
    methods = {name: Method(noise, {}, 0.0) for name in ("router", "rerank", "neighbours")}
    figures = compare(methods, table, test, {})
    assert [name for name, method in figures["methods"].items() if {"cost", "pair"} & set(method)] == [
        "router",
        "neighbours",
    ]
    bench_table(figures)
    _, below = capsys.readouterr().out.split("quality against cost")
    assert "neighbours" in below
    assert "rerank" not in below
    write_html(figures, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    between = page[page.index("Quality against cost") : page.index("<h2>Reliability")]
    assert '<th scope="row">neighbours</th>' in between
    assert '<th scope="row">rerank</th>' not in between


def test_without_costs_two_candidates_alone_are_a_pair():
    table = synthetic_zoo(seed=2, num_items=200, num_candidates=2)
    test = table.split("test")
    noise = np.random.default_rng(0).random((1, *test.scores_MN.T.shape))
    two = compare({"noise": Method(noise, {}, 0.0)}, table, test, {})
    assert "cost" not in two
    assert {two["pair"]["strong"]["candidate"], two["pair"]["weak"]["candidate"]} == set(table.candidate_ids)
    assert list(two["methods"]["noise"]["pair"]) == ["apgr", "cpt50", "cpt80"]


def test_the_page_shows_costs_and_pair(costly, tmp_path):
    assert json.loads(write_report(costly, tmp_path).read_text()) == costly
    write_html(costly, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,iVBOR') == 2
    for text in (
        "Quality against cost",
        "zero router",
        "Sparing the strong candidate",
        "CPT(80 %)",
        *costly["candidates"],
    ):
        assert text in page
    for group, name in (("cost", "aiq"), ("pair", "apgr")):
        assert f"{costly['methods']['router'][group][name]['mean']:.4f} ± " in page


def test_correctness_is_measured_once_for_each_resample_of_a_method(monkeypatch):
    table, counted, correctness = synthetic_zoo(seed=2, num_items=300, num_candidates=4), [], metrics.correctness
    monkeypatch.setattr(metrics, "correctness", lambda *given: counted.append(0) or correctness(*given))
    test = table.split("test")
    noise = np.random.default_rng(0).random((3, 1, *test.scores_MN.T.shape))
    methods = dict(zip(("router", "one", "two"), (Method(fits, {}, None) for fits in noise), strict=True))
    compare(methods, table, test, {})
    assert len(counted) == 3 * (1 + RESAMPLES)


def test_the_best_single_candidate_of_a_zoo_is_found_once_for_all_methods_and_seeds(monkeypatch):
    table, found, best_single = costly_zoo(num_items=200, num_candidates=3), [], figures_module.best_single
    monkeypatch.setattr(
        figures_module, "best_single", lambda some, split: found.append(some.candidate_ids) or best_single(some, split)
    )
    test, names = table.split("test"), table.candidate_ids
    method = Method(np.random.default_rng(0).random((2, *test.scores_MN.T.shape)), {}, None)
    compare({"router": method, "other": method}, table, test, {"two": names[1:]})
    assert found == [names[1:], names]
