"""`report.json`: its figures are those of the matrices, and what may not be evaluated is not."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from satjax import metrics
from satjax.calibration import Calibration
from satjax.errors import SatjaxError
from satjax.evaluation.evaluate import evaluate, scored, write_report
from satjax.outcomes import Candidate, OutcomeTable, read_table
from satjax.router import Router
from tests.test_leakage import leaky
from tests.trained import Trained


@pytest.fixture(scope="module")
def table(trained: Trained) -> OutcomeTable:
    return read_table(trained.outcomes)


@pytest.fixture
def router(trained: Trained) -> Router:
    return Router.load(trained.router)


def with_newcomer(table: OutcomeTable, scores_N: np.ndarray) -> OutcomeTable:
    scores_MN = np.concatenate([table.scores_MN, scores_N[None].astype(np.float32)])
    return OutcomeTable(table.items, (*table.candidates, Candidate("newcomer")), scores_MN)


def test_figures_are_those_of_the_matrices(router, table):
    heard = []
    report = evaluate(router, table, on_progress=lambda done, total: heard.append((done, total)))
    test, found = table.split("test"), scored(router, table)
    assert found.probability_BM.shape == found.outcome_BM.shape == (len(test.items), 6)
    np.testing.assert_array_equal(found.outcome_BM, test.scores_MN.T)
    texts = [item.text for item in test.items]
    single = found.probability_BM.astype(np.float32)
    np.testing.assert_array_equal(single, router.probability(texts, table.candidate_ids))
    assert report["correctness"] == metrics.correctness(found.probability_BM, found.outcome_BM)
    assert report["correctness"].keys() == {
        "auroc_pooled",
        "auroc_per_candidate",
        "auroc_within_instruction",
        "brier",
        "ece",
        "log_loss",
    }
    routing = report["routing"]["all"]
    assert routing["n"] == report["instructions"] == len(test.items)
    train_mean = np.nanmean(table.split("train").scores_MN, axis=1)
    best = int(train_mean.argmax())
    assert routing["best_single_candidate"] == table.candidate_ids[best]
    assert routing["best_single"] == pytest.approx(test.scores_MN[best].mean())
    assert routing["best_single_chosen_on"] == "train"
    interval, gain = routing["router_interval"], routing["gain_interval"]
    assert interval["mean"] == pytest.approx(routing["router"])
    assert interval["low"] <= interval["mean"] <= interval["high"]
    assert gain["mean"] == pytest.approx(routing["router"] - routing["best_single"])
    assert interval["n"] == gain["n"] == routing["n"]
    assert report["synthetic"] is True
    assert heard[-1] == (len(test.items), len(test.items))


def test_aptitude_items_are_never_evaluated(router, table):
    train = table.split("train")
    report = evaluate(router, table, split="train")
    assert report["instructions"] == len(train.items) - len(router.aptitude_test.item_ids)


def test_an_unknown_candidate_is_profiled_from_the_table(router, table):
    report = evaluate(router, with_newcomer(table, np.ones(len(table.items))))
    assert report["candidates"] == [*table.candidate_ids, "newcomer"]
    assert report["left_out"] == {}
    assert report["new_to_the_router"] == ["newcomer"]
    assert "newcomer" in router.candidates


def test_large_scores_are_measured_by_their_order(router, table, monkeypatch):
    """What float32 probabilities would be 1 alike, a router still ranks."""
    texts, score = [item.text for item in table.split("test").items], router.score
    score_BM, outcome_BM = score(texts), table.split("test").scores_MN.T
    monkeypatch.setattr(router, "calibration", Calibration())
    monkeypatch.setattr(router, "score", lambda *given: score(*given) + 25)
    assert (router.probability(texts) == 1).all()
    found = evaluate(router, table)
    assert found["routing"]["all"]["router"] == pytest.approx(metrics.routed_outcomes(score_BM, outcome_BM).mean())
    assert found["correctness"]["auroc_pooled"] == pytest.approx(metrics.auroc_pooled(score_BM, outcome_BM), abs=1e-3)


def test_unknown_candidates_come_together_as_they_do_one_by_one(router, trained, table, monkeypatch):
    rng, read = np.random.default_rng(0), []
    names = [f"newcomer-{i}" for i in range(3)]
    scores_MN = rng.integers(0, 2, (3, len(table.items))).astype(np.float32)
    scores_MN[1, [item.id in router.aptitude_test.item_ids for item in table.items]] = np.nan
    more = replace(table, candidates=tuple(map(Candidate, names)), scores_MN=scores_MN)
    encode = router._encoder.soft_tokens
    monkeypatch.setattr(router._encoder, "soft_tokens", lambda profiles: read.append(len(profiles)) or encode(profiles))
    together, other = scored(router, more), Router.load(trained.router)
    assert read == [2]
    assert list(together.left_out) == [names[1]]
    assert together.candidates == (names[0], names[2])
    for name, probability_B in zip(together.candidates, together.probability_BM.T, strict=True):
        alone = scored(other, more.select_candidates([name]))
        np.testing.assert_allclose(alone.probability_BM[:, 0], probability_B, atol=1e-6)
    assert other.candidates == router.candidates


def test_an_unknown_candidate_may_be_skipped(router, table, caplog):
    with caplog.at_level(logging.WARNING, "satjax"):
        report = evaluate(router, with_newcomer(table, np.ones(len(table.items))), new_candidates="skip")
    assert report["candidates"] == list(table.candidate_ids)
    assert report["left_out"] == {"newcomer": "not in the router"}
    assert "candidate 'newcomer' is left out: not in the router" in caplog.text
    assert "newcomer" not in router.candidates


def test_a_candidate_without_aptitude_outcomes_is_left_out_and_named(router, table):
    aptitude = np.array([item.id in router.aptitude_test.item_ids for item in table.items])
    report = evaluate(router, with_newcomer(table, np.where(aptitude, np.nan, 1.0)))
    assert list(report["left_out"]) == ["newcomer"]
    assert "no outcome on any of the 24 aptitude items" in report["left_out"]["newcomer"]


def test_a_subset_of_candidates(router, table):
    names = [table.candidate_ids[3], table.candidate_ids[0]]
    report = evaluate(router, table, candidates=names)
    assert sorted(report["candidates"]) == sorted(report["routing"]["all"]["candidates"]) == sorted(names)


def test_each_zoo_has_its_own_best_single(router, table, caplog):
    names = table.candidate_ids
    zoos = {"two": (names[4], names[1]), "elsewhere": (names[0], "gpt-9")}
    with caplog.at_level(logging.WARNING, "satjax"):
        report = evaluate(router, table, zoos=zoos)
    assert caplog.messages == ["zoo 'elsewhere' is left out: no candidate 'gpt-9'"]
    assert list(report["routing"]) == ["two", "all"]
    two = report["routing"]["two"]
    assert two["candidates"] == [names[4], names[1]]
    assert two["best_single_candidate"] in zoos["two"]
    columns, found = [4, 1], scored(router, table)
    expected = metrics.routing(
        found.probability_BM[:, columns],
        found.outcome_BM[:, columns],
        best_single=columns.index(names.index(two["best_single_candidate"])),
    )
    for name, values in expected.items():
        assert (two[name], two["n"]) == (pytest.approx(values.mean()), len(values))


def test_a_zoo_of_strangers_is_one_line(router, table):
    strangers = tuple(Candidate(f"stranger-{i}") for i in range(len(table.candidates)))
    other = replace(table, candidates=strangers)
    with pytest.raises(SatjaxError, match=r"knows none of the table's candidates \(stranger-0"):
        evaluate(router, other, new_candidates="skip")


def test_without_another_split_there_is_no_best_single(router, table):
    report = evaluate(router, table.split("test"))
    assert report["routing"]["all"]["best_single"] is None
    assert report["routing"]["all"]["best_single_candidate"] is None
    assert report["routing"]["all"]["gain_interval"] is None


def test_the_best_single_is_not_one_that_skipped_the_hard_instructions(router, table):
    """One that repeats the best candidate's outcomes, less a twentieth, and only where most candidates are right."""
    train = table.split("train")
    best = int(np.nanmean(train.scores_MN, axis=1).argmax())
    easy = np.nanmean(table.scores_MN, axis=0) > 0.5
    fall = np.arange(len(table.items)) % 20 == 0
    picky = with_newcomer(table, np.where(easy, np.where(fall, 0.0, table.scores_MN[best]), np.nan))
    assert np.nanmean(picky.split("train").scores_MN[-1]) > np.nanmean(train.scores_MN[best])
    report = evaluate(router, picky)
    assert report["routing"]["all"]["best_single_candidate"] == table.candidate_ids[best]


def test_the_report_is_json_and_leaves_other_files_alone(router, table, tmp_path):
    report = evaluate(router, table, split="val")
    (tmp_path / "notes").write_text("mine")
    path = write_report(report, tmp_path)
    assert path == tmp_path / "report.json"
    assert json.loads(path.read_text()) == report
    assert {p.name for p in tmp_path.iterdir()} == {"notes", "report.json"}


def test_what_stands_in_the_training_split_too_is_warned_of(router, table, caplog):
    evaluate(router, leaky(table, 3), candidates=table.candidate_ids[:2])
    (said,) = caplog.messages
    assert said.startswith(
        f"3 of {len(table.split('test').items)} instructions of the split 'test' stand in the training"
    )
