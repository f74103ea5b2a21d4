"""The batch of a step: a function of (seed, stage, step) alone, of training instructions and training candidates alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.aptitude import sample_aptitude_test
from satjax.config import STRONGEST, BatchConfig, LossConfig, StageConfig, TrainConfig
from satjax.errors import SatjaxError
from satjax.instructions import pad_rows
from satjax.outcomes import Candidate, Item, OutcomeTable
from satjax.training.batches import (
    Batch,
    BatchPlan,
    TrainingSet,
    check_batches,
    idle_objectives,
    training_table,
)
from tests.tiny import tiny_table

NAN = float("nan")
BUCKETS = np.array([4, 8, 16])
ONE_POSITIVE = BatchConfig(groups=3, instructions=4, candidates=1, one_positive=True)
RECIPES = [
    BatchConfig(instructions=4),
    BatchConfig(groups=2, instructions=3, candidates=2, strength=1.0),
    ONE_POSITIVE,
]


def training_set(num_instructions: int = 90, num_candidates: int = 5, seed: int = 0) -> TrainingSet:
    """Instruction n is n + 1 repeated; a tenth of the outcomes is unobserved, and two thirds are in-domain."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, BUCKETS[-1] + 1, num_instructions)
    outcome = (rng.random((num_instructions, num_candidates)) < np.linspace(0.3, 0.7, num_candidates)).astype(
        np.float32
    )
    outcome[rng.random(outcome.shape) < 0.1] = NAN
    rows = pad_rows([[n + 1] * count for n, count in enumerate(length)], width=int(BUCKETS[-1]))
    width = BUCKETS[np.searchsorted(BUCKETS, length)]
    return TrainingSet(rows, width, outcome, np.arange(num_instructions) % 3 > 0)


def plan_of(config: BatchConfig, data: TrainingSet | None = None, **changes) -> BatchPlan:
    return BatchPlan(data or training_set(), config, **{"seed": 0, "stage": 0, "in_domain": False, **changes})


def ids(batch: Batch) -> np.ndarray:
    """Which instructions stand in the batch, `[G, B]`."""
    return batch.text["token"][..., 0] - 1


def arrays(batch: Batch) -> list[np.ndarray]:
    return [batch.text["token"], batch.text["length"], batch.candidate, batch.outcome]


def same(a: Batch, b: Batch) -> bool:
    return all(
        x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in zip(arrays(a), arrays(b), strict=True)
    )


@given(st.sampled_from(RECIPES), st.integers(0, 2**31), st.lists(st.integers(0, 200), min_size=1, max_size=6))
@settings(max_examples=25)
def test_a_batch_depends_on_its_step_and_on_nothing_called_before(config, seed, steps):
    used = plan_of(config, seed=seed)
    for step in steps:
        assert same(used.batch(step), plan_of(config, seed=seed).batch(step))


@pytest.mark.parametrize("config", RECIPES, ids=["dense", "subset", "one_positive"])
def test_other_seeds_stages_and_steps_give_other_batches(config):
    first = plan_of(config).batch(0)
    assert not same(first, plan_of(config, seed=1).batch(0))
    assert not same(first, plan_of(config, stage=1).batch(0))
    assert not same(first, plan_of(config).batch(1))


@given(st.sampled_from(RECIPES), st.integers(0, 300), st.booleans())
@settings(max_examples=60)
def test_rows_are_whole_and_outcomes_are_those_of_the_table(config, step, in_domain):
    data = training_set()
    plan = plan_of(config, data, in_domain=in_domain)
    batch = plan.batch(step)
    groups, rows = config.groups, config.instructions
    width = batch.text["token"].shape[2]
    assert batch.text["token"].shape[:2] == batch.text["length"].shape == (groups, rows)
    assert batch.outcome.shape == (groups, rows, batch.candidate.shape[1])
    assert [x.dtype for x in arrays(batch)] == [np.int32, np.int32, np.int32, np.float32]
    assert width in plan.widths()
    assert batch.text["length"].max() <= width
    index = ids(batch)
    np.testing.assert_array_equal(batch.text["length"], data.text.length[index])
    filled = np.arange(width) < batch.text["length"][..., None]
    np.testing.assert_array_equal(batch.text["token"], np.where(filled, index[..., None] + 1, 0))
    for g in range(groups):
        np.testing.assert_array_equal(batch.outcome[g], data.outcome[index[g]][:, batch.candidate[g]])
    assert not in_domain or data.in_domain[index].all()


