from typing import Any

import numpy as np
import pytest

from satjax import metrics
from satjax.evaluation.figures import (
    Zoos,
    advantages,
    best_single,
    correctness_differences,
    correctness_of,
    correctness_over_seeds,
    counted,
    measured_zoos,
    over_seeds,
    routing_of,
)
from satjax.evaluation.intervals import Interval
from satjax.outcomes import Candidate, Item, OutcomeTable, synthetic_zoo

NAN = np.nan
TABLE = synthetic_zoo(seed=5, num_items=400, num_candidates=5)
NAMES = TABLE.candidate_ids
OUTCOME = TABLE.split("test").scores_MN.T
PROBABILITY = np.random.default_rng(0).random(OUTCOME.shape)
ZOOS = {"two": (NAMES[3], NAMES[1]), "elsewhere": (NAMES[0], "gpt-9")}


def routing(table: OutcomeTable, probability_SBM: np.ndarray, zoos: Zoos | None = None) -> dict[str, dict[str, Any]]:
    """By zoo, on the test split."""
    measured = measured_zoos(zoos or {}, table, table.split("test"))
    return {name: routing_of(zoo, probability_SBM, zoo.routed(probability_SBM)) for name, zoo in measured.items()}


def test_a_zoo_is_measured_by_its_own_columns():
    found = routing(TABLE, PROBABILITY[None], ZOOS)
    assert list(found) == ["two", "all"]
    two, columns = found["two"], [3, 1]
    best = two["candidates"].index(two["best_single_candidate"])
    outcomes = metrics.routing(PROBABILITY[:, columns], OUTCOME[:, columns], best_single=best)
    assert {len(values) for values in outcomes.values()} == {two["n"]}
    expected = {name: float(values.mean()) for name, values in outcomes.items()}
    assert {name: two[name] for name in expected} == pytest.approx(expected)
    assert two["gap_recovered"] == pytest.approx(
        metrics.gap_recovered(*(expected[name] for name in ("router", "best_single", "oracle")))
    )
    for name in ("router", "best_single", "random", "oracle"):
        interval = two[f"{name}_interval"]
        assert interval["low"] <= two[name] == interval["mean"] <= interval["high"]
        assert interval["n"] == two["n"]
    assert two["gain_interval"]["mean"] == pytest.approx(two["router"] - two["best_single"])
    assert two["router_interval"]["low"] <= two["router"] <= two["router_interval"]["high"]


def test_routed_outcomes_are_those_that_the_accuracy_averages():
    found = routing(TABLE, PROBABILITY[None], ZOOS)
    for name, zoo in measured_zoos(ZOOS, TABLE, TABLE.split("test")).items():
        routed_SB = zoo.routed(PROBABILITY[None])
        assert routed_SB.shape == (1, len(OUTCOME))
        assert np.nanmean(routed_SB) == pytest.approx(found[name]["router"])


def test_routing_is_averaged_over_seeds():
    other = np.random.default_rng(1).random(OUTCOME.shape)
    both = routing(TABLE, np.stack([PROBABILITY, other]))["all"]
    one, two = (routing(TABLE, p[None])["all"] for p in (PROBABILITY, other))
    assert both["by_seed"] == pytest.approx([one["router"], two["router"]])
    for name in ("router", "gap_recovered", "selection_entropy"):
        assert both[name] == pytest.approx((one[name] + two[name]) / 2)
    assert both["gain_interval"]["mean"] == pytest.approx(both["router"] - both["best_single"])
    for name in ("router", "gain", "gap", "entropy"):
        widths = [found[f"{name}_interval"]["high"] - found[f"{name}_interval"]["low"] for found in (both, one, two)]
        assert 0 < widths[0] < max(widths[1:])  # what seeds do not share is averaged out
    steady = routing(TABLE, np.broadcast_to(np.arange(5.0), (1, *OUTCOME.shape)))
    assert steady["all"]["selection_entropy"] == steady["all"]["entropy_interval"]["high"] == 0


