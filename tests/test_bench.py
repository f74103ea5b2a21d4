"""A router and its baselines on the same instructions, on a router that was trained here."""

import gc
import json
import re
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.evaluation import bench as bench_module
from satjax.evaluation.baselines import BASELINES
from satjax.evaluation.bench import bench
from satjax.evaluation.evaluate import evaluate, write_report
from satjax.evaluation.report.html import write_html
from satjax.evaluation.sample import draw_items
from satjax.outcomes import Candidate, OutcomeTable, Responses, read_table
from satjax.render.evaluation import bench_table
from satjax.router import Router
from satjax.weights.fetch import BaseModel, resolve
from tests.costly import costly_figures
from tests.test_leakage import leaky
from tests.tiny import write_tiny_llm
from tests.trained import Trained

FEW = ("candidate_means", "neighbours", "matrix_factorization")


@pytest.fixture(scope="module")
def table(trained: Trained) -> OutcomeTable:
    return read_table(trained.outcomes)


@pytest.fixture(scope="module")
def found(trained: Trained, table: OutcomeTable) -> dict:
    zoos = {"pair": table.candidate_ids[:2]}
    encoder = resolve(f"dir:{trained.directory / 'encoder'}")
    heard = []
    figures = bench(
        [Router.load(trained.router)],
        table,
        encoder=encoder,
        zoos=zoos,
        seeds=2,
        baselines=FEW,
        on_progress=lambda *step: heard.append(step),
    )
    assert {what for what, _, _ in heard} == {"router 1", "embeddings", "baselines", "intervals"}
    fits = sum(2 if BASELINES[name].random else 1 for name in FEW)
    assert [step for step in heard if step[0] == "baselines"] == [("baselines", n, fits) for n in range(fits + 1)]
    return figures


def test_an_interrupted_bench_fits_no_baseline_twice(trained, table, tmp_path, monkeypatch):
    fits, most = [], 2

    def counted(name, baseline):
        def counting(data, scored, seed):
            if len(fits) == most:
                raise KeyboardInterrupt
            fits.append((name, seed))
            return baseline.seen(data, scored, seed)

        return replace(baseline, seen=counting)

    names = ("candidate_means", "clusters")
    monkeypatch.setattr(bench_module, "BASELINES", {name: counted(name, BASELINES[name]) for name in names})
    monkeypatch.setattr(bench_module, "compare", lambda methods, *_: {"methods": methods})
    asked = {"encoder": resolve(f"dir:{trained.directory / 'encoder'}"), "seeds": 3, "kept": tmp_path / "baselines"}
    with pytest.raises(KeyboardInterrupt):
        bench([Router.load(trained.router)], table, **asked)
    most = 9
    resumed = bench([Router.load(trained.router)], table, **asked)
    once = [(names[0], 0), *((names[1], seed) for seed in range(3))]
    assert fits == once
    again = bench([Router.load(trained.router)], table, **asked)
    fresh = bench([Router.load(trained.router)], table, **asked | {"kept": None})
    assert fits == [*once, *once]
    for figures in (again, fresh):
        for name in names:
            method, before = figures["methods"][name], resumed["methods"][name]
            np.testing.assert_array_equal(method.probability_SBM, before.probability_SBM)
            assert method.chosen == before.chosen


def test_the_router_has_the_figures_that_evaluate_gives(found, trained, table):
    report = evaluate(Router.load(trained.router), table, zoos={"pair": table.candidate_ids[:2]})
    ours = found["methods"]["router"]
    assert list(found["methods"]) == ["router", *FEW]
    for name, value in report["correctness"].items():
        assert ours["correctness"][name]["mean"] == pytest.approx(value)
        assert ours["correctness"][name]["low"] <= value <= ours["correctness"][name]["high"]
    for zoo in ("pair", "all"):
        assert ours["routing"][zoo]["router"] == report["routing"][zoo]["router"]
    assert found["instructions"] == report["instructions"]
    assert found["candidates"] == list(table.candidate_ids)