@given(st.integers(1, 120), st.integers(1, 3), st.integers(1, 8), st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=50)
def test_an_epoch_visits_nearly_all_instructions_at_most_once(num_instructions, groups, rows, epoch, seed):
    of_a_batch = groups * rows
    plan = plan_of(BatchConfig(groups=groups, instructions=rows), training_set(num_instructions), seed=seed)
    steps = num_instructions // of_a_batch
    if steps:
        visited = np.concatenate([ids(plan.batch(epoch * steps + step)).ravel() for step in range(steps)])
        assert len(set(visited.tolist())) == len(visited) > num_instructions - of_a_batch
    else:  # fewer than a batch: they are repeated, as evenly as can be
        counts = np.bincount(ids(plan.batch(epoch)).ravel(), minlength=num_instructions)
        assert counts.min() >= 1
        assert counts.max() - counts.min() <= 1


def test_epochs_differ_and_nothing_is_left_out_forever():
    plan = plan_of(BatchConfig(instructions=8))  # 11 batches of 90 instructions
    epochs = [[ids(plan.batch(11 * epoch + step)).ravel().tolist() for step in range(11)] for epoch in range(20)]
    assert len({str(epoch) for epoch in epochs}) == 20
    assert {n for epoch in epochs for batch in epoch for n in batch} == set(range(90))
    widths = [[plan.batch(11 * epoch + step).width for step in range(11)] for epoch in range(20)]
    assert sum(epoch in (sorted(epoch), sorted(epoch)[::-1]) for epoch in widths) < 3, "short and long ones take turns"


def test_the_longest_instructions_are_no_more_left_out_than_others():
    """Of 100 instructions 4 find no room in an epoch's batches: as many as the widest bucket has."""
    data = training_set(100)
    long = np.arange(100) >= 96
    data = replace(data, text=pad_rows([[n + 1] for n in range(100)], 16), width=np.where(long, 16, 4))
    plan = plan_of(BatchConfig(instructions=8), data)
    visits = np.bincount(np.concatenate([ids(plan.batch(step)).ravel() for step in range(12 * 50)]), minlength=100)
    assert visits.min() >= 40


def test_only_what_does_not_fill_a_batch_moves_up_a_bucket():
    plan = plan_of(BatchConfig(instructions=8), data := training_set())
    steps = range(11)
    moved = sum((data.width[ids(plan.batch(s))] < plan.batch(s).text["token"].shape[2]).sum() for s in steps)
    assert moved < 2 * 8  # at most 7 from each of the two narrower buckets
    assert {plan.batch(s).text["token"].shape[2] for s in steps} == {4, 8, 16}


def test_widths_are_those_of_the_stage():
    data = training_set()
    narrow = replace(data, in_domain=data.width <= 8)
    assert plan_of(RECIPES[0], narrow).widths() == [4, 8, 16]
    assert plan_of(RECIPES[0], narrow, in_domain=True).widths() == [4, 8]
    assert {plan_of(RECIPES[0], narrow, in_domain=True).batch(s).text["token"].shape[2] for s in range(30)} == {4, 8}


def test_zero_takes_all_candidates_in_order():
    for count in (0, 5):
        batch = plan_of(BatchConfig(groups=2, instructions=4, candidates=count)).batch(3)
        assert batch.candidate.tolist() == [[0, 1, 2, 3, 4]] * 2


@given(st.integers(1, 4), st.integers(0, 100), st.floats(0, 4))
@settings(max_examples=40)
def test_a_subset_of_candidates_is_distinct(count, step, strength):
    plan = plan_of(BatchConfig(groups=4, instructions=2, candidates=count, strength=strength))
    batch = plan.batch(step)
    assert batch.candidate.shape == (4, count)
    for row in batch.candidate.tolist():
        assert len(set(row)) == count
        assert set(row) <= set(range(5))


def test_every_group_and_step_draws_its_own_candidates():
    plan = plan_of(BatchConfig(groups=20, instructions=2, candidates=2))
    for step in range(3):
        assert len({str(row) for row in plan.batch(step).candidate}) > 5  # of 10 pairs
    assert plan.batch(0).candidate.tolist() != plan.batch(1).candidate.tolist()


