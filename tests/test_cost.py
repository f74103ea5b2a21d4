import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.evaluation.cost import (
    aiq,
    apgr,
    choices_at_prices,
    cpt,
    curve_of,
    mean_over_budgets,
    nondecreasing_hull,
)
from satjax.outcomes import read_table
from tests.costly import quality_cost_curve

NAN = np.nan
SEEDS = st.integers(0, 10_000)
LIGHT = settings(max_examples=25)


def random_zoo(seed: int, num: int = 40, candidates: int = 4, unobserved: float = 0.2) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    mean_cost = np.sort(rng.uniform(1e-4, 1e-2, candidates))
    probability = rng.random((num, candidates))
    outcome = (rng.random((num, candidates)) < probability).astype(float)
    outcome[rng.random(outcome.shape) < unobserved] = NAN
    return probability, outcome, mean_cost * rng.uniform(0.5, 1.5, outcome.shape), mean_cost


def test_curve_by_hand(monkeypatch):
    probability = np.array([[0.5, 0.9], [0.8, 0.9], [0.9, 0.8]])
    outcome = np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    cost = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    monkeypatch.setattr("satjax.evaluation.cost._lambda_grid", lambda _: np.array([0.0, 0.02, 1.0]))
    curve = quality_cost_curve(probability, outcome, cost, np.array([1.0, 11.0]))
    # A step costs 10: at 0.02 per dollar only the first instruction is worth it, at 1 none.
    np.testing.assert_allclose(curve.cost_L, [33 / 3, 15 / 3, 6 / 3])
    np.testing.assert_allclose(curve.outcome_L, [1.0, 1.0, 2 / 3])
    np.testing.assert_allclose(curve.hull_cost_K, [2.0, 5.0])
    np.testing.assert_allclose(curve.hull_outcome_K, [2 / 3, 1.0])
    assert curve.cost_range == pytest.approx((2.0, 20.0))
    assert curve.n == 3
    # A trapezium from 2 to 5, then 1 up to 20.
    assert aiq(curve) == pytest.approx((3 * 5 / 6 + 15) / 18)
    hull = curve.hull_cost_K, curve.hull_outcome_K
    assert mean_over_budgets(*hull, (0.0, 4.0)) == pytest.approx(2 * (2 / 3 + 8 / 9) / 2 / 4)  # nothing below 2
    assert mean_over_budgets(*hull, (0.0, 1.0)) == 0.0
    assert mean_over_budgets(*hull, (5.0, 5.0)) is None


def test_default_prices_reach_both_ends():
    probability, outcome, cost, mean_cost = random_zoo(0, unobserved=0)
    curve = quality_cost_curve(probability, outcome, cost, mean_cost)
    assert curve.cost_L[-1] == pytest.approx(curve.cost_range[0]) == pytest.approx(cost[:, 0].mean())
    assert curve.cost_range[1] == pytest.approx(cost[:, -1].mean())
    assert curve.outcome_L[0] == outcome[np.arange(40), probability.argmax(axis=1)].mean()
    assert curve.outcome_L[-1] == outcome[:, 0].mean()


def test_cheap_candidates_of_nearly_one_price_leave_prices_for_the_others():
    rng, found = np.random.default_rng(0), []
    probability = np.clip([0.3, 0.35, 0.5, 0.65, 0.8] + 0.25 * rng.normal(size=(2000, 5)), 0, 1)
    outcome = (rng.random(probability.shape) < probability).astype(float)
    for step in (1e-7, 1e-13):
        mean_cost = np.array([1e-4, 1e-4 + step, 1e-3, 3e-3, 1e-2])
        curve = quality_cost_curve(probability, outcome, np.broadcast_to(mean_cost, outcome.shape), mean_cost)
        assert curve.outcome_L[-1] == outcome[:, 0].mean()
        found.append(aiq(curve))
    assert found[1] == pytest.approx(found[0], abs=1e-4)


