"""What is left out is not seen: each column, or row, comes from the router that never met it."""

import shutil
import weakref
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from satjax import metrics
from satjax.errors import SatjaxError
from satjax.evaluation import evaluate as evaluate_module
from satjax.evaluation.baselines import BASELINES
from satjax.evaluation.evaluate import Scored
from satjax.evaluation.protocols import folds
from satjax.evaluation.protocols import leave_out as module
from satjax.evaluation.protocols import onboarding as onboarding_module
from satjax.evaluation.protocols.leave_out import ONE_NEW, SEEN, _compared, _held, leave_category_out, unseen_families
from satjax.evaluation.protocols.onboarding import onboarding
from satjax.evaluation.protocols.release_stream import release_stream
from satjax.evaluation.report.html import write_html
from satjax.export.directory import read_router
from satjax.progress import unheard
from satjax.router import Router
from tests.costly import costly_zoo
from tests.families import families_table

pytestmark = pytest.mark.xdist_group("folds")


@pytest.fixture(scope="module")
def found(recipe):
    heard = []
    figures = unseen_families(*recipe, baselines=("candidate_means",), on_progress=lambda *step: heard.append(step))
    num_items = len(families_table().items)
    assert [step for step in heard if step[0] != "intervals"][-1] == ("folds", 3, 3)
    assert heard[-1] == ("intervals", 4, 4), "the router, those two beside it, and a baseline"
    assert [step for step in heard if step[0] == "folds"] == [("folds", done, 3) for done in range(4)]
    assert [step for step in heard if step[0] == "baselines"] == [("baselines", done, 2) for done in range(3)]
    assert [step for step in heard if step[0] == "embeddings"][-1] == ("embeddings", num_items, num_items)
    return figures


def held():
    test = families_table().split("test")
    return [item.text for item in test.items], np.ascontiguousarray(test.scores_MN.T)


def test_a_familys_columns_are_of_the_router_without_it(recipe, found):
    texts, outcome_BM = held()
    names = families_table().candidate_ids
    assert found["folds"] == {"a": list(names[:4]), "b": list(names[4:])}
    directories = {family: recipe[1] / f"without-family-{family}" / "router" for family in "ab"}
    trained_on = {family: tuple(read_router(directory).abilities) for family, directory in directories.items()}
    assert trained_on == {"a": names[4:], "b": names[:4]}
    routers = {family: Router.load(directory) for family, directory in directories.items()}
    asked = ((routers["a"], names[:4]), (routers["b"], names[4:]))
    exact = [router.calibration.probability(router.score(texts, some), np.float64) for router, some in asked]
    probability_BM = np.concatenate(exact, axis=1)
    ours = found["methods"]["router"]["correctness"]
    for name, value in metrics.correctness(probability_BM, outcome_BM).items():
        assert ours[name]["mean"] == pytest.approx(value, abs=1e-6)
    assert found["instructions"] == len(texts)


def test_the_seen_stand_beside(recipe, found):
    texts, outcome_BM = held()
    seen = Router.load(recipe[1] / "all" / "router").probability(texts, families_table().candidate_ids)
    assert found["methods"][SEEN]["correctness"]["brier"]["mean"] == pytest.approx(
        metrics.brier(seen, outcome_BM), abs=1e-6
    )
    assert list(found["methods"]) == ["router", "candidate_means", SEEN, ONE_NEW]


def test_the_zoo_that_one_family_joins_is_of_one_router_in_every_fold(recipe, found):
    texts, outcome_BM = held()
    routed, briers = [], []
    for family in "ab":
        router = Router.load(recipe[1] / f"without-family-{family}" / "router")
        probability_BM = router.probability(texts, families_table().candidate_ids)
        routed.append(np.nanmean(np.take_along_axis(outcome_BM, probability_BM.argmax(axis=1)[:, None], 1)))
        briers.append(metrics.brier(probability_BM, outcome_BM))
    ours = found["methods"][ONE_NEW]
    assert (ours["seeds"], ours["differ_in"]) == (2, "families")
    assert {found["methods"][name]["differ_in"] for name in ("router", SEEN)} == {"seeds"}
    assert ours["correctness"]["brier"]["mean"] == pytest.approx(np.mean(briers), abs=1e-6)
    assert ours["routing"]["all"]["router"] == pytest.approx(np.mean(routed), abs=1e-6)


@pytest.mark.parametrize(("protocol", "fitted"), [(unseen_families, "unseen"), (leave_category_out, "seen")])
def test_an_interrupted_protocol_fits_no_baseline_twice(recipe, monkeypatch, protocol, fitted):
    fits = []

    def counted(name, family):
        def counting(*arguments):
            if len(fits) == limit:
                raise KeyboardInterrupt
            fits.append(name)
            return family(*arguments)

        return counting

    for folder in recipe[1].glob("without-*/baselines"):
        shutil.rmtree(folder)
    names, limit = ("subject_means", "neighbours"), 3
    counting = {
        name: replace(baseline, **{fitted: counted(name, getattr(baseline, fitted))})
        for name, baseline in BASELINES.items()
    }
    monkeypatch.setattr(module, "BASELINES", counting)
    monkeypatch.setattr(module, "_compared", lambda found, *_: {"methods": found})
    with pytest.raises(KeyboardInterrupt):
        protocol(*recipe, baselines=names)
    assert fits == [*names, names[0]]
    limit = 9
    resumed = protocol(*recipe, baselines=names)["methods"]
    assert fits == [*names, *names]
    for folder in recipe[1].glob("without-*/baselines"):
        shutil.rmtree(folder)
    fresh = protocol(*recipe, baselines=names)["methods"]
    assert len(fits) == 8
    assert fresh.keys() == resumed.keys()
    for name, probability in fresh.items():
        np.testing.assert_array_equal(probability, resumed[name])


