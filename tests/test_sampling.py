"""The aptitude test is drawn from the training split alone, by distinguishability."""

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.aptitude import sample_aptitude_test
from satjax.aptitude.sampling import distinguishability
from satjax.errors import SatjaxError
from satjax.outcomes import Candidate, Item, OutcomeTable
from tests.tiny import tiny_table

zoo = cache(tiny_table)


def table_of(columns: dict[str, list[list[float]]], split: str = "train") -> OutcomeTable:
    """A table from the outcomes of each item, by task; tasks of curated names keep the draw quick."""
    items, scores = [], []
    for task, outcomes in columns.items():
        items += [Item(f"{task}#{n}", f"text {n} of {task}", task, split=split) for n in range(len(outcomes))]
        scores += outcomes
    matrix = np.array(scores, np.float32).T
    return OutcomeTable(tuple(items), tuple(Candidate(f"c{m}") for m in range(len(matrix))), matrix)


def right(count: int, of: int) -> list[float]:
    return [1.0] * count + [0.0] * (of - count)


@given(st.integers(1, 16), st.integers(1, 20), st.integers(0, 2**32))
@settings(max_examples=15)
def test_t_tasks_of_k_training_items_each_item_once(num_tasks, shots, seed):
    test = sample_aptitude_test(zoo(), num_tasks, shots, seed)
    assert (test.num_tasks, test.shots, test.seed) == (num_tasks, shots, seed)
    assert test.source == "synthetic"
    assert len({task.name for task in test.tasks}) == num_tasks
    drawn = [item for task in test.tasks for item in task.item_ids]
    assert len(drawn) == len(test.item_ids) == num_tasks * shots
    items = {item.id: item for item in zoo().items}
    assert {items[name].split for name in drawn} == {"train"}
    for task in test.tasks:
        assert {items[name].task for name in task.item_ids} == {task.name}
        assert len(set(task.keywords)) == 5


@given(st.integers(0, 2**32))
@settings(max_examples=5)
def test_the_same_seed_gives_the_same_test(seed):
    assert sample_aptitude_test(zoo(), 6, 4, seed) == sample_aptitude_test(tiny_table(), 6, 4, seed)


def test_every_seed_gives_another_test():
    assert len({sample_aptitude_test(zoo(), 6, 4, seed).item_ids for seed in range(5)}) == 5


@given(st.integers(0, 2**32))
@settings(max_examples=10)
def test_neither_held_out_candidates_nor_other_splits_have_a_say(seed):
    """And the order of the candidates has none either."""
    rng = np.random.default_rng(seed)
    seen = zoo().candidate_ids[:4]
    outside = np.array([item.split != "train" for item in zoo().items])
    changed = zoo().scores_MN.copy()
    changed[4:] = rng.random(changed[4:].shape)
    changed[:, outside] = rng.random((len(changed), outside.sum()))
    other = replace(zoo(), scores_MN=changed)
    expected = sample_aptitude_test(zoo().select_candidates(seen), 6, 4, seed)
    assert sample_aptitude_test(other.select_candidates(rng.permutation(seen).tolist()), 6, 4, seed) == expected


def test_items_that_everybody_gets_right_or_wrong_are_hardly_drawn():
    easy, hard = [right(4, 4)] * 30, [right(0, 4)] * 30
    table = table_of({"mmlu/anatomy": easy + [right(2, 4)] * 10 + hard})
    drawn = Counter(name for seed in range(20) for name in sample_aptitude_test(table, 1, 10, seed).item_ids)
    told_apart = sum(drawn[f"mmlu/anatomy#{n}"] for n in range(30, 40))
    assert told_apart > 0.9 * drawn.total()
    assert max(drawn.values()) == 20  # one of them is drawn every time, never twice