def test_seeds_where_chance_enters(found):
    seeds = {name: method["seeds"] for name, method in found["methods"].items()}
    assert seeds == {"router": 1, "candidate_means": 1, "neighbours": 1, "matrix_factorization": 2}
    factors = found["methods"]["matrix_factorization"]
    assert factors["correctness"]["log_loss"]["deviation"] > 0
    assert len(factors["routing"]["all"]["by_seed"]) == 2
    assert factors["chosen"]
    assert found["methods"]["neighbours"]["correctness"]["log_loss"]["deviation"] is None


def test_candidate_means_route_to_the_best_single(found):
    routing = found["methods"]["candidate_means"]["routing"]["all"]
    assert routing["router"] == pytest.approx(routing["best_single"])
    gain = routing["router_gain"]
    ours = found["methods"]["router"]["routing"]["all"]
    assert gain["mean"] == pytest.approx(ours["router"] - routing["router"])
    assert "router_gain" not in ours


def test_the_routers_figures_less_those_of_each_method(found, tmp_path):
    ours = found["methods"]["router"]
    assert "router_less_it" not in ours
    page = written(found, tmp_path)
    for name in FEW:
        theirs = found["methods"][name]
        for figure, less in theirs["router_less_it"].items():
            expected = ours["correctness"][figure]["mean"] - theirs["correctness"][figure]["mean"]
            assert less["mean"] == pytest.approx(expected)
            assert less["low"] <= less["mean"] <= less["high"]
            assert f"{less['mean']:+.4f} <small>[{less['low']:.4f}, {less['high']:.4f}]" in page