def test_a_left_out_category_is_in_no_aptitude_test_and_its_rows_are_of_that_router(recipe):
    figures = leave_category_out(*recipe, baselines=("candidate_means",))
    assert figures["folds"] == ["numbers", "words"]
    table = families_table()
    texts, outcome_BM = held()
    probability_BM = np.full_like(outcome_BM, np.nan)
    category_B = np.array([item.category for item in table.split("test").items])
    of_item = {item.id: item.category for item in table.items}
    for category in ("numbers", "words"):
        router = Router.load(recipe[1] / f"without-category-{category}" / "router")
        assert {of_item[item] for item in router.aptitude_test.item_ids} == {"numbers", "words"} - {category}
        rows = category_B == category
        probability_BM[rows] = router.probability([texts[i] for i in np.flatnonzero(rows)], table.candidate_ids)
    brier = figures["methods"]["router"]["correctness"]["brier"]["mean"]
    assert brier == pytest.approx(metrics.brier(probability_BM, outcome_BM), abs=1e-6)
    assert set(figures["methods"]) == {"router", "candidate_means", SEEN}


def test_the_page_shows_them(found, tmp_path):
    write_html(found, tmp_path / "report.html")
    assert SEEN in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_costs_of_a_table_are_in_the_figures():
    table = costly_zoo(num_items=200, num_candidates=3)
    held = _held(table)
    half = np.full((len(held), 3), 0.5, np.float32)
    figures = _compared({"router": half}, table, held, None, unheard)
    assert figures["cost"]["n"] == figures["pair"]["n"] == len(held)


def test_a_candidate_without_aptitude_outcomes_is_named(monkeypatch):
    table = families_table()
    lost = table.candidate_ids[1]
    probability_BM = np.full((len(_held(table)), 3), 0.5, np.float32)
    router = SimpleNamespace(aptitude_test=None)
    monkeypatch.setattr(folds, "trained", lambda *_, **__: router)
    monkeypatch.setattr(module, "open_outcomes", lambda _: table)
    monkeypatch.setattr(module, "_embedding", lambda *_: np.ones((len(table.items), 1), np.float32))
    monkeypatch.setattr(folds, "scored", lambda *_, **__: Scored(table, {lost: "no outcome"}, probability_BM))
    data = SimpleNamespace(outcomes="", held_out_candidates=(), held_out_categories=())
    for protocol, name in ((unseen_families, "unseen families"), (leave_category_out, "leave category out")):
        with pytest.raises(SatjaxError, match=f"{name}: '{lost}' is known by nothing .no outcome."):
            protocol(SimpleNamespace(data=data), None)


@pytest.mark.parametrize("protocol", [unseen_families, leave_category_out])
def test_a_candidate_that_only_the_router_of_all_cannot_know_is_named(protocol, recipe, monkeypatch):
    lost, trained_on = families_table().candidate_ids[1], folds.trained

    def trained(config, workdir, name, **left_out):
        router = trained_on(config, workdir, name, **left_out)
        if name == "all":
            router.remove(lost)
            monkeypatch.setattr(evaluate_module, "profile_from_outcomes", refuse)
        return router

    def refuse(*_):
        raise SatjaxError("no outcome")

    monkeypatch.setattr(folds, "trained", trained)
    with pytest.raises(SatjaxError, match=f"'{lost}' is known by nothing .no outcome."):
        protocol(*recipe, baselines=())


@pytest.mark.parametrize("protocol", [unseen_families, leave_category_out, onboarding])
def test_a_fold_is_trained_when_the_router_of_the_last_one_is_gone(protocol, recipe, monkeypatch):
    before, trained_on = [], folds.trained

    def trained(*arguments, **left_out):
        assert all(router() is None for router in before), "two routers lie on the device"
        router = trained_on(*arguments, **left_out)
        before.append(weakref.ref(router))
        return router

    monkeypatch.setattr(folds, "trained", trained)
    monkeypatch.setattr(onboarding_module, "trained", trained)
    options = {"sizes": (2,)} if protocol is onboarding else {"baselines": ()}
    protocol(*recipe, **options)
    assert len(before) == (2 if protocol is onboarding else 3)


@pytest.mark.parametrize("protocol", [unseen_families, leave_category_out, onboarding, release_stream])
@pytest.mark.parametrize("name", ["held_out_candidates", "held_out_categories"])
def test_what_the_config_holds_out_is_refused(protocol, name, recipe):
    config, workdir = recipe
    config = replace(config, data=replace(config.data, **{name: ("one", "two")}))
    with pytest.raises(
        SatjaxError, match=rf"config data\.{name} holds out 'one', 'two', and this protocol holds out by"
    ):
        protocol(config, workdir)


@pytest.mark.parametrize(("protocol", "name"), [(unseen_families, "unseen families"), (onboarding, "onboarding")])
def test_one_family_cannot_be_left_out(protocol, name, trained, tmp_path):
    with pytest.raises(SatjaxError, match=f"{name}: the outcome table has one family only"):
        protocol(trained.config, tmp_path)
