"""Calibration on held-out outcomes: nothing measured on what it was fitted on, nothing leaked, and a router that stays whole."""

from dataclasses import replace

import numpy as np
import pytest

from satjax.calibration import read_calibration
from satjax.cli import main
from satjax.errors import SatjaxError
from satjax.evaluation.calibrate import (
    FOLDS,
    Offers,
    cheapest_above,
    comparable,
    recalibrate,
    thresholds,
    with_a_cheaper_one,
)
from satjax.export.directory import router_sha256
from satjax.outcomes import OutcomeTable, read_outcomes
from satjax.policy.objective import Cheapest, order
from satjax.policy.zoo_file import ServedCandidate, ZooFile
from satjax.router import Router
from tests.trained import Trained

NAN = np.nan


@pytest.fixture(scope="module")
def router(trained: Trained) -> Router:
    return Router.load(trained.router)


@pytest.fixture(scope="module")
def table(trained: Trained) -> OutcomeTable:
    return read_outcomes(trained.outcomes)


def offers(seed: int = 0, count: int = 400) -> Offers:
    """Four candidates, the dearer the better; probabilities that are the truth, and an outcome of every pair."""
    rng = np.random.default_rng(seed)
    probability = 1 / (1 + np.exp(-rng.normal(0, 2, (count, 1)) - np.array([-1.0, 0.0, 1.0, 1.5])))
    price = np.tile([1.0, 2.0, 5.0, 20.0], (count, 1))
    outcome = (rng.random(probability.shape) < probability).astype(float)
    return Offers(probability, price, outcome, price, 3)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 0.95, 1.0])
def test_what_is_chosen_is_what_the_objective_puts_first(threshold):
    given = offers()
    shut = np.random.default_rng(1).random(given.price_BM.shape) < [0.1, 0.1, 0.1, 0]
    given = replace(given, price_BM=np.where(shut, NAN, given.price_BM))
    for row, column in enumerate(cheapest_above(given, threshold)):
        open_M = np.flatnonzero(~np.isnan(given.price_BM[row]))
        first = order(given.probability_BM[row, open_M], given.price_BM[row, open_M], Cheapest(threshold))[0]
        assert column == open_M[first]


def test_thresholds_keep_their_share_and_save_more_the_less_they_keep():
    given = offers(count=4000)
    found = thresholds(given, np.arange(4000) % FOLDS, (0.99, 0.95, 0.9, 0.8))
    assert [each.share for each in found] == [0.99, 0.95, 0.9, 0.8]
    for each in found:
        assert each.outcome == pytest.approx(each.share * each.best_outcome, abs=0.02)
        assert each.best_cost_usd == 20.0
        columns = cheapest_above(given, each.threshold)
        assert given.outcome_BM[np.arange(4000), columns].mean() >= each.share * each.best_outcome
    assert found[0].threshold > found[1].threshold > found[2].threshold > found[3].threshold
    assert 20.0 > found[0].cost_usd > found[1].cost_usd > found[2].cost_usd > found[3].cost_usd


def test_a_threshold_on_noise_is_not_flattered():
    """Where probabilities say nothing, thresholds chosen on an instruction would look better on it than on others."""
    kept = []
    for seed in range(60):
        given = offers(seed, 60)
        given = replace(given, probability_BM=np.random.default_rng(seed).random(given.probability_BM.shape))
        for each in thresholds(given, np.arange(60) % FOLDS, (0.9,)):
            columns = cheapest_above(given, each.threshold)
            kept.append((given.outcome_BM[np.arange(60), columns].mean() - each.outcome, each.best_outcome))
    assert len(kept) > 5
    assert np.mean([flattery for flattery, _ in kept]) > 0.0


def beside_the_best(given: Offers, tried: np.ndarray) -> tuple[Offers, np.ndarray]:
    """What thresholds are measured on where only these pairs were tried, bool `[B, M]`."""
    outcome, cost = (np.where(tried, each, NAN) for each in (given.outcome_BM, given.cost_BM))
    found = comparable(replace(given, outcome_BM=outcome, cost_BM=cost), "the best")
    assert not isinstance(found, str)
    return found