def test_choice_knows_expected_costs_only():
    probability, outcome, cost, mean_cost = random_zoo(1, unobserved=0)
    shuffled = np.random.default_rng(0).permutation(cost)
    before, after = (quality_cost_curve(probability, outcome, each, mean_cost) for each in (cost, shuffled))
    np.testing.assert_array_equal(before.outcome_L, after.outcome_L)
    assert not np.array_equal(before.cost_L, after.cost_L)


def test_unobserved_pairs_cannot_be_chosen():
    probability, mean_cost = np.array([[0.1, 0.9]] * 4), np.array([1.0, 2.0])
    outcome = np.array([[0.0, 1.0], [0.25, NAN], [0.5, 1.0], [NAN, NAN]])
    cost = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, NAN], [1.0, 2.0]])
    curve = quality_cost_curve(probability, outcome, cost, mean_cost)
    assert (curve.outcome_L[0], curve.cost_L[0], curve.n) == pytest.approx(((1 + 0.25 + 0.5) / 3, 4 / 3, 3))
    unpriced = quality_cost_curve(probability, outcome, cost, np.array([1.0, NAN]))
    assert unpriced.outcome_L == pytest.approx([0.25])
    assert aiq(unpriced) is None  # a single cost has no range
    assert quality_cost_curve(probability, np.full((4, 2), NAN), cost, mean_cost) is None
    assert quality_cost_curve(probability, outcome, cost, np.full(2, NAN)) is None


def test_equal_candidates_go_to_the_cheapest():
    curve = quality_cost_curve(
        np.full((1, 3), 0.5), np.ones((1, 3)), np.array([[3.0, 1.0, 2.0]]), np.array([3.0, 1.0, 2.0])
    )
    np.testing.assert_array_equal(curve.cost_L, 1.0)
    assert aiq(curve) == pytest.approx(1.0)


@LIGHT
@given(SEEDS)
def test_a_curve_of_some_instructions_is_the_curve_of_a_table_of_them(seed):
    probability, outcome, cost, mean_cost = random_zoo(seed, unobserved=0.6)
    choices = choices_at_prices(probability, outcome, cost, mean_cost)
    drawn = np.random.default_rng(seed).integers(choices.counts_B.sum(), size=30)
    rows = np.flatnonzero(choices.counts_B)[drawn]
    some, expected = (
        curve_of(choices, drawn),
        quality_cost_curve(probability[rows], outcome[rows], cost[rows], mean_cost),
    )
    np.testing.assert_allclose(some.cost_L, expected.cost_L)
    np.testing.assert_allclose(some.outcome_L, expected.outcome_L)
    assert some.cost_range == pytest.approx(expected.cost_range)
    assert some.n == expected.n == 30


@LIGHT
@given(SEEDS)
def test_order_of_instructions_and_candidates_changes_nothing(seed):
    probability, outcome, cost, mean_cost = random_zoo(seed)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(40), rng.permutation(4)
    before = quality_cost_curve(probability, outcome, cost, mean_cost)
    mixed = (each[rows][:, columns] for each in (probability, outcome, cost))
    after = quality_cost_curve(*mixed, mean_cost[columns])
    np.testing.assert_allclose(before.cost_L, after.cost_L)
    np.testing.assert_allclose(before.outcome_L, after.outcome_L)
    assert aiq(before) == pytest.approx(aiq(after))