def test_the_best_single_is_chosen_on_the_training_split():
    mean = TABLE.split("train").scores_MN.mean(axis=1)
    assert best_single(TABLE, "test") == (int(mean.argmax()), "train")
    only = TABLE.split("test")
    assert best_single(only, "test") == (None, "test")
    found = routing(only, PROBABILITY[None])["all"]
    assert found["best_single"] is None
    assert found["gain_interval"] is None


def sparse(splits: list[str], scores: list[list[float]] | np.ndarray) -> OutcomeTable:
    items = tuple(Item(str(n), "text", "task", split=split) for n, split in enumerate(splits))
    return OutcomeTable(items, tuple(Candidate(f"c{m}") for m in range(len(scores))), np.array(scores, np.float32))


def test_the_best_single_was_tried_on_half_as_many_items_as_the_most_tried_one():
    once, most = [1, NAN, NAN, NAN, 0, NAN], [0, 0, 1, 1, 1, 1]
    half, less = [NAN, 1, 1, NAN, 1, 1], [NAN, 0, 0, NAN, 1, 1]
    splits = ["train"] * 4 + ["test"] * 2
    assert best_single(sparse(splits, [once, most]), "test") == (1, "train")
    assert best_single(sparse(splits, [most, half]), "test") == (1, "train")
    table = sparse(splits, [once, most, less])
    found = routing(table, np.ones((1, 2, 3)))["all"]
    assert (found["best_single_candidate"], found["n"]) == ("c1", 2)


def test_the_best_single_was_tried_in_the_split_too():
    """Every routing figure is of what it answered there: one that answered next to nothing would leave nothing to be measured."""
    splits = ["train"] * 2 + ["test"] * 4
    best, second = [1, 1, 1, NAN, NAN, NAN], [0, 1, 0, 0, 1, 1]
    assert best_single(sparse(splits, [best, second]), "test") == (1, "train")
    assert best_single(sparse(splits, [best, [NAN, NAN, 0, 0, 1, 1]]), "test") == (0, "train"), "there is no other"


def test_where_nothing_is_observed_nobody_is_best():
    splits, nothing = ["train", "val", "test"], [NAN, NAN, 1]
    assert best_single(sparse(splits, [nothing, nothing]), "test") == (None, "test")
    assert best_single(sparse(splits, [nothing, [NAN, 1, 1]]), "test") == (1, "val")


def alone(chances: list[float], count: int, seed: int = 0) -> np.ndarray:
    """Each instruction answered by one of the candidates, drawn at random."""
    rng = np.random.default_rng(seed)
    who = rng.integers(len(chances), size=count)
    right = rng.random(count) < np.array(chances)[who]
    return np.where(np.arange(len(chances))[:, None] == who, right, NAN)


def test_the_best_single_of_a_log_with_one_outcome_an_instruction_has_the_largest_mean():
    splits = ["train"] * 900 + ["test"] * 300
    for chances, best in (([0.3, 0.6, 0.9], 2), ([0.5, 0.8, 0.2], 1)):
        assert best_single(sparse(splits, alone(chances, 1200)), "test") == (best, "train")


def test_a_candidate_that_was_mostly_asked_alone_is_not_held_back():
    """The last one, the best, is compared on a fifth of what it answered; the others are compared with each other on most."""
    rng = np.random.default_rng(1)
    chances = np.array([0.4, 0.6, 0.75])
    right = (rng.random((3, 2000)) < chances[:, None]).astype(float)
    tried = np.ones((3, 2000), bool)
    tried[2] = np.arange(2000) % 2 == 0
    tried[:2, np.arange(2000) % 10 > 1] &= np.arange(2000)[np.arange(2000) % 10 > 1] % 2 == 1
    scores = np.where(tried, right, NAN)
    found = advantages(scores)
    assert best_single(sparse(["train"] * 1000 + ["test"] * 1000, scores), "test")[0] == 2
    assert found - found.mean() == pytest.approx(chances - chances.mean(), abs=0.05)