def test_what_a_cheap_candidate_loses_is_not_diluted_by_instructions_that_the_best_one_answered_alone():
    """The cheap one is never right, and was tried on one instruction of twenty: no threshold may send much to it."""
    rng = np.random.default_rng(0)
    outcome = np.stack([np.zeros(2000), rng.random(2000) < 0.9], axis=1)
    price = np.tile([1.0, 20.0], (2000, 1))
    given = Offers(rng.normal([0.05, 0.9], 0.01, (2000, 2)), price, outcome, price, 1)
    tried = np.stack([rng.random(2000) < 0.05, np.ones(2000, bool)], axis=1)
    kept, rows = beside_the_best(given, tried)
    assert rows.sum() == tried[:, 0].sum()
    for each in thresholds(kept[rows], np.arange(rows.sum()) % FOLDS, (0.99, 0.95, 0.9)):
        sent = cheapest_above(given, each.threshold) == 0
        assert sent.mean() < 2 * (1 - each.share)


def test_thresholds_of_a_sparse_log_keep_what_they_say_of_a_whole_table():
    """Each instruction was answered by the best candidate and one cheaper one, as chance would have it; in service all are asked."""
    told, real = [], []
    for seed in range(10):
        given = offers(seed, 1500)
        tried = np.arange(3) == np.random.default_rng(seed).integers(3, size=(1500, 1))
        kept, rows = beside_the_best(given, np.c_[tried, np.ones(1500, bool)])
        assert rows.all()
        (found,) = thresholds(kept, np.arange(1500) % FOLDS, (0.9,))
        whole = offers(100 + seed, 10_000)
        columns = cheapest_above(whole, found.threshold)
        told.append(found.outcome / found.best_outcome)
        real.append(whole.outcome_BM[np.arange(10_000), columns].mean() / whole.outcome_BM[:, 3].mean())
    assert np.mean(real) == pytest.approx(0.9, abs=0.02)
    assert np.mean(told) == pytest.approx(np.mean(real), abs=0.02)


def test_a_candidate_that_was_hardly_tried_beside_the_best_one_is_closed():
    given, tried = offers(), np.ones((400, 4), bool)
    tried[29:, 0] = False
    kept, rows = beside_the_best(given, tried)
    assert np.isnan(kept.price_BM).all(axis=0).tolist() == [True, False, False, False]
    assert rows.all()
    tried[100:, 1:3] = False
    kept, rows = beside_the_best(given, tried)
    assert rows.sum() == 100
    assert beside_the_best(given[np.arange(400) < 12], np.ones((12, 4), bool))[1].all(), "all that there is"


def test_where_the_best_candidate_is_the_cheapest_it_is_measured_too():
    """Prices of a zoo file go by the instruction: all of a table that has every outcome are routed, whoever is the cheapest there."""
    price = np.tile([1.0, 2.0], (400, 1))
    price[::2] = [3.0, 2.0]
    outcome = np.ones((400, 2))
    given = Offers(np.full((400, 2), 0.5), price, outcome, price, 0)
    assert with_a_cheaper_one(given).all()
    outcome[1, 1] = np.nan
    assert not with_a_cheaper_one(given)[1], "it alone was asked"
    assert with_a_cheaper_one(given).sum() == 399


def test_too_few_instructions_with_a_cheaper_one_are_said():
    given = offers()
    rows = np.arange(400)[:, None]
    few = np.where((rows < 29) | (np.arange(4) == 3), given.outcome_BM, NAN)
    said = "29 of 400 instructions have outcomes of x, the best candidate, and of a cheaper one"
    assert comparable(replace(given, outcome_BM=few), "x").startswith(said)
    alone = np.where(np.arange(4) == rows % 4, given.outcome_BM, NAN)
    assert comparable(replace(given, outcome_BM=alone), "x").startswith("0 of 400 instructions")
    assert comparable(replace(given, best=0), "x") == "no other candidate is cheaper than x, the best one"