@LIGHT
@given(SEEDS)
def test_oracle_dominates(seed):
    """Where calls cost what is expected, no router has a better outcome less price than the one that knows the outcomes."""
    probability, outcome, _, mean_cost = random_zoo(seed)
    cost = np.broadcast_to(mean_cost, outcome.shape)
    curve = quality_cost_curve(probability, outcome, cost, mean_cost)
    oracle = quality_cost_curve(np.nan_to_num(outcome), outcome, cost, mean_cost)
    gain = (oracle.outcome_L - curve.outcome_L) - curve.lambda_L * (oracle.cost_L - curve.cost_L)
    assert (gain >= -1e-9).all()
    assert oracle.cost_range == curve.cost_range
    assert 0 <= aiq(curve) <= aiq(oracle) + 1e-9 <= 1 + 1e-9


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_the_cheapest_that_is_open_can_be_reached_however_sure_a_router_is(share):
    """Where the cheapest of three did not answer, the other two cost nearly the same."""
    rng, price = np.random.default_rng(0), np.array([0.1, 5.0, 6.0]) / 1000
    outcome = (rng.random((2000, 3)) < [0.3, 0.6, 0.75]).astype(float)
    outcome[rng.random(2000) < share, 0] = np.nan
    cost = np.where(np.isnan(outcome), np.nan, price)
    known = np.nan_to_num(outcome)
    sure, unsure = (quality_cost_curve(p, outcome, cost, price) for p in (known, 0.5 + 0.2 * known))
    for curve in (sure, unsure):
        assert curve.hull_cost_K[0] == pytest.approx(curve.cost_range[0])
    assert aiq(sure) == pytest.approx(aiq(unsure), abs=1e-3)


@LIGHT
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=20))
def test_hull_rises_bends_down_and_covers_every_point(points):
    cost, outcome = np.array(points, float).T
    hull_cost, hull_outcome = nondecreasing_hull(cost, outcome)
    assert hull_cost[0] == cost.min()
    assert hull_outcome[-1] == outcome.max()
    assert (np.diff(hull_cost) > 0).all()
    assert (np.diff(hull_outcome) > 0).all()
    assert (np.diff(np.diff(hull_outcome) / np.diff(hull_cost)) < 0).all()
    assert (np.interp(cost, hull_cost, hull_outcome) >= outcome - 1e-9).all()
    assert set(zip(hull_cost, hull_outcome, strict=True)) <= set(zip(cost, outcome, strict=True))


def test_apgr_and_cpt_by_hand():
    weak, strong = np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 1.0, 1.0, 0.0])
    best_first = np.array([0.9, 0.5, 0.8, 0.1])
    # Gap 2 - 1 of 4: recovered after 0 to 4 strong calls 0, 1, 2, 2, 1.
    assert apgr(best_first, weak, strong) == pytest.approx((0.5 + 1.5 + 2 + 1.5) / 4)
    assert cpt(best_first, weak, strong, 0.5) == pytest.approx(0.5 / 4)
    assert cpt(best_first, weak, strong, 1.0) == pytest.approx(1 / 4)
    worst_first = -best_first
    # 0, -1, -1, 0, 1
    assert apgr(worst_first, weak, strong) == pytest.approx((-0.5 - 1 - 0.5 + 0.5) / 4)
    assert cpt(worst_first, weak, strong, 0.5) == pytest.approx(3.5 / 4)
    assert cpt(worst_first, weak, strong, 0.0) == 0.0


def test_equal_scores_recover_evenly():
    weak, strong = np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.5, 0.0])
    assert apgr(np.ones(4), weak, strong) == 0.5
    assert cpt(np.ones(4), weak, strong, 0.8) == pytest.approx(0.8)


def test_instructions_that_one_of_the_two_lacks_are_left_out():
    score = np.array([0.9, 0.7, 0.5, 0.3])
    weak, strong = np.array([0.0, NAN, 0.5, 0.25]), np.array([1.0, 1.0, NAN, 0.5])
    assert apgr(score, weak, strong) == apgr(score[[0, 3]], weak[[0, 3]], strong[[0, 3]])
    assert cpt(score, weak, strong, 0.8) == pytest.approx(0.5)  # one call of two recovers 1 of 1.25