def test_an_item_weighs_4p_1_minus_p_over_its_observed_outcomes():
    nan = float("nan")
    half = [1.0] * 3 + [0.0] * 3 + [nan] * 4
    table = table_of({"mmlu/anatomy": [half, right(1, 10)]})  # weights 1 and 4 x 0.1 x 0.9 = 0.36
    first = sum(sample_aptitude_test(table, 1, 1, seed).item_ids == {"mmlu/anatomy#0"} for seed in range(1000))
    assert first / 1000 == pytest.approx(1 / 1.36, abs=0.04)


def test_an_item_on_which_all_have_the_same_soft_score_tells_nobody_apart():
    table = table_of({"mmlu/anatomy": [[0.5] * 4] * 100 + [[1.0, 0.8, 0.9, 1.0]] * 100})
    (task,) = sample_aptitude_test(table, 1, 20).tasks
    assert sum(int(name.partition("#")[2]) >= 100 for name in task.item_ids) >= 15


@given(st.integers(0, 2**32), st.floats(0, 1))
@settings(max_examples=40)
def test_distinguishability_is_four_times_the_variance(seed, missing):
    rng = np.random.default_rng(seed)
    soft = rng.random((5, 20)).astype(np.float32)
    soft[rng.random(soft.shape) < missing] = np.nan
    observed = ~np.isnan(soft)
    expected = [4 * np.var(soft[seen, n]) if seen.any() else 0.0 for n, seen in enumerate(observed.T)]
    np.testing.assert_allclose(distinguishability(soft), expected, atol=1e-5)
    hard = np.round(soft)
    share = np.where(observed, hard, 0.0).sum(axis=0) / np.maximum(observed.sum(axis=0), 1)
    np.testing.assert_array_equal(distinguishability(hard), 4 * share * (1 - share))


def test_an_even_draw_takes_no_account_of_outcomes():
    table = table_of({"mmlu/anatomy": [right(5, 10), right(0, 10)], "mmlu/virology": [right(10, 10)] * 2})
    drawn = Counter(name for seed in range(1000) for name in sample_aptitude_test(table, 1, 1, seed, "even").item_ids)
    assert min(drawn.values()) > 200


def test_a_task_weighs_the_mean_of_its_items():
    table = table_of({"mmlu/anatomy": [right(2, 4)] * 2, "mmlu/virology": [right(2, 4), *[right(4, 4)] * 7]})
    first = sum(sample_aptitude_test(table, 1, 2, seed).tasks[0].name == "mmlu/anatomy" for seed in range(1000))
    assert first / 1000 == pytest.approx(1 / (1 + 1 / 8), abs=0.04)


def test_items_that_no_candidate_answered_are_never_drawn():
    nan = float("nan")
    table = table_of({"mmlu/anatomy": [[nan, nan], [1.0, nan], [nan, nan], [0.0, 1.0]]})
    assert sample_aptitude_test(table, 1, 2).item_ids == {"mmlu/anatomy#1", "mmlu/anatomy#3"}
    with pytest.raises(SatjaxError, match="1 task with 3 items each cannot be drawn: 0 tasks have"):
        sample_aptitude_test(table, 1, 3)


def test_items_that_few_of_the_candidates_were_tried_on_are_never_drawn():
    """Two sources in one table: a test of the smaller one's items would leave most profiles empty."""
    nan = float("nan")
    many, few = [1.0, 0.0, 1.0, 0.0, nan], [nan, nan, nan, nan, 1.0]
    table = table_of({"mmlu/anatomy": [many, few, many, few], "mmlu/virology": [few] * 4})
    for seed in range(5):
        assert sample_aptitude_test(table, 1, 2, seed, "even").item_ids == {"mmlu/anatomy#0", "mmlu/anatomy#2"}