def test_a_share_that_nothing_keeps_is_left_out():
    given = offers()
    assert (
        thresholds(
            replace(
                given,
                outcome_BM=np.where(np.arange(4) == 3, 1.0, 0.0) * np.ones((400, 1)),
                probability_BM=given.probability_BM[:, ::-1],
            ),
            np.arange(400) % FOLDS,
            (0.99,),
        )
        == []
    )


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_probabilities_are_fitted_and_measured_on_other_folds(router, table, method):
    found = recalibrate(router, table, method=method)
    held = [item for item in table.items if item.split == "val" and item.id not in router.aptitude_test.item_ids]
    assert found.calibration.fitted_on == found.figures["instructions"] == len(held)
    assert bool(found.calibration.knots) == (method == "isotonic")
    assert found.calibration.thresholds == ()
    outcome = {item.id: score for item, score in zip(table.items, table.scores_MN.T, strict=True)}
    probability = found.calibration.probability(router.score([item.text for item in held], table.candidate_ids))
    fitted = float(np.nanmean((probability - np.stack([outcome[item.id] for item in held])) ** 2))
    crossed = found.figures["correctness"][method]["brier"]
    assert fitted < crossed < 1.3 * fitted


@pytest.fixture
def half(monkeypatch):
    """The one share of the best candidate's outcome that is asked for: a tiny router keeps it."""
    monkeypatch.setattr("satjax.evaluation.calibrate.SHARES", (0.5,))


def test_prices_of_a_zoo_give_thresholds(router, table, half):
    names = router.candidates
    served = {
        name: ServedCandidate(name, "http://localhost/v1", name, 1.0 + n, 1.0 + n, 1000, tools=False)
        for n, name in enumerate(names[1:])
    }
    found = recalibrate(router, table, zoo=ZooFile(served))
    (only,) = found.calibration.thresholds
    assert found.figures["best_candidate"] in names[1:], "what has no price is not served"
    assert only.cost_usd <= only.best_cost_usd


def test_costs_in_the_table_give_thresholds(router, table, half):
    cost = np.tile(np.linspace(1e-4, 6e-4, len(table.candidates), dtype=np.float32)[:, None], (1, len(table.items)))
    found = recalibrate(router, replace(table, cost_usd_MN=cost))
    assert found.calibration.thresholds[0].best_cost_usd == pytest.approx(
        cost[table.candidate_ids.index(found.figures["best_candidate"]), 0]
    )


def test_instructions_without_a_choice_are_counted_and_left_out(router, table, half):
    cost = np.tile(np.linspace(1e-4, 6e-4, len(table.candidates), dtype=np.float32)[:, None], (1, len(table.items)))
    costly = replace(table, cost_usd_MN=cost)
    whole = recalibrate(router, costly)
    best, n = table.candidate_ids.index(whole.figures["best_candidate"]), whole.figures["n_with_a_choice"]
    assert n == whole.figures["instructions"]
    assert whole.figures["rarely_beside_the_best"] == []
    scores, val = table.scores_MN.copy(), [n for n, item in enumerate(table.items) if item.split == "val"]
    others = [m for m in range(len(scores)) if m != best]
    scores[np.ix_(others, val[::3])] = NAN
    scores[others[-1], val[5:]] = NAN
    found = recalibrate(router, replace(costly, scores_MN=scores))
    assert 0 < found.figures["n_with_a_choice"] < n
    assert found.figures["rarely_beside_the_best"] == [table.candidate_ids[others[-1]]]
    scores[np.ix_(others, val)] = NAN
    none = recalibrate(router, replace(costly, scores_MN=scores))
    assert none.calibration.thresholds == ()
    assert none.figures["no_thresholds"].startswith("0 of ")


def test_why_there_are_no_thresholds(router, table):
    """Each of the causes by its name: no price, none in the training split, none of these candidates, nothing to choose the best by."""

    def reason(given: OutcomeTable, zoo: ZooFile | None = None) -> str:
        found = recalibrate(router, given, zoo=zoo)
        assert found.calibration.thresholds == ()
        assert "missed_shares" not in found.figures
        return found.figures["no_thresholds"]

    assert reason(table) == "neither the outcome table nor a --zoo says what candidates cost"
    is_train = np.array([item.split == "train" for item in table.items])
    is_val = np.array([item.split == "val" for item in table.items])
    cost = np.ones_like(table.scores_MN)
    assert "no costs in the split 'train'" in reason(
        replace(table, cost_usd_MN=np.where(is_train, np.float32(NAN), cost))
    )
    assert "a cost of it in the split 'val'" in reason(
        replace(table, cost_usd_MN=np.where(is_val, np.float32(NAN), cost))
    )
    served = {"other": ServedCandidate("other", "http://localhost/v1", "other", 1.0, 1.0, 1000, tools=False)}
    assert "the --zoo has no price" in reason(table, ZooFile(served))
    name = table.candidate_ids[0]
    served = {name: ServedCandidate(name, "http://localhost/v1", name, 1.0, 1.0, 1000, tools=False)}
    assert "outcomes of no split but 'val'" in reason(table.select_items(is_val), ZooFile(served))


