from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from satjax import metrics
from satjax.errors import SatjaxError
from satjax.evaluation.evaluate import Scored
from satjax.evaluation.protocols import release_stream as module
from satjax.evaluation.protocols.release_stream import in_order_of_release, release_stream
from satjax.evaluation.report.html import write_html
from satjax.export.directory import read_router
from satjax.router import Router
from tests.families import families_table

pytestmark = pytest.mark.xdist_group("folds")

ORDER = (5, 1, 3, 2, 0, 4)


def test_candidates_come_in_order_of_release_and_ties_as_they_stood():
    table = families_table()
    assert in_order_of_release(table).candidate_ids == tuple(table.candidate_ids[m] for m in ORDER)


def test_a_candidate_without_a_date_is_named():
    table = families_table()
    undated = replace(table, candidates=(replace(table.candidates[0], release_date=None), *table.candidates[1:]))
    with pytest.raises(SatjaxError, match=f"{table.candidate_ids[0]}.*no release_date"):
        in_order_of_release(undated)


def test_the_newest_is_routed_to_without_having_been_trained_on(recipe, tmp_path):
    config, workdir = recipe
    figures = release_stream(config, workdir, first=5)
    table = in_order_of_release(families_table())
    assert figures["trained_on"] == list(table.candidate_ids[:5])
    (step,) = figures["releases"]
    assert step["newest"] == table.candidate_ids[5]
    assert step["zoo"] == list(table.candidate_ids)
    router = Router.load(workdir / "first-5" / "router")
    known = tuple(name for name in families_table().candidate_ids if name != step["newest"])
    assert tuple(read_router(workdir / "first-5" / "router").abilities) == known
    test = table.split("test")
    probability = router.probability([item.text for item in test.items], table.candidate_ids)
    outcome = np.ascontiguousarray(test.scores_MN.T)
    fixed = table.candidate_ids.index(step["best_single_candidate"])
    assert step["router"] == pytest.approx(metrics.routing(probability, outcome, best_single=fixed)["router"].mean())
    write_html(figures, tmp_path / "report.html")
    assert step["newest"] in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert step["gain_interval"]["low"] <= step["router"] - step["best_single"] <= step["gain_interval"]["high"]
    assert step["selection_entropy"] == pytest.approx(metrics.selection_entropy(probability, outcome))
    for name in ("router", "best_single", "random", "oracle"):
        interval = step[f"{name}_interval"]
        assert interval["n"] == step["n"] == len(test.items)
        assert interval["mean"] == pytest.approx(step[name])
        assert interval["low"] <= step[name] <= interval["high"]


def test_all_figures_are_of_the_instructions_that_the_best_single_candidate_answered(monkeypatch):
    table = in_order_of_release(families_table())
    (step, _) = stream_of(monkeypatch, table, range(6))["releases"]
    best = table.candidate_ids.index(step["best_single_candidate"])
    scores = table.scores_MN.copy()
    lost = [n for n, item in enumerate(table.items) if item.split == "test"][::3]
    scores[best, lost] = np.nan
    (step, _) = stream_of(monkeypatch, replace(table, scores_MN=scores), range(6))["releases"]
    assert step["best_single_candidate"] == table.candidate_ids[best]
    outcome = np.delete(scores, lost, axis=1)[:, [i.split == "test" for i in np.delete(table.items, lost)]]
    zoo = outcome[[table.candidate_ids.index(name) for name in step["zoo"]]]
    assert step["n"] == zoo.shape[1]
    assert [step[f"{name}_interval"]["n"] for name in ("router", "best_single", "random", "oracle")] == [step["n"]] * 4
    assert step["best_single_interval"]["mean"] == pytest.approx(outcome[best].mean())
    for name, mean in (("random", zoo.mean()), ("oracle", zoo.max(axis=0).mean())):
        assert (step[f"{name}_interval"]["mean"], step[name]) == pytest.approx((mean, mean))