def test_no_gap_is_none():
    same, nothing = np.array([1.0, 0.0]), np.full(2, NAN)
    for weak, strong in ((same, same), (same, np.zeros(2)), (same, nothing), (np.zeros(0), np.zeros(0))):
        assert apgr(np.zeros(len(weak)), weak, strong) is None
        assert cpt(np.zeros(len(weak)), weak, strong, 0.5) is None
    with pytest.raises(ValueError, match="outside"):
        cpt(same, np.zeros(2), same, 1.5)


def test_scores_of_judges_that_differ_by_their_rounding_alone_are_no_gap():
    rng = np.random.default_rng(1)
    tenths = (rng.integers(11, size=50) / 10).astype(np.float32)
    for _ in range(8):
        same = rng.random(50), tenths, rng.permutation(tenths)
        assert apgr(*same) is None
        assert cpt(*same, 0.5) is None
    weak, strong = (np.array(scores, np.float32) for scores in ([0.6, 0.2, 0.5], [0.7, 0.1, 0.6]))
    assert apgr(np.arange(2.0), weak[:2], strong[:2]) is None
    assert apgr(np.ones(3), weak, strong) == 0.5


def pair(seed: int, num: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weak, strong = (rng.random(num) < 0.4).astype(float), (rng.random(num) < 0.8).astype(float)
    weak[rng.random(num) < 0.1] = NAN
    return rng.random(num), weak, strong


@LIGHT
@given(SEEDS)
def test_perfect_scores_are_best(seed):
    score, weak, strong = pair(seed)
    perfect = np.nan_to_num(strong - weak)
    assert apgr(perfect, weak, strong) >= apgr(score, weak, strong) >= apgr(-perfect, weak, strong)
    assert apgr(perfect, weak, strong) > 0.5
    for share in (0.5, 0.8):
        assert cpt(perfect, weak, strong, share) <= cpt(score, weak, strong, share) + 1e-12
        assert cpt(perfect, weak, strong, share) < share


def test_random_scores_recover_half_on_average():
    _, weak, strong = pair(0, num=300)
    rng = np.random.default_rng(0)
    assert np.mean([apgr(rng.random(300), weak, strong) for _ in range(500)]) == pytest.approx(0.5, abs=0.01)


@LIGHT
@given(SEEDS, st.floats(0, 1), st.floats(0, 1))
def test_cpt_rises_with_the_share(seed, a, b):
    case = pair(seed)
    assert 0 <= cpt(*case, min(a, b)) <= cpt(*case, max(a, b)) <= 1


@LIGHT
@given(SEEDS)
def test_only_the_order_of_scores_counts(seed):
    score, weak, strong = pair(seed)
    rows = np.random.default_rng(seed).permutation(60)
    assert apgr(score, weak, strong) == pytest.approx(apgr(np.exp(5 * score)[rows], weak[rows], strong[rows]))


def test_real_outcomes_and_costs(shared_data):
    """RouterBench's candidates: without looking at the instruction, training means already trade cost for outcome."""
    table = read_table(shared_data / "routerbench")
    train, test = table.split("train"), table.split("test")
    outcome, cost = test.scores_MN.T, test.cost_usd_MN.T
    mean_cost, mean_score = np.nanmean(train.cost_usd_MN, axis=1), np.nanmean(train.scores_MN, axis=1)
    means = quality_cost_curve(np.broadcast_to(mean_score, outcome.shape), outcome, cost, mean_cost)
    chance = quality_cost_curve(np.random.default_rng(0).random(outcome.shape), outcome, cost, mean_cost)
    oracle = quality_cost_curve(outcome, outcome, cost, mean_cost)
    assert means.cost_range == chance.cost_range == oracle.cost_range
    assert means.n == len(test.items)
    assert aiq(chance) < aiq(means) < aiq(oracle)
    # Gives the hull of the candidates' own points, the zero router, but for what differs between training and test.
    zero = nondecreasing_hull(cost.mean(axis=0), outcome.mean(axis=0))
    assert np.interp(means.cost_L, *zero) == pytest.approx(means.outcome_L, abs=0.02)
