"""What is said to fit a table can be drawn from it, and leaves enough to train on."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.aptitude import sample_aptitude_test
from satjax.config import AptitudeConfig
from satjax.errors import SatjaxError
from satjax.outcomes import Candidate, Item, OutcomeTable, cluster_tasks
from satjax.outcomes.fitting import drawable_items, fitting_flags, largest_test

WORDS = ["onion", "garlic", "soup", "planet", "orbit", "star", "court", "judge", "verdict", "the", "of"]


def table_of(sizes: list[int], seed: int = 0, observed: float = 1.0, num_candidates: int = 3) -> OutcomeTable:
    """A table with so many training items of each task, of a few words each, and one item of the test split.

    `observed` is a share of outcomes; the items of each next task have more than those of the one before.
    """
    rng = np.random.default_rng(seed)
    items = [
        Item(f"{task}#{n}", f"{' '.join(rng.choice(WORDS, 3))} {task} {n}", f"task {task}")
        for task, size in enumerate(sizes)
        for n in range(size)
    ]
    items.append(Item("held", "onion soup", "task 0", split="test"))
    scores = rng.integers(0, 2, (num_candidates, len(items))).astype(np.float32)
    task_N = np.array([int(item.task.split()[1]) for item in items])
    scores[rng.random(scores.shape) > observed ** (len(sizes) - task_N)] = np.nan
    return OutcomeTable(tuple(items), tuple(Candidate(f"c{m}") for m in range(num_candidates)), scores)


def suggested(text: str) -> list[dict[str, int]]:
    """The settings of each suggestion."""
    flags = [re.findall(r"--config\.aptitude\.(\w+)=(\d+)", each) for each in text.split(", or, ")]
    return [{name: int(value) for name, value in each} for each in flags]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(1, 20),
    st.integers(0, 3),
    st.sampled_from([1.0, 0.9, 0.5]),
    st.sampled_from([3, 20]),
)
@settings(max_examples=60)
def test_what_is_suggested_can_be_drawn_and_leaves_half(sizes, num_tasks, shots, seed, observed, num_candidates):
    table = table_of(sizes, seed, observed, num_candidates)
    drawable = sum(drawable_items(table, num_tasks, shots).counts)
    text = fitting_flags(table, num_tasks, shots, seed)
    assert bool(text) == (drawable > 1)
    for settings_of_one in suggested(text) if text else ():
        config = AptitudeConfig(**settings_of_one, seed=seed)
        own = cluster_tasks(table, config.clusters, seed) if config.clusters else table
        test = sample_aptitude_test(own, config.num_tasks, config.shots, seed)
        assert len(test.item_ids) == config.num_tasks * config.shots
        assert 2 * len(test.item_ids) <= sum(drawable_items(own, config.num_tasks, config.shots).counts)
        assert config.num_tasks <= num_tasks
        assert config.shots <= shots


@pytest.mark.parametrize(
    ("counts", "fits"),
    [
        ([20] * 4, (4, 10)),
        ([160], (1, 20)),
        ([25] * 4, (4, 12)),
        ([100, 3, 3], (1, 20)),  # more items than three tasks of three
        ([400] * 60, (50, 20)),
        ([2], (1, 1)),
        ([1], None),
        ([], None),
    ],
)
def test_the_test_with_the_most_items_is_the_largest(counts, fits):
    assert largest_test(counts, 50, 20) == fits


def test_one_task_can_be_clustered():
    own, clustered = suggested(fitting_flags(table_of([160]), 50, 20))
    assert own == {"num_tasks": 1, "shots": 20}
    assert clustered["clusters"] == 4
    assert clustered["num_tasks"] > 1


def test_tasks_that_give_enough_are_not_clustered():
    assert len(suggested(fitting_flags(table_of([30] * 8), 50, 20))) == 1


def test_instructions_that_cannot_be_clustered_keep_their_task():
    table = table_of([160])
    items = tuple(Item(item.id, "the " * n + "same", item.task, split=item.split) for n, item in enumerate(table.items))
    ((own),) = suggested(fitting_flags(OutcomeTable(items, table.candidates, table.scores_MN), 50, 20))
    assert own == {"num_tasks": 1, "shots": 20}


def test_the_error_of_a_table_without_tasks_and_every_way_out_of_it():
    table = table_of([160])
    with pytest.raises(SatjaxError, match="1 task has that many training items") as caught:
        sample_aptitude_test(table, 50, 20)
    assert str(caught.value).endswith(f"train with {fitting_flags(table, 50, 20)}")
    with pytest.raises(SatjaxError, match=r"add --config\.aptitude\.num_tasks=10, or fewer"):
        AptitudeConfig(clusters=10)
    clustered = cluster_tasks(table, 10, 0)
    with pytest.raises(SatjaxError) as again:
        sample_aptitude_test(clustered, 10, 20)
    for each in suggested(str(again.value).partition("train with ")[2]):
        tasks = cluster_tasks(clustered, each["clusters"], 0) if "clusters" in each else clustered
        assert sample_aptitude_test(tasks, each["num_tasks"], each["shots"]).num_tasks == each["num_tasks"]
