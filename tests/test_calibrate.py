"""Calibration on held-out outcomes: nothing measured on what it was fitted on, nothing leaked, and a router that stays whole."""

from dataclasses import replace

import numpy as np
import pytest

from satjax.calibration import read_calibration
from satjax.cli import main
from satjax.errors import SatjaxError
from satjax.evaluation.calibrate import FOLDS, Offers, cheapest_above, recalibrate, thresholds
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
    """Four candidates, the dearer the better; probabilities that are the truth."""
    rng = np.random.default_rng(seed)
    probability = 1 / (1 + np.exp(-rng.normal(0, 2, (count, 1)) - np.array([-1.0, 0.0, 1.0, 1.5])))
    price = np.tile([1.0, 2.0, 5.0, 20.0], (count, 1))
    outcome = (rng.random(probability.shape) < probability).astype(float)
    outcome[rng.random(outcome.shape) < 0.1] = NAN
    outcome[:, 3] = np.nan_to_num(outcome[:, 3])
    return Offers(probability, price, outcome, price, 3)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 0.95, 1.0])
def test_what_is_chosen_is_what_the_objective_puts_first(threshold):
    given = offers()
    for row, column in enumerate(cheapest_above(given, threshold)):
        open_M = np.flatnonzero(~np.isnan(given.outcome_BM[row]))
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
    for seed in range(20):
        given = offers(seed, 60)
        given = replace(given, probability_BM=np.random.default_rng(seed).random(given.probability_BM.shape))
        for each in thresholds(given, np.arange(60) % FOLDS, (0.9,)):
            columns = cheapest_above(given, each.threshold)
            kept.append((given.outcome_BM[np.arange(60), columns].mean() - each.outcome, each.best_outcome))
    assert len(kept) > 5
    assert np.mean([flattery for flattery, _ in kept]) > 0.0


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


def test_prices_of_a_zoo_give_thresholds(router, table):
    names = router.candidates
    served = {
        name: ServedCandidate(name, "http://localhost/v1", name, 1.0 + n, 1.0 + n, 1000, tools=False)
        for n, name in enumerate(names[1:])
    }
    found = recalibrate(router, table, zoo=ZooFile(served), shares=(0.5,))
    (only,) = found.calibration.thresholds
    assert found.figures["best_candidate"] in names[1:], "what has no price is not served"
    assert only.cost_usd <= only.best_cost_usd


def test_costs_in_the_table_give_thresholds(router, table):
    cost = np.tile(np.linspace(1e-4, 6e-4, len(table.candidates), dtype=np.float32)[:, None], (1, len(table.items)))
    found = recalibrate(router, replace(table, cost_usd_MN=cost), shares=(0.5,))
    assert found.calibration.thresholds[0].best_cost_usd == pytest.approx(
        cost[table.candidate_ids.index(found.figures["best_candidate"]), 0]
    )


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