def written(figures: dict, folder) -> str:
    write_html(figures, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_without_costs_there_are_no_figures_of_them(found):
    assert {"cost", "pair"}.isdisjoint(found)
    assert all({"cost", "pair"}.isdisjoint(method) for method in found["methods"].values())


def test_routers_of_different_tests_are_not_compared(trained, table, monkeypatch):
    one, other = Router.load(trained.router), Router.load(trained.router)
    tasks = other.aptitude_test.tasks
    monkeypatch.setattr(other, "aptitude_test", type(other.aptitude_test)(9, "s", tasks))
    with pytest.raises(SatjaxError, match="different aptitude tests"):
        bench([one, other], table, encoder=resolve(f"dir:{trained.directory / 'encoder'}"))


def test_each_router_has_a_bar_of_its_own(trained, table):
    """What a router did before the next one began would make that one's time left wrong."""
    heard = []
    routers, few = (Router.load(trained.router) for _ in range(2)), draw_items(table, "test", 8)
    bench(routers, few, encoder=None, baselines=[], on_progress=lambda *step: heard.append(step))
    assert [step for step in heard if step[1] == step[2]] == [
        ("router 1", 8, 8),
        ("router 2", 8, 8),
        ("intervals", 1, 1),
    ]
    assert {what for what, _, _ in heard} == {"router 1", "router 2", "intervals"}


def test_a_router_is_gone_before_the_next_one_is_made(trained, table):
    made = []

    def routers():
        for _ in range(3):
            gc.collect()
            assert all(router() is None for router in made), "two routers hold base weights"
            router = Router.load(trained.router)
            made.append(weakref.ref(router))
            yield router
            del router

    bench(routers(), draw_items(table, "test", 8), encoder=None, baselines=[])
    assert len(made) == 3


def test_what_stands_in_the_training_split_too_is_warned_of_once(trained, table, caplog):
    routers, few = (Router.load(trained.router) for _ in range(2)), draw_items(leaky(table, 9_999), "test", 8)
    bench(routers, few, encoder=None, baselines=[])
    (said,) = caplog.messages
    assert said.startswith("8 of 8 instructions of the split 'test' stand in the training split too")


def test_an_unknown_baseline_comes_with_near_names(trained, table):
    encoder = resolve(f"dir:{trained.directory / 'encoder'}")
    with pytest.raises(SatjaxError, match="unknown baseline 'neighbour': did you mean 'neighbours'"):
        bench([Router.load(trained.router)], table, encoder=encoder, baselines=["neighbour"])


def without_aptitude(table: OutcomeTable, router: Router, splits: tuple[str, ...]) -> OutcomeTable:
    asked = router.aptitude_test.item_ids
    return table.select_items(np.array([item.id not in asked and item.split in splits for item in table.items]))


class Scored(Exception):
    """A router was asked for its scores."""


@pytest.fixture
def unscored(monkeypatch):
    """No router may score any more."""

    def score(*_, **__):
        raise Scored

    monkeypatch.setattr(bench_module, "scored", score)


def test_without_aptitude_items_only_the_forest_is_left_out(trained, table, monkeypatch, caplog):
    router = Router.load(trained.router)
    few = ("candidate_means", "forest", "neighbours")
    monkeypatch.setattr(bench_module, "BASELINES", {name: BASELINES[name] for name in few})
    bare = without_aptitude(table, router, ("train", "val", "test"))
    figures = bench([router], bare, encoder=resolve(f"dir:{trained.directory / 'encoder'}"))
    assert list(figures["methods"]) == ["router", "candidate_means", "neighbours"]
    warned = [record.getMessage() for record in caplog.records if "forest" in record.getMessage()]
    assert len(warned) == 1
    assert "forest is left out: the outcome table has none of the aptitude test's items" in warned[0]


def test_the_forest_that_was_named_is_missed_before_a_router_scores(trained, table, unscored):
    router, encoder = Router.load(trained.router), resolve(f"dir:{trained.directory / 'encoder'}")
    bare = without_aptitude(table, router, ("train", "val", "test"))
    with pytest.raises(SatjaxError, match="baseline forest: the outcome table has none of the aptitude"):
        bench([router], bare, encoder=encoder, baselines=["candidate_means", "forest"])
    with pytest.raises(Scored):
        bench([router], bare, encoder=encoder)


def test_splits_are_missed_before_a_router_scores_and_not_where_nothing_is_fitted(trained, table, unscored):
    router, encoder = Router.load(trained.router), resolve(f"dir:{trained.directory / 'encoder'}")
    only_test = without_aptitude(table, router, ("test",))
    with pytest.raises(SatjaxError, match="no items of split 'train'"):
        bench([router], only_test, encoder=encoder)
    with pytest.raises(SatjaxError, match="no items of split 'val'"):
        bench([router], without_aptitude(table, router, ("train", "test")), encoder=encoder, baselines=["neighbours"])
    with pytest.raises(SatjaxError, match="calibrated on the validation split"):
        bench([router], only_test, encoder=encoder, llm=encoder, baselines=["llm_text"])
    with pytest.raises(Scored):
        bench([router], only_test, encoder=encoder, baselines=[])


def test_nothing_to_fit_needs_no_splits(trained, table):
    router = Router.load(trained.router)
    figures = bench([router], without_aptitude(table, router, ("test",)), encoder=None, baselines=[])
    assert list(figures["methods"]) == ["router"]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A profile as text is longer than what the tiny LLM says it reads: this one says more."""
    llm = write_tiny_llm(tmp_path_factory.mktemp("long") / "llm")
    (llm / "config.json").write_text((llm / "config.json").read_text().replace("512", "2048"))
    return resolve(f"dir:{llm}")


@pytest.fixture(scope="module")
def reading(trained: Trained, table: OutcomeTable, llm: BaseModel) -> dict:
    """Ten instructions, every method that reads texts beside one that reads none; nothing is embedded but for re-ranking."""
    place_MN = np.where(table.scores_MN == 1, 0, 1).astype(np.int32)
    return bench(
        [Router.load(trained.router)],
        table,
        encoder=resolve(f"dir:{trained.directory / 'encoder'}"),
        llm=llm,
        responses=Responses(table.candidate_ids, table.item_ids, ("what is the number of words", "\n"), place_MN),
        baselines=["candidate_means", "rerank", "llm_text"],
        limit=10,
    )


def test_all_methods_are_measured_on_the_instructions_that_were_drawn(reading, table, trained):
    assert list(reading["methods"]) == ["router", "candidate_means", "rerank", "llm_text"]
    assert reading["instructions"] == 10
    assert reading["drawn"] == {"of": len(table.split("test").items), "seed": 0}
    assert reading["methods"]["candidate_means"]["fit_seconds"] is not None
    assert [reading["methods"][name]["fit_seconds"] for name in ("rerank", "llm_text")] == [None, None]
    assert {method["routing"]["all"]["n"] for method in reading["methods"].values()} == {10}
    whole = bench([Router.load(trained.router)], table, encoder=None, baselines=[], limit=reading["drawn"]["of"])
    assert whole["instructions"] == reading["drawn"]["of"]
    assert "drawn" not in whole
    drawn = draw_items(table, "test", 10)
    report = evaluate(Router.load(trained.router), drawn)
    assert reading["methods"]["router"]["routing"]["all"]["router"] == report["routing"]["all"]["router"]
    assert reading["methods"]["llm_text"]["chosen"]["calibration_pairs"] == 10 * len(table.candidates)


def test_the_llm_reads_the_profile_of_a_candidate_that_is_new_to_the_router(trained, table, llm):
    scores_MN = np.concatenate([table.scores_MN, table.scores_MN[:1]])
    more = OutcomeTable(table.items, (*table.candidates, Candidate("newcomer")), scores_MN)
    figures = bench(
        [Router.load(trained.router)],
        more,
        encoder=resolve(f"dir:{trained.directory / 'encoder'}"),
        llm=llm,
        baselines=["llm_text"],
        limit=2,
    )
    assert figures["candidates"][-1] == "newcomer"
    assert list(figures["methods"]) == ["router", "llm_text"]


def test_rerank_needs_a_response_of_everyone_to_something(trained, table):
    flags = {"encoder": resolve(f"dir:{trained.directory / 'encoder'}"), "limit": 10}
    routers = [Router.load(trained.router)]
    with pytest.raises(SatjaxError, match=r"no responses\.parquet"):
        bench(routers, table, baselines=["rerank"], **flags)
    none = np.full(table.scores_MN.shape, -1, np.int32)
    of_val = np.where([item.split == "val" for item in table.items], 0, none).astype(np.int32)
    only_val = Responses(table.candidate_ids, table.item_ids, ("answer",), of_val)
    with pytest.raises(SatjaxError, match="needs a response for every outcome"):
        bench(routers, table, baselines=["rerank"], responses=only_val, **flags)


def test_responses_to_calibrate_on_are_missed_before_a_router_scores(trained, table, unscored):
    of_test = np.where([item.split == "test" for item in table.items], 0, -1) + np.zeros(table.scores_MN.shape, int)
    responses = Responses(table.candidate_ids, table.item_ids, ("answer",), of_test.astype(np.int32))
    given = {"encoder": resolve(f"dir:{trained.directory / 'encoder'}"), "responses": responses}
    with pytest.raises(SatjaxError, match="calibrated on responses to validation instructions"):
        bench([Router.load(trained.router)], table, baselines=["candidate_means", "rerank"], **given)
    with pytest.raises(Scored):
        bench([Router.load(trained.router)], table, **given)


def test_some_candidates_are_measured_and_baselines_know_all(trained, table, monkeypatch):
    monkeypatch.setattr(bench_module, "compare", lambda methods, *_: {"methods": methods})
    encoder, two = resolve(f"dir:{trained.directory / 'encoder'}"), [table.candidate_ids[m] for m in (4, 1)]
    few = {"encoder": encoder, "seeds": 1, "baselines": ("matrix_factorization",)}
    router = Router.load(trained.router)
    every, some = (bench([router], table, **few, **more)["methods"] for more in ({}, {"candidates": two}))
    for name in ("router", "matrix_factorization"):
        np.testing.assert_array_equal(every[name].probability_SBM[:, :, [4, 1]], some[name].probability_SBM)


def test_the_documents_name_every_key_of_a_report(found, reading, trained, table):
    costly = costly_figures()
    page = (Path(__file__).parents[1] / "docs" / "measure.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page.split("## What stands in a report")[1].split("## Calibrate")[0]))
    single = evaluate(Router.load(trained.router), table)
    keys = {*single, *found, *costly, *reading}
    for figures in (found, costly):
        for method in figures["methods"].values():
            keys |= {*method, *method["correctness"], *method["correctness"]["brier"]}
    routing = costly["methods"]["noise"]["routing"]["all"]
    keys |= {key for key in routing if not key.endswith("_interval") and not key.startswith("best_single")}
    assert not keys - named


def test_routers_have_to_know_the_same_of_those_that_are_measured(trained, table):
    """One of them has met a candidate that the table alone makes no profile of."""
    routers = [Router.load(trained.router) for _ in range(2)]
    asked = np.array([item.id in routers[0].aptitude_test.item_ids for item in table.items])
    stranger = np.where(asked, np.nan, table.scores_MN[0]).astype(np.float32)
    scores_MN = np.concatenate([table.scores_MN, stranger[None]])
    more = OutcomeTable(table.items, (*table.candidates, Candidate("stranger")), scores_MN)
    routers[0].add(replace(routers[0].profiles[0], candidate="stranger"))
    with pytest.raises(SatjaxError, match="the routers know different candidates, such as 'stranger'"):
        bench(routers, more, encoder=None, baselines=[])
    two = table.candidate_ids[:2]
    figures = bench(routers, more, encoder=None, baselines=[], candidates=two)
    assert figures["candidates"] == list(two)
    assert figures["left_out"] == {}


def test_who_is_left_out_or_new_to_the_router_is_named(trained, table, tmp_path, capsys):
    router = Router.load(trained.router)
    asked = np.array([item.id in router.aptitude_test.item_ids for item in table.items])
    stranger = np.where(asked, np.nan, table.scores_MN[0]).astype(np.float32)
    scores_MN = np.concatenate([table.scores_MN, table.scores_MN[:1], stranger[None]])
    more = OutcomeTable(table.items, (*table.candidates, Candidate("newcomer"), Candidate("stranger")), scores_MN)
    figures = bench([router], more, encoder=None, baselines=["candidate_means"])
    assert list(figures["left_out"]) == ["stranger"]
    assert figures["new_to_the_router"] == ["newcomer"]
    page = written(figures, tmp_path)
    assert "Left out: stranger (" in page
    assert "Not in the router before: newcomer." in page
    bench_table(figures)
    printed = " ".join(capsys.readouterr().out.split())
    assert "by their aptitude tests alone: newcomer" in printed
    assert "left out: stranger" in printed
    with pytest.raises(SatjaxError, match="'stranger' cannot be measured: "):
        bench([Router.load(trained.router)], more, encoder=None, baselines=[], candidates=["stranger"])
    with pytest.raises(SatjaxError, match="unknown candidate 'nobody'"):
        bench([Router.load(trained.router)], more, encoder=None, baselines=[], candidates=["nobody"])


def test_rerank_stays_where_some_responses_are_missing_and_the_page_says_so(trained, table, reading, tmp_path):
    place_MN = np.where(table.scores_MN == 1, 0, 1).astype(np.int32)
    gone = np.array([item.task == draw_items(table, "test", 10).split("test").items[0].task for item in table.items])
    place_MN[:, gone] = -1
    figures = bench(
        [Router.load(trained.router)],
        table,
        encoder=resolve(f"dir:{trained.directory / 'encoder'}"),
        responses=Responses(table.candidate_ids, table.item_ids, ("what is the number of words", "\n"), place_MN),
        baselines=["rerank"],
        limit=10,
    )
    missing = figures["methods"]["rerank"]["chosen"]["not_reranked"]
    assert 0 < missing < figures["instructions"] == figures["methods"]["rerank"]["routing"]["all"]["n"] == 10
    for found, says in ((figures, True), (reading, False)):
        write_html(found, tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "rerank calls every candidate" in page
        assert (f"On {missing} of the instructions a response is missing" in page) == says


def test_the_report_is_json_and_the_page_needs_no_other_file(found, tmp_path):
    assert json.loads(write_report(found, tmp_path).read_text()) == found
    write_html(found, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in ("router", *FEW, "pair", "all", "oracle", "synthetic", "auroc_within_instruction"):
        assert text in page
    accuracy = 100 * found["methods"]["router"]["routing"]["all"]["router"]
    assert f"{accuracy:.2f}" in page
    assert 'src="data:image/png;base64,iVBOR' in page
    assert "http" not in page
    assert "zero router" not in page
    assert "Sparing" not in page