def shares(strength: float, outcome: np.ndarray) -> np.ndarray:
    """How often each candidate is drawn, one at a time."""
    data = training_set(len(outcome))
    plan = plan_of(
        BatchConfig(groups=8, instructions=1, candidates=1, strength=strength),
        replace(data, outcome=outcome.astype(np.float32)),
    )
    drawn = np.concatenate([plan.batch(step).candidate.ravel() for step in range(500)])
    return np.bincount(drawn, minlength=outcome.shape[1]) / len(drawn)


def test_strength_prefers_stronger_candidates():
    right = np.arange(40)[:, None] < np.array([4, 12, 24])  # means 0.1, 0.3, 0.6
    np.testing.assert_allclose(shares(0.0, right), [1 / 3] * 3, atol=0.03)
    np.testing.assert_allclose(shares(1.0, right), [0.1, 0.3, 0.6], atol=0.03)
    np.testing.assert_allclose(shares(2.0, right), np.array([1, 9, 36]) / 46, atol=0.03)


def test_strength_counts_observed_outcomes_only():
    outcome = np.where(np.arange(40)[:, None] < np.array([10, 40]), 1.0, NAN)
    np.testing.assert_allclose(shares(1.0, outcome), [0.5, 0.5], atol=0.03)


@pytest.mark.parametrize("hopeless", [0.0, NAN])
def test_candidates_that_are_never_right_or_never_observed_can_still_be_drawn(hopeless):
    outcome = training_set().outcome
    outcome[:, :3] = hopeless
    plan = plan_of(BatchConfig(instructions=4, candidates=3, strength=2.0), replace(training_set(), outcome=outcome))
    batch = plan.batch(0)
    assert {3, 4} <= set(batch.candidate[0].tolist())
    assert np.isfinite(plan.probability).all()


@given(st.integers(0, 400), st.integers(2, 6), st.booleans())
@settings(max_examples=60)
def test_one_positive_groups_have_one_handled_and_the_rest_unhandled(step, rows, in_domain):
    plan = plan_of(replace(ONE_POSITIVE, instructions=rows), in_domain=in_domain)
    batch = plan.batch(step)
    assert batch.candidate.shape == (3, 1)
    assert batch.outcome.shape == (3, rows, 1)
    assert (batch.outcome[:, 0] > 0.5).all()
    assert (batch.outcome[:, 1:] <= 0.5).all()  # and observed
    assert all(len(set(group)) == rows for group in ids(batch).tolist())


def test_one_positive_groups_keep_to_a_bucket_where_it_has_enough():
    plan = plan_of(replace(ONE_POSITIVE, groups=1), data := training_set(600))
    for step in range(30):
        batch = plan.batch(step)
        assert set(data.width[ids(batch)].ravel().tolist()) == {batch.text["token"].shape[2]}
    assert {plan.batch(step).text["token"].shape[2] for step in range(30)} == {4, 8, 16}


def plan_of_widths(width: np.ndarray, outcome: np.ndarray) -> BatchPlan:
    """One-positive groups, one a batch, of a single candidate's outcomes on instructions of these widths."""
    data = training_set(len(width), 1)
    data = replace(data, width=width, outcome=outcome[:, None].astype(np.float32))
    return plan_of(replace(ONE_POSITIVE, groups=1), data)