def test_a_collapse_to_one_candidate_shows(monkeypatch):
    """The router knows nothing of all but the last candidate: without it, each instruction goes to the first of the zoo."""
    table = in_order_of_release(families_table())
    without, known = stream_of(monkeypatch, table, range(6))["releases"]
    assert without["newest"] == table.candidate_ids[4]
    assert without["selection_entropy"] == 0
    assert 0 < known["selection_entropy"] < 1


def test_a_newcomer_without_aptitude_outcomes_is_left_out_and_moves_nobody(monkeypatch):
    """Every other candidate keeps its own probabilities: those of the newest say which instructions it is right on."""
    table = in_order_of_release(families_table())
    lost, newest = table.candidate_ids[4:]
    found, test = stream_of(monkeypatch, table, [0, 1, 2, 3, 5]), table.split("test")
    (step,) = found["releases"]
    assert found["left_out"] == {lost: "no outcome"}
    assert (step["newest"], step["zoo"][-1]) == (newest, newest)
    zoo = [table.candidate_ids.index(name) for name in step["zoo"]]
    right_first = np.where(test.scores_MN[zoo[-1]] == 1, 1, test.scores_MN[zoo[0]])
    assert step["router"] == pytest.approx(right_first.mean())


def test_a_trained_candidate_without_aptitude_outcomes_makes_no_newcomer_a_trained_one(monkeypatch):
    table = in_order_of_release(families_table())
    found = stream_of(monkeypatch, table, [0, 2, 3, 4, 5])
    assert found["trained_on"] == list(table.candidate_ids[:4])
    assert [step["newest"] for step in found["releases"]] == list(table.candidate_ids[4:])
    assert found["left_out"] == {table.candidate_ids[1]: "no outcome"}


def test_one_lucky_outcome_does_not_make_a_candidate_one_of_the_best(monkeypatch):
    table = in_order_of_release(families_table())
    scores = table.scores_MN.copy()
    scores[0, [item.split == "train" for item in table.items]] = np.nan
    scores[0, next(i for i, item in enumerate(table.items) if item.split == "train")] = 1
    for step in stream_of(monkeypatch, replace(table, scores_MN=scores), range(6))["releases"]:
        assert table.candidate_ids[0] not in step["zoo"]


def test_whom_the_hard_instructions_were_spared_is_not_one_of_the_best(monkeypatch):
    table = in_order_of_release(families_table())
    scores = table.scores_MN.copy()
    train = np.flatnonzero([item.split == "train" for item in table.items])
    scores[:, train[::2]], scores[:, train[1::2]] = 1, 0.5
    scores[0, train[::2]], scores[0, train[1::2]] = 0.9, np.nan
    for step in stream_of(monkeypatch, replace(table, scores_MN=scores), range(6))["releases"]:
        assert table.candidate_ids[0] not in step["zoo"]


def stream_of(monkeypatch, table, seen) -> dict:
    """What the protocol makes of a router that knows the candidates `seen`, the last of them by heart, and was trained on the first four."""
    held = table.split("test").select_candidates([table.candidate_ids[m] for m in seen])
    probability = np.full_like(held.scores_MN.T, 0.5)
    probability[:, -1] = held.scores_MN[-1]
    left_out = {name: "no outcome" for m, name in enumerate(table.candidate_ids) if m not in seen}
    monkeypatch.setattr(module, "BEST", 3)
    monkeypatch.setattr(module, "trained", lambda *_, **__: None)
    monkeypatch.setattr(module, "open_outcomes", lambda _: table)
    monkeypatch.setattr(module, "scored", lambda *_: Scored(held, left_out, probability))
    data = SimpleNamespace(outcomes="", held_out_candidates=(), held_out_categories=())
    return release_stream(SimpleNamespace(data=data), None, first=4)


def test_too_few_or_too_many_at_first(recipe):
    for first in (4, 6):
        with pytest.raises(
            SatjaxError, match=f"first {first} of 6 candidates leaves no stream: it takes 5 at least, and later ones"
        ):
            release_stream(*recipe, first=first)