def sparse(num_items: int, num_candidates: int = 8, tasks: int = 4) -> OutcomeTable:
    """A log: two random candidates an instruction."""
    rng = np.random.default_rng(0)
    scores = np.full((num_candidates, num_items), np.nan, np.float32)
    for n in range(num_items):
        scores[rng.choice(num_candidates, 2, replace=False), n] = rng.integers(0, 2, 2)
    names = ("mmlu/anatomy", "mmlu/virology", "mmlu/astronomy", "mmlu/marketing")[:tasks]
    items = tuple(Item(f"i{n}", f"text {n}", names[n % tasks]) for n in range(num_items))
    return OutcomeTable(items, tuple(Candidate(f"c{m}") for m in range(num_candidates)), scores)


@pytest.mark.parametrize("greetings", [1, 10])
def test_what_all_candidates_were_asked_once_does_not_rule_out_the_rest_of_a_log(greetings):
    table = sparse(800)
    scores = table.scores_MN.copy()
    scores[:, :greetings] = 1.0
    assert sample_aptitude_test(replace(table, scores_MN=scores), 4, 20, draw="even").num_tasks == 4


def test_a_source_of_many_tasks_of_one_candidate_does_not_dilute_a_test_of_all_others():
    """All are asked the first task; a hundred other tasks, enough for the wanted test, are asked of the last candidate."""
    nan = float("nan")
    many, few = [1.0, 0.0, 1.0, 0.0, nan], [nan, nan, nan, nan, 1.0]
    table = table_of({"mmlu/anatomy": [many] * 40} | {f"task {n}": [few] * 10 for n in range(100)})
    with pytest.raises(SatjaxError, match=r"1 task has that many .* with outcomes of at least 2 of the 5 candidates; "):
        sample_aptitude_test(table, 20, 10)


def test_one_test_draws_a_text_once():
    """A log may have an id for each request: the same question counts once, as the one that most candidates answered."""
    nan = float("nan")
    table = table_of({"mmlu/anatomy": [[1.0, nan], [1.0, 0.0], [0.0, 1.0], [nan, 0.0]]})
    texts = ("a question", " a  question", "another", "another\n")
    items = tuple(replace(item, text=text) for item, text in zip(table.items, texts, strict=True))
    table = replace(table, items=items)
    for seed in range(5):
        assert sample_aptitude_test(table, 1, 2, seed).item_ids == {"mmlu/anatomy#1", "mmlu/anatomy#2"}
    with pytest.raises(SatjaxError, match="0 tasks have that many training items of different texts"):
        sample_aptitude_test(table, 1, 3)


def test_a_test_names_the_sources_of_its_items():
    table = table_of({"mmlu/anatomy": [[1.0, 0.0]] * 2, "mmlu/virology": [[1.0, 0.0]]})
    items = tuple(replace(item, source=item.task[5:]) for item in table.items)
    assert sample_aptitude_test(replace(table, items=items), 1, 2).source == "anatomy"


def test_too_few_items_are_one_line_with_the_mend():
    table = table_of({"mmlu/anatomy": [[1.0]] * 4, "mmlu/virology": [[1.0]] * 3})
    with pytest.raises(SatjaxError) as caught:
        sample_aptitude_test(table, 2, 4)
    message = str(caught.value)
    assert "2 tasks with 4 items each cannot be drawn: 1 task has that many training items" in message
    assert message.endswith("train with --config.aptitude.num_tasks=1 --config.aptitude.shots=3")
    with pytest.raises(SatjaxError, match=r"0 tasks have .*; import more training items$"):
        sample_aptitude_test(table_of({"mmlu/anatomy": [[1.0]]}), 2, 4)
    with pytest.raises(SatjaxError, match="no items of split 'train'"):
        sample_aptitude_test(table_of({"mmlu/anatomy": [[1.0]]}, split="test"), 1, 1)


def test_a_drawn_test_knows_the_texts_of_its_items():
    table = zoo()
    test = sample_aptitude_test(table, num_tasks=6, shots=4)
    assert test.with_other_texts(table.items) == []
    changed = [replace(item, text=f"{item.text}!") for item in table.items]
    assert sorted(test.with_other_texts(changed)) == sorted(test.item_ids)