def test_leaks_are_refused(router, table):
    with pytest.raises(SatjaxError, match="was trained on the split 'train'"):
        recalibrate(router, table, split="train")
    train, val = (next(item for item in table.items if item.split == split) for split in ("train", "val"))
    items = tuple(replace(item, text=train.text) if item is val else item for item in table.items)
    with pytest.raises(SatjaxError, match=rf"{train.id}.*{val.id}.* are one question"):
        recalibrate(router, replace(table, items=items))
    test = next(item for item in table.items if item.split == "test")
    order = sorted(range(len(items)), key=lambda n: items[n] is not test)
    everywhere = replace(table, items=tuple(replace(i, text=train.text) if i is test else i for i in items))
    with pytest.raises(SatjaxError, match=rf"{val.id}.*{train.id}|{train.id}.*{val.id}"):
        recalibrate(router, everywhere.select_items(order))


def test_what_cannot_be_fitted_is_said(router, table):
    with pytest.raises(SatjaxError, match="knows none of the table's candidates"):
        recalibrate(router, replace(table, candidates=tuple(replace(c, id=f"x{c.id}") for c in table.candidates)))
    with pytest.raises(SatjaxError, match="all right, or all wrong"):
        recalibrate(router, replace(table, scores_MN=np.ones_like(table.scores_MN)))
    few = table.select_items(np.array([item.split == "train" or n % 40 == 0 for n, item in enumerate(table.items)]))
    with pytest.raises(SatjaxError, match="are too few to calibrate on"):
        recalibrate(router, few)


def test_from_the_command_line(trained: Trained, tmp_path, capsys):
    before = router_sha256(trained.router)
    zoo = tmp_path / "zoo.toml"
    names = Router.load(trained.router).candidates
    rest = 'base_url = "http://localhost/v1"\nmodel = "m"\ncontext_tokens = 1000\ntools = false'
    zoo.write_text(
        "\n".join(
            f'[candidates."{name}"]\n{rest}\nusd_per_million_input_tokens = {n}\nusd_per_million_output_tokens = {n}'
            for n, name in enumerate(names, 1)
        )
    )
    command = ["calibrate", "--router", str(trained.router), "--outcomes", str(trained.outcomes), "--zoo", str(zoo)]
    assert main([*command, "--method", "isotonic", "--out", str(tmp_path / "router")]) == 0
    said = capsys.readouterr().out
    assert "isotonic (written)" in said
    assert router_sha256(trained.router) == before
    again = Router.load(tmp_path / "router")
    assert again.calibration == read_calibration(tmp_path / "router" / "calibration.json")
    assert again.calibration.knots
    card = (tmp_path / "router" / "README.md").read_text()
    assert "## Calibrated again" in card
    (row,) = [line for line in card.splitlines() if line.startswith("| calibration |")]
    fitted_on = again.calibration.fitted_on
    assert f"isotonic in the score, fitted on {fitted_on} instructions of split `val`" in row
    command[command.index("--router") + 1] = str(tmp_path / "router")
    assert main([*command, "--out", str(tmp_path / "router")]) == 0
    assert Router.load(tmp_path / "router").calibration.knots == ()
    assert (tmp_path / "router" / "README.md").read_text().count("## Calibrated again") == 1
    platt = Router.load(tmp_path / "router").calibration
    assert f"sigmoid({platt.scale:.4g} x score" in (tmp_path / "router" / "README.md").read_text()
    assert main([*command, "--out", str(zoo)]) == 2
    assert main(["calibrate", "--outcomes", str(trained.outcomes), "--out", str(tmp_path)]) == 2