def test_a_bucket_is_drawn_as_often_as_it_has_instructions():
    width = np.where(np.arange(400) % 20, 4, 16)
    plan = plan_of_widths(width, np.arange(400) // 20 % 2)
    assert np.mean([plan.batch(step).width == 16 for step in range(400)]) == pytest.approx(0.05, abs=0.03)


def test_a_bucket_that_has_too_few_takes_narrower_instructions_first():
    """Half are of a bucket that nobody answered: wide ones stand only in batches of their own bucket, three tenths."""
    width = np.repeat([4, 8, 16], [40, 100, 60])
    outcome = np.where(width == 8, NAN, 0)
    outcome[:20] = 1
    plan = plan_of_widths(width, outcome)
    assert np.mean([plan.batch(step).width == 16 for step in range(300)]) == pytest.approx(0.3, abs=0.08)


def test_one_positive_groups_prefer_stronger_candidates_too():
    plan = plan_of(replace(ONE_POSITIVE, strength=4.0))
    drawn = np.bincount(np.concatenate([plan.batch(step).candidate.ravel() for step in range(200)]), minlength=5)
    assert drawn[4] > 2 * drawn[0]


def table_of(outcome_NM: np.ndarray) -> OutcomeTable:
    """A training table with these outcomes: two thirds of its instructions are of the task `known`."""
    items = tuple(Item(f"i{n}", "text", "known" if n % 3 else "other") for n in range(len(outcome_NM)))
    candidates = tuple(Candidate(f"c{m}") for m in range(outcome_NM.shape[1]))
    return OutcomeTable(items, candidates, np.ascontiguousarray(outcome_NM.T))


def stage(name: str, instructions: str = "all") -> StageConfig:
    return StageConfig(name, 1, 0.1, ("connector/.*",), instructions=instructions)  # type: ignore[arg-type]


STAGES = (stage("one"), stage("two", "aptitude_tasks"))


def test_what_every_stage_has_enough_for_is_fine():
    for config in RECIPES:
        check_batches(table_of(training_set().outcome), {"known"}, config, STAGES)


@pytest.mark.parametrize("outcome", [0.0, 1.0, NAN])
def test_a_candidate_without_enough_of_either_is_named_before_the_first_step(outcome):
    data = training_set()
    data.outcome[:, 3] = outcome
    with pytest.raises(
        SatjaxError,
        match=r"config batch\.instructions = 4: candidate 'c3' has too few right .* in stage 'one'; lower it",
    ):
        check_batches(table_of(data.outcome), {"known"}, ONE_POSITIVE, STAGES)
    data.outcome[:4, 3] = [1, 0, 0, 0]
    data.outcome[4:, 3] = NAN
    check_batches(table_of(data.outcome), {"known"}, ONE_POSITIVE, STAGES[:1])
    with pytest.raises(SatjaxError, match=r"candidate 'c3' has too few right or wrong outcomes .* in stage 'two'"):
        check_batches(table_of(data.outcome), {"known"}, ONE_POSITIVE, STAGES)
    plan = plan_of(ONE_POSITIVE, data)
    for step in range(20):
        batch = plan.batch(step)
        for g in np.flatnonzero(batch.candidate[:, 0] == 3):
            assert sorted(ids(batch)[g].tolist()) == [0, 1, 2, 3]


def test_more_candidates_than_there_are_is_one_line():
    with pytest.raises(SatjaxError, match=r"config batch\.candidates = 6: there are 5 to train on; 0 takes them all"):
        check_batches(table_of(training_set().outcome), {"known"}, BatchConfig(candidates=6), STAGES)


def test_a_later_stage_without_instructions_is_one_line():
    with pytest.raises(
        SatjaxError,
        match="config stage 'two': no training instruction is of the aptitude test's tasks; set the stage's instructions",
    ):
        check_batches(table_of(training_set().outcome), {"unheard of"}, BatchConfig(), STAGES)


def one_each(num_instructions: int = 90, num_candidates: int = 5) -> np.ndarray:
    """Outcomes as in the log of a service: each instruction went to one candidate."""
    outcome = np.full((num_instructions, num_candidates), NAN, np.float32)
    rows = np.arange(num_instructions)
    outcome[rows, rows % num_candidates] = rows // num_candidates % 2
    return outcome


def idle(outcome: np.ndarray, batch: BatchConfig | None = None, stages=STAGES[:1], tasks=("known",), **loss: float):
    config = TrainConfig(stages, loss=LossConfig(**loss), batch=batch or BatchConfig())
    return idle_objectives(table_of(outcome), set(tasks), config)


def test_an_objective_that_has_nothing_to_compare_is_named():
    everything = {"over_candidates": 1.0, "over_instructions": 1.0}
    assert idle(training_set().outcome, **everything) == {}
    assert idle(one_each(), **everything) == {"over_candidates": "one"}
    assert idle(one_each(), over_candidates=0.0) == {}, "what has no weight need not compare"
    assert idle(np.where(np.isnan(one_each()), NAN, np.float32(1)), **everything) == dict.fromkeys(everything, "one")
    soft = np.tile(np.array([0.2, 0.2, 0.3], np.float32), (4, 1))
    assert idle(soft, **everything) == {"over_instructions": "one"}
    single = BatchConfig(instructions=1, candidates=1)
    assert idle(training_set().outcome, single, **everything) == dict.fromkeys(everything, "one")


def test_every_stage_has_to_have_something_to_compare():
    outcome = training_set().outcome
    outcome[[item.task == "known" for item in table_of(outcome).items]] = 1.0
    assert idle(outcome, stages=STAGES) == {"over_candidates": "two"}
    assert idle(outcome, stages=STAGES[:1], pointwise=0.0) == {}
    with pytest.raises(SatjaxError, match="leave over_candidates nothing to compare in stage 'two', so nothing would"):
        idle(outcome, stages=STAGES, pointwise=0.0)
    with pytest.raises(SatjaxError, match="leave over_candidates nothing to compare in stage 'one'"):
        idle(one_each(), pointwise=0.0)


def test_the_strongest_preference_can_be_drawn_by():
    outcome = np.zeros((40, 3))
    outcome[:, 0] = 1
    plan = plan_of(BatchConfig(candidates=3, strength=STRONGEST), replace(training_set(40, 3), outcome=outcome))
    assert plan.batch(0).candidate.tolist() == [[0, 1, 2]]
    plan = plan_of(BatchConfig(candidates=2, strength=STRONGEST), replace(training_set(40, 3), outcome=outcome))
    assert plan.batch(0).candidate[0, 0] == 0


@given(st.integers(0, 10), st.sets(st.integers(0, 5), max_size=4))
@settings(max_examples=20)
def test_training_sees_neither_aptitude_items_nor_held_out_candidates(seed, held_out):
    table = tiny_table()
    held = tuple(table.candidate_ids[m] for m in held_out)
    kept = [name for name in table.candidate_ids if name not in held]
    test = sample_aptitude_test(table.select_candidates(kept), 6, 4, seed)
    train = training_table(table, held, test.item_ids, with_aptitude=False)
    assert train.candidate_ids == tuple(kept)
    assert not test.item_ids & set(train.item_ids)
    assert {item.split for item in train.items} == {"train"}
    assert len(train.items) == len(table.split("train").items) - 24  # nothing else is lost
    rows = [table.candidate_ids.index(name) for name in kept]
    columns = [table.item_ids.index(name) for name in train.item_ids]
    np.testing.assert_array_equal(train.scores_MN, table.scores_MN[np.ix_(rows, columns)])
    whole = training_table(table, held, test.item_ids, with_aptitude=True)
    assert whole.candidate_ids == train.candidate_ids
    assert whole.item_ids == table.split("train").item_ids


def small(scores: list[list[float]], splits: tuple[str, ...] = ("train", "train", "test")) -> OutcomeTable:
    items = tuple(Item(f"i{n}", f"text {n}", "t", split=split) for n, split in enumerate(splits))
    return OutcomeTable(items, (Candidate("alpha"), Candidate("beta")), np.array(scores, np.float32))


def trained_on(table, held_out=(), aptitude_items=(), with_aptitude=False):
    return training_table(table, held_out, frozenset(aptitude_items), with_aptitude=with_aptitude)


def test_instructions_that_only_held_out_candidates_answered_are_left_out():
    table = small([[1, NAN, 1], [1, 0, 1]])
    assert trained_on(table).item_ids == ("i0", "i1")
    assert trained_on(table, ("beta",)).item_ids == ("i0",)
    assert trained_on(table, ("beta",), {"i1"}, with_aptitude=True).item_ids == ("i0",)


def test_what_asks_the_same_as_an_aptitude_item_is_not_trained_on_where_profiles_are_read():
    table = small([[1, 0, 1], [1, 0, 1]], ("train", "train", "train"))
    items = (*table.items[:2], replace(table.items[2], text="text  0"))
    table = replace(table, items=items)
    assert trained_on(table, (), {"i0"}).item_ids == ("i1",)
    assert trained_on(table, (), {"i0"}, with_aptitude=True).item_ids == ("i0", "i1", "i2")


def test_nothing_to_train_on_is_one_line():
    table = small([[1, NAN, 1], [1, 0, 1]])
    with pytest.raises(SatjaxError, match="leaves no candidate to train on; hold out fewer"):
        trained_on(table, ("alpha", "beta"))
    with pytest.raises(SatjaxError, match="unknown candidate 'betta': did you mean 'beta'"):
        trained_on(table, ("betta",))
    with pytest.raises(SatjaxError, match="no training instruction is left beside the aptitude test's items"):
        trained_on(table, (), {"i0", "i1"})
    with pytest.raises(SatjaxError, match="no training instruction is left beside the aptitude test's items"):
        trained_on(table, (), {"i0", "i1"}, with_aptitude=True)
    with pytest.raises(SatjaxError, match="no training instruction is left"):
        trained_on(table, ("beta",), {"i0"})
    with pytest.raises(SatjaxError, match="no items of split 'train'"):
        trained_on(small([[1, 1, 1], [1, 1, 1]], ("test", "val", "test")))
