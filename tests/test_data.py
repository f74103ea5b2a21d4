"""Folds refuse what does not fit, and are made of the right items of a table."""

from dataclasses import replace

import numpy as np
import pytest

from satjax.aptitude import sample_aptitude_test
from satjax.errors import SatjaxError
from satjax.evaluation.baselines import (
    BaselineData,
    Fold,
    Instructions,
    Predictor,
    aptitude_fold,
    baseline_data,
    check_splits,
)
from tests.planted import NAN, columns, planted, unit
from tests.tiny import tiny_table

ROWS = unit(np.arange(1, 7).reshape(3, 2))
TASKS = ("a", "b", "a")


@pytest.mark.parametrize(
    ("embedding", "reason"),
    [
        (ROWS.astype(np.float64), "float64"),
        (ROWS[:2], r"float32\(2, 2\), not float32\[3, E\]"),
        (ROWS[0], "not float32"),
        (ROWS * np.array([[1], [1], [2]], np.float32), "instruction 2 has length 2, not 1"),
        (np.where(np.arange(6).reshape(3, 2) == 3, NAN, ROWS).astype(np.float32), "instruction 1 has length nan"),
    ],
)
def test_embeddings_that_do_not_fit(embedding, reason):
    with pytest.raises(SatjaxError, match=reason):
        Instructions(embedding, TASKS)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (np.zeros((3, 2)), "float64"),
        (np.zeros((2, 2), np.float32), "not float32"),
        (np.full((3, 2), 1.5, np.float32), "outside"),
    ],
)
def test_outcomes_that_do_not_fit(outcome, reason):
    with pytest.raises(SatjaxError, match=reason):
        Fold(Instructions(ROWS, TASKS), outcome)


def test_folds_that_do_not_belong_together():
    data = planted("clusters", sizes=(20, 10, 10, 5)).data
    fewer = columns(data, np.array([0, 1]))
    with pytest.raises(SatjaxError, match="differ"):
        replace(data, val=fewer.val)
    with pytest.raises(SatjaxError, match="nothing is observed in the split 'val'"):
        replace(data, val=Fold(data.val.instructions, np.full_like(data.val.outcome_BM, NAN)))
    assert (data.num_candidates, fewer.num_candidates) == (5, 2)


def test_probabilities_are_float32_in_their_range():
    predict = Predictor(lambda instructions: np.array([[-1e-9, 0.5, 1 + 1e-9]]), {}, 0.0)
    probability = predict(Instructions(ROWS[:1], ("a",)))
    assert probability.dtype == np.float32
    np.testing.assert_array_equal(probability, np.array([[0, 0.5, 1]], np.float32))


def test_folds_of_a_table_hold_its_items_and_nothing_of_its_test_split():
    table = tiny_table()
    test = sample_aptitude_test(table, 6, 4, 0)
    embedding_NE = unit(np.random.default_rng(0).normal(size=(len(table.items), 3)))
    data = baseline_data(table, embedding_NE, test)
    for name in ("train", "val"):
        fold, held = getattr(data, name), table.split(name)
        np.testing.assert_array_equal(fold.outcome_BM, held.scores_MN.T)
        assert fold.instructions.tasks == tuple(item.task for item in held.items)
        place = [table.item_ids.index(item) for item in held.item_ids]
        np.testing.assert_array_equal(fold.instructions.embedding_BE, embedding_NE[place])
    assert len(data.aptitude.instructions.tasks) == 24

    is_test = np.array([item.split == "test" for item in table.items])
    changed = replace(table, scores_MN=np.where(is_test, NAN, table.scores_MN).astype(np.float32))
    again = baseline_data(changed, np.where(is_test[:, None], -embedding_NE, embedding_NE), test)
    for before, after in zip(vars(data).values(), vars(again).values(), strict=True):
        np.testing.assert_array_equal(before.outcome_BM, after.outcome_BM)
        np.testing.assert_array_equal(before.instructions.embedding_BE, after.instructions.embedding_BE)


def test_known_and_new_candidates_stand_on_the_same_aptitude_items():
    table = tiny_table()
    test = sample_aptitude_test(table, 6, 4, 0)
    embedding_NE = unit(np.random.default_rng(0).normal(size=(len(table.items), 3)))
    known, new = table.candidate_ids[:4], table.candidate_ids[4:]
    data = baseline_data(table.select_candidates(known), embedding_NE, test)
    anchor = aptitude_fold(table.select_candidates(new), embedding_NE, test)
    assert isinstance(data, BaselineData)
    assert data.aptitude.instructions.tasks == anchor.instructions.tasks
    np.testing.assert_array_equal(data.aptitude.instructions.embedding_BE, anchor.instructions.embedding_BE)
    item = {item.id: i for i, item in enumerate(table.items)}
    expected = np.array([table.scores_MN[4:, item[name]] for name in table.item_ids if name in test.item_ids])
    np.testing.assert_array_equal(anchor.outcome_BM, expected)


def test_aptitude_items_know_the_tests_own_tasks():
    """Clusters of instructions, say, where the table names no tasks."""
    table = tiny_table()
    test = sample_aptitude_test(table, 6, 4, 0)
    test = replace(test, tasks=tuple(replace(task, name=f"cluster {t % 2}") for t, task in enumerate(test.tasks)))
    data = baseline_data(table, unit(np.ones((len(table.items), 3))), test)
    cluster = {name: task.name for task in test.tasks for name in task.item_ids}
    asked = [item for item in table.items if item.id in cluster]
    assert data.aptitude.instructions.core_tasks == tuple(cluster[item.id] for item in asked)
    assert data.aptitude.instructions.tasks == tuple(item.task for item in asked)
    assert data.train.instructions.core_tasks == ()


@pytest.mark.parametrize("missing", ["train", "val"])
def test_tables_without_what_is_needed(missing):
    table = tiny_table()
    test = sample_aptitude_test(table, 6, 4, 0)
    rest = table.select_items(np.array([item.split != missing for item in table.items]))
    embedding_NE = unit(np.ones((len(rest.items), 3)))
    with pytest.raises(SatjaxError, match=f"no items of split '{missing}'"):
        baseline_data(rest, embedding_NE, test)
    if missing == "train":
        with pytest.raises(SatjaxError, match="none of the aptitude test's items"):
            aptitude_fold(rest, embedding_NE, test)


@pytest.mark.parametrize("empty", ["train", "val"])
def test_splits_without_an_outcome_are_missed_before_anything_is_fitted(empty):
    table = tiny_table()
    nothing = np.where([item.split == empty for item in table.items], NAN, table.scores_MN).astype(np.float32)
    with pytest.raises(SatjaxError, match=f"nothing is observed in the split '{empty}'"):
        check_splits(replace(table, scores_MN=nothing))
