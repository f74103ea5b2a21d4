from dataclasses import replace

import numpy as np
import pytest

from satjax.evaluation.comparison import Method, compare
from satjax.evaluation.cost import aiq, apgr, cpt
from satjax.evaluation.cost_figures import (
    _of_pair,
    expected_costs,
    quality_against_cost,
    strong_against_weak,
    strong_and_weak,
    zero_router,
)
from satjax.evaluation.report.html import write_html
from satjax.outcomes import Candidate, Item, OutcomeTable, read_table
from satjax.render.evaluation import bench_table
from tests.costly import costly_zoo, quality_cost_curve

NAN = np.nan
TABLE = costly_zoo()
TEST = TABLE.split("test")
OUTCOME, COST = TEST.scores_MN.T, TEST.cost_usd_MN.T
rng = np.random.default_rng(1)
GOOD = np.clip(np.stack([0.4 * OUTCOME + 0.6 * rng.random(OUTCOME.shape) for _ in range(2)]), 0, 1)
CHANCE = rng.random((1, *OUTCOME.shape))
PROBABILITIES = {"good": GOOD, "chance": CHANCE}


@pytest.fixture(scope="module")
def found():
    return quality_against_cost(PROBABILITIES, TABLE, "test", OUTCOME, COST)


def table(scores, costs=None, splits=None) -> OutcomeTable:
    items = tuple(Item(str(n), "text", "task", split=split) for n, split in enumerate(splits))
    as_float = [None if each is None else np.array(each, np.float32) for each in (scores, costs)]
    return OutcomeTable(items, tuple(Candidate(f"c{m}") for m in range(len(scores))), *as_float)


def test_only_training_calls_tell_what_a_call_will_cost():
    costs = [[1, 3, 100], [NAN, 4, 100], [NAN, NAN, 100]]
    few = table(np.ones((3, 3)), costs, ["train", "train", "test"])
    np.testing.assert_array_equal(expected_costs(few, "test"), [2, 4, NAN])
    assert expected_costs(few, "train") is None
    assert expected_costs(table(np.ones((3, 3)), costs, ["val", "val", "test"]), "test") is None
    assert expected_costs(table(np.ones((3, 3)), None, ["train", "train", "test"]), "test") is None
    unknown = [[NAN, NAN, 1]] * 3
    assert expected_costs(table(np.ones((3, 3)), unknown, ["train", "train", "test"]), "test") is None