def test_answers_to_the_same_instructions_outweigh_what_was_answered_alone():
    """The strong candidate is asked what is hard: alone it is right less often, and beside the weak one far more."""
    together = np.array([np.arange(300) % 10 < 4, np.arange(300) % 10 < 6], float)
    hard, easy = np.arange(3000) % 10 < 3, np.arange(3000) % 10 < 9
    scores = np.block([[together[0], easy, np.full(3000, NAN)], [together[1], np.full(3000, NAN), hard]])
    assert np.nanmean(scores[0]) > np.nanmean(scores[1])
    found = advantages(scores)
    assert found[1] - found[0] == pytest.approx((300 * 0.2 - 30 * 0.6) / 330, abs=1e-4)


def test_candidates_of_other_sources_are_set_by_their_means_and_equals_by_the_larger_one():
    here, there = [1, 1, 0, 1], [1, 0, 0, 0]
    apart = np.block(
        [[np.array([here, there]), np.full((2, 4), NAN)], [np.full((2, 4), NAN), np.array([there, [0] * 4])]]
    )
    assert best_single(sparse(["train"] * 8 + ["test"], np.c_[apart, np.ones(4)]), "test") == (0, "train")
    swapped = apart[[2, 3, 0, 1]]
    assert best_single(sparse(["train"] * 8 + ["test"], np.c_[swapped, np.ones(4)]), "test") == (2, "train")


def test_a_whole_table_has_the_differences_of_means():
    scores = TABLE.split("train").scores_MN
    mean = scores.mean(axis=1, dtype=np.float64)
    assert advantages(scores) == pytest.approx(mean - mean.mean(), abs=1e-6)
    few = scores.copy()
    few[0, 0] = NAN
    assert advantages(few) == pytest.approx(advantages(scores), abs=0.01)
    np.testing.assert_array_equal(
        np.argsort(advantages(np.c_[scores, np.full(5, NAN)])), np.argsort(advantages(scores))
    )


def test_routing_is_not_measured_where_there_is_nothing_to_choose():
    """The router knows the best candidate; where each instruction has one outcome, it would be as good as any."""
    chances = [0.3, 0.6, 0.9]
    scores, splits = alone(chances, 1200), ["train"] * 900 + ["test"] * 300
    probability = np.tile(chances, (1, 300, 1))
    found = routing(sparse(splits, scores), probability)["all"]
    for name in ("router", "best_single", "random", "oracle", "gap_recovered", "selection_entropy"):
        assert found[name] is None
    assert found["by_seed"] == [None]
    assert found["gain_interval"]["mean"] is None
    assert (found["n"], found["n_with_a_choice"]) == (0, 0)
    reason = "0 of 300 instructions have outcomes of the best single candidate and another one; 30 are the least"
    assert found["reason"] == reason
    (zoo,) = measured_zoos({}, sparse(splits, scores), sparse(splits, scores).split("test")).values()
    assert np.isnan(zoo.routed(probability)).all()


def test_a_gap_in_a_small_split_leaves_its_figures():
    """28 of 28 instructions are enough, so 27 of 28 are; where it is fewer than half, what is left is another thing than the split."""
    outcome_BM = np.array([[0.0, 1.0]] * 28)
    for answered, enough in ((28, True), (27, True), (14, True), (13, False)):
        outcome_BM[answered:, 0] = np.nan
        counts_B, reason = counted(outcome_BM, 0)
        assert (int(counts_B.sum()), reason is None) == (answered, enough)
    assert (
        reason == "13 of 28 instructions have outcomes of the best single candidate and another one; 14 are the least"
    )


def test_forced_choices_do_not_dilute_what_routing_is_worth():
    """On 60 of 300 instructions all were asked, and figures are of these alone."""
    chances = [0.3, 0.6, 0.9]
    scores, splits = alone(chances, 1200), ["train"] * 900 + ["test"] * 300
    scores[:, 900:960] = np.random.default_rng(3).random((3, 60)) < np.array(chances)[:, None]
    probability = np.random.default_rng(4).random((1, 300, 3))
    found = routing(sparse(splits, scores), probability)["all"]
    same = sparse(splits[:960], scores[:, :960])
    assert found == routing(same, probability[:, :60])["all"]
    assert (found["n"], found["n_with_a_choice"]) == (60, 60)
    assert "reason" not in found
    scores[:2, 900:940] = NAN
    few = routing(sparse(splits, scores), probability)["all"]
    assert few["router"] is few["oracle_interval"]["mean"] is None
    assert (few["n"], few["reason"].split()[0]) == (20, "20")