def test_figures_are_those_of_the_curves(found):
    references, methods = found
    expected = expected_costs(TABLE, "test")
    curves = [quality_cost_curve(seed, OUTCOME, COST, expected) for seed in GOOD]
    values = [aiq(curve) for curve in curves]
    assert methods["good"]["aiq"]["mean"] == pytest.approx(np.mean(values))
    assert methods["good"]["aiq"]["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert methods["good"]["aiq"]["n"] == references["n"] == len(OUTCOME)
    assert methods["good"]["points"]["cost"] == pytest.approx(curves[0].cost_L)
    assert methods["good"]["points"]["lambda"] == pytest.approx(curves[0].lambda_L)
    assert methods["good"]["hull"]["outcome"] == pytest.approx(curves[0].hull_outcome_K)
    assert references["range"] == pytest.approx(curves[0].cost_range)
    for name, candidate in references["candidates"].items():
        m = TABLE.candidate_ids.index(name)
        assert candidate["cost"] == pytest.approx(COST[:, m].mean(), rel=1e-5)
        assert candidate["outcome"] == pytest.approx(OUTCOME[:, m].mean())
        assert candidate["expected_cost"] == expected[m]


def test_methods_lie_between_zero_router_and_oracle_or_not(found):
    references, methods = found
    zero, oracle = references["zero_router"]["aiq"], references["oracle"]["aiq"]
    assert methods["chance"]["aiq"]["mean"] < zero < methods["good"]["aiq"]["mean"] < oracle
    for name, above in (("good", True), ("chance", False)):
        method = methods[name]
        assert method["aiq"]["low"] < method["aiq"]["mean"] < method["aiq"]["high"]
        gain = method["above_zero_router"]
        assert gain["mean"] == pytest.approx(method["aiq"]["mean"] - zero)
        assert (gain["low"] > 0) == above
        assert (gain["high"] < 0) != above


def test_the_zero_router_is_the_hull_of_the_candidates(found):
    references, _ = found
    hull = references["zero_router"]["hull"]
    cost, outcome = zero_router(OUTCOME, COST)
    assert (hull["cost"], hull["outcome"]) == (pytest.approx(cost), pytest.approx(outcome))
    points = [(candidate["cost"], candidate["outcome"]) for candidate in references["candidates"].values()]
    assert all(np.interp(x, cost, outcome) >= y - 1e-6 for x, y in points)
    assert hull["cost"][0] == pytest.approx(references["range"][0])
    assert len(zero_router(np.array([[1.0, NAN]]), np.array([[2.0, NAN]]))[0]) == 1


def holed(seed: int = 0) -> np.ndarray:
    """The test outcomes where the dearest candidate was tried on half of the instructions, those that most candidates are right on."""
    outcome = OUTCOME.copy()
    hard_first = np.argsort(OUTCOME.mean(axis=1) + np.random.default_rng(seed).uniform(0, 1e-3, len(OUTCOME)))
    outcome[hard_first[: len(OUTCOME) // 2], int(np.nanargmax(expected_costs(TABLE, "test")))] = NAN
    return outcome


def test_the_zero_router_of_a_sparse_table_is_of_the_instructions_that_all_candidates_answered():
    outcome = holed()
    common = ~np.isnan(outcome).any(axis=1)
    references, methods = quality_against_cost(PROBABILITIES, TABLE, "test", outcome, COST)
    rows = {name: seeds[:, common] for name, seeds in PROBABILITIES.items()}
    dense, expected = quality_against_cost(rows, TABLE, "test", outcome[common], COST[common])
    assert references["n"] == len(OUTCOME) > references["zero_router"]["n"] == common.sum()
    assert references["zero_router"] == dense["zero_router"]
    assert references["candidates"] == dense["candidates"]
    for name in PROBABILITIES:
        assert methods[name]["above_zero_router"] == expected[name]["above_zero_router"]
        assert methods[name]["aiq"]["n"] == len(OUTCOME)


def test_too_few_instructions_in_common_are_said(tmp_path, capsys):
    outcome = OUTCOME.copy()
    outcome[np.arange(len(outcome)), np.arange(len(outcome)) % 5] = NAN
    outcome[:7] = OUTCOME[:7]
    methods = {"router": Method(GOOD, {}, None), "rerank": Method(CHANCE, {}, None)}
    figures = compare(methods, TABLE, replace(TEST, scores_MN=outcome.T), {})
    reason = f"7 of {len(OUTCOME)} instructions have an outcome and a cost of all 5 candidates; 30 are the least"
    assert figures["cost"]["zero_router"] == {"aiq": None, "hull": None, "n": 7, "reason": reason}
    found = figures["methods"]["router"]["cost"]
    assert found["above_zero_router"]["mean"] is None
    assert found["aiq"]["low"] < found["aiq"]["mean"] < figures["cost"]["oracle"]["aiq"]
    name = TABLE.candidate_ids[0]
    assert figures["cost"]["candidates"][name]["outcome"] == pytest.approx(np.nanmean(outcome[:, 0]))
    write_html(figures, tmp_path / "report.html")
    assert reason in (tmp_path / "report.html").read_text(encoding="utf-8")
    bench_table(figures)
    assert f"no zero router: {reason}" in capsys.readouterr().out


def test_a_small_table_that_is_complete_has_a_zero_router():
    few = {"good": GOOD[:, :9]}
    references, methods = quality_against_cost(few, TABLE, "test", OUTCOME[:9], COST[:9])
    assert references["zero_router"]["n"] == 9
    assert methods["good"]["above_zero_router"]["mean"] is not None


def test_nothing_without_costs_where_they_are_needed():
    bare = replace(TABLE, cost_usd_MN=None)
    assert quality_against_cost(PROBABILITIES, bare, "test", OUTCOME, COST) is None
    assert quality_against_cost(PROBABILITIES, TABLE, "test", OUTCOME, np.full_like(COST, NAN)) is None
    assert strong_against_weak(PROBABILITIES, bare, "test", OUTCOME) is None


def test_a_candidate_of_unknown_price_is_left_out():
    costs = TABLE.cost_usd_MN.copy()
    costs[2, [item.split == "train" for item in TABLE.items]] = NAN
    references, methods = quality_against_cost({"good": GOOD}, replace(TABLE, cost_usd_MN=costs), "test", OUTCOME, COST)
    others = [m for m in range(5) if m != 2]
    assert list(references["candidates"]) == [TABLE.candidate_ids[m] for m in others]
    assert references["left_out"] == [TABLE.candidate_ids[2]]
    curve = quality_cost_curve(
        GOOD[0][:, others], OUTCOME[:, others], COST[:, others], expected_costs(TABLE, "test")[others]
    )
    assert methods["good"]["points"]["cost"] == pytest.approx(curve.cost_L)


def test_one_price_has_no_range():
    flat = replace(TABLE, cost_usd_MN=np.full_like(TABLE.cost_usd_MN, 0.5))
    references, methods = quality_against_cost({"good": GOOD}, flat, "test", OUTCOME, np.full_like(COST, 0.5))
    assert references["zero_router"]["aiq"] is None
    assert methods["good"]["aiq"]["mean"] is methods["good"]["above_zero_router"]["mean"] is None


def test_the_pair_is_the_best_and_the_cheapest_of_the_training_split():
    scores = [[1, 1, 0], [0, 1, 1], [0, 0, 1]]
    splits = ["train", "train", "test"]
    # By the test item alone c0 would be the worst, and the dearest.
    assert strong_and_weak(table(scores, [[3, 3, 9], [2, 2, 0], [1, 1, 8]], splits), "test") == (0, 2)
    assert (
        strong_and_weak(table(scores, [[1, 1, 9], [2, 2, 0], [3, 3, 8]], splits), "test") is None
    )  # the best is the cheapest
    assert strong_and_weak(table(scores, None, splits), "test") is None  # three of unknown price
    assert strong_and_weak(table(scores[1::-1], None, splits), "test") == (1, 0)
    assert strong_and_weak(table(scores[:2], None, ["test"] * 3), "test") is None
    assert strong_and_weak(table(scores[:2], None, ["val", "val", "test"]), "test") is None


def test_candidates_that_cost_the_same_are_no_pair_and_of_the_cheapest_the_best_is_the_weak_one():
    scores = [[1, 1, 1, 0], [0, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 1]]
    splits = ["train", "train", "train", "test"]

    def pair(*costs: float) -> tuple[int, int] | None:
        return strong_and_weak(table(scores, np.tile(np.array(costs)[:, None], (1, 4)), splits), "test")

    assert pair(0.1, 0.1, 0.1, 0.1) is pair(0, 0, 0, 0) is None
    assert pair(2, 1, 1, 1) == (0, 2)
    assert pair(2, 1, 3, 1) == (0, 1)
    assert pair(1, 1, 2, 2) is None
    assert pair(NAN, 1, 2, 3) is None
    two = table(scores[:2], np.ones((2, 4)), splits)
    assert strong_and_weak(two, "test") is None
    assert strong_against_weak({"good": np.zeros((1, 1, 2))}, two, "test", np.array([[0.0, 1.0]])) is None


def test_pair_figures_are_means_over_seeds_of_the_difference_of_probabilities():
    references, methods = strong_against_weak(PROBABILITIES, TABLE, "test", OUTCOME)
    strong, weak = strong_and_weak(TABLE, "test")
    assert references["strong"] == {
        "candidate": TABLE.candidate_ids[strong],
        "outcome": pytest.approx(OUTCOME[:, strong].mean()),
    }
    case = OUTCOME[:, weak], OUTCOME[:, strong]
    scores = [seed[:, strong] - seed[:, weak] for seed in GOOD]
    good = methods["good"]
    assert good["apgr"]["mean"] == pytest.approx(np.mean([apgr(score, *case) for score in scores]))
    assert good["cpt50"]["mean"] == pytest.approx(np.mean([cpt(score, *case, 0.5) for score in scores]))
    assert good["cpt80"]["mean"] == pytest.approx(np.mean([cpt(score, *case, 0.8) for score in scores]))
    for name in ("apgr", "cpt50", "cpt80"):
        assert good[name]["low"] <= good[name]["mean"] <= good[name]["high"]
        assert methods["chance"][name]["deviation"] is None
    oracle = references["oracle"]
    assert oracle["apgr"] >= good["apgr"]["mean"] > methods["chance"]["apgr"]["mean"]
    assert oracle["cpt80"] <= good["cpt80"]["mean"] < methods["chance"]["cpt80"]["mean"]


def test_instructions_that_one_of_the_two_lacks_do_not_count_and_no_gap_is_none():
    strong, weak = strong_and_weak(TABLE, "test")
    outcome = OUTCOME.copy()
    outcome[:7, weak] = NAN
    references, methods = strong_against_weak({"good": GOOD}, TABLE, "test", outcome)
    assert references["n"] == methods["good"]["apgr"]["n"] == len(OUTCOME) - 7
    outcome[:, strong] = 0
    references, methods = strong_against_weak({"good": GOOD}, TABLE, "test", outcome)
    assert references["oracle"] == {"apgr": None, "cpt50": None, "cpt80": None}
    assert methods["good"]["cpt50"]["mean"] is None


def test_real_pairs(shared_data):
    """RouteLLM's own pair, and RouterBench's best and cheapest candidates."""
    mmlu, bench = (read_table(shared_data / name) for name in ("routellm_mmlu", "routerbench"))
    for outcomes, strong, weak in (
        (mmlu, "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        (bench, "gpt-4-1106-preview", "mistralai/mistral-7b-chat"),
    ):
        pair = strong_and_weak(outcomes, "test")
        assert [outcomes.candidate_ids[m] for m in pair] == [strong, weak]


def test_judges_scores_in_tenths_give_figures_within_their_intervals():
    """Some resamples of a gap this small are ties, which tell no share of it."""
    for seed in (9, 11, 12, 15, 16):
        rng = np.random.default_rng(seed)
        quality = rng.random(200)
        weak, strong = (
            (np.clip(np.round(10 * (quality + above + rng.normal(0, 0.2, 200))), 0, 10) / 10).astype(np.float32)
            for above in (0, 0.03)
        )
        for found in _of_pair(rng.random((1, 200)), weak, strong).values():
            if found["low"] is not None:
                assert -100 < found["low"] <= found["mean"] <= found["high"] < 100