def test_instructions_that_the_best_single_did_not_answer_do_not_count():
    best, _ = best_single(TABLE, "test")
    scores = TABLE.scores_MN.copy()
    test = np.flatnonzero([item.split == "test" for item in TABLE.items])
    scores[best, test[:10]] = np.nan
    table = OutcomeTable(TABLE.items, TABLE.candidates, scores)
    found = routing(table, PROBABILITY[None])["all"]
    assert found["n"] == len(test) - 10
    assert found["router_interval"]["n"] == found["gain_interval"]["n"] == len(test) - 10


def test_a_figure_over_seeds():
    interval = Interval(0.2, 0.1, 0.3, 9)
    found = over_seeds([0.2, None, 0.4], interval)
    assert found == pytest.approx({"mean": 0.3, "deviation": 0.02**0.5, "low": 0.2, "high": 0.4, "n": 9})
    assert over_seeds([0.2], interval)["deviation"] is None
    assert over_seeds([None], interval)["mean"] is None


def test_ends_of_a_mean_over_seeds_stay_in_the_figures_range():
    """The second seed is all but perfect, and draws the first one's interval to the end of the range, or beyond."""
    outcome = (np.random.default_rng(0).random((60, 3)) < 0.5).astype(float)
    rough = np.clip(outcome + np.random.default_rng(1).normal(0, 0.45, outcome.shape), 0, 1)
    both = np.stack([rough, np.abs(outcome - 1e-3), np.abs(outcome - 1e-3)])
    found = correctness_over_seeds(correctness_of(both, outcome))
    for name in ("auroc_pooled", "auroc_within_instruction", "brier", "ece"):
        assert 0 <= found[name]["low"] <= found[name]["mean"] <= found[name]["high"] <= 1
    assert found["ece"]["low"] == 0
    assert found["auroc_pooled"]["high"] == 1
    bad = np.stack([1 - outcome, 1 - outcome])
    assert correctness_over_seeds(correctness_of(bad, outcome))["log_loss"]["high"] > 13


def test_differences_are_paired():
    """Squared errors that are 0.05 apart on every instruction: each Brier score is uncertain, and which is lower is not."""
    rng = np.random.default_rng(0)
    outcome = (rng.random((80, 3)) < 0.5).astype(float)
    error = rng.uniform(0.1, 0.9, outcome.shape)
    ours, theirs = np.abs(outcome - error), np.abs(outcome - np.sqrt(error**2 + 0.05))
    single = [correctness_over_seeds(correctness_of(each[None], outcome))["brier"] for each in (ours, theirs)]
    assert single[0]["high"] > single[1]["low"]
    outcome = np.concatenate([outcome, np.full((5, 3), np.nan)])
    ours, theirs = (np.concatenate([each, rng.random((5, 3))]) for each in (ours, theirs))
    found = correctness_differences(
        correctness_of(np.stack([ours, ours]), outcome), correctness_of(theirs[None], outcome)
    )
    assert list(found) == list(metrics.CORRECTNESS)
    assert found["brier"] == pytest.approx({"mean": -0.05, "low": -0.05, "high": -0.05, "n": 80})
    assert found["auroc_pooled"]["low"] < found["auroc_pooled"]["mean"] < found["auroc_pooled"]["high"]


def test_differences_of_fits_are_of_their_means_and_where_nothing_is_known_there_are_none():
    outcome = (np.random.default_rng(1).random((40, 3)) < 0.5).astype(float)
    fits = np.random.default_rng(2).random((3, 40, 3))
    found = correctness_differences(correctness_of(fits[:2], outcome), correctness_of(fits[2:], outcome))
    brier = [metrics.brier(fit, outcome) for fit in fits]
    assert found["brier"]["mean"] == pytest.approx((brier[0] + brier[1]) / 2 - brier[2])
    right = correctness_of(fits, np.ones_like(outcome))
    one_class = correctness_differences(right, right)
    assert one_class["auroc_pooled"] == {"mean": None, "low": None, "high": None, "n": 40}
    assert one_class["brier"]["mean"] == 0
