"""Tasks made of the instructions' words."""

from collections import Counter

import numpy as np
import pytest

from satjax.aptitude import sample_aptitude_test
from satjax.errors import SatjaxError
from satjax.outcomes import Candidate, Item, OutcomeTable, cluster_tasks

TOPICS = {
    "cooking": "onion garlic soup pan oven flour butter recipe",
    "astronomy": "planet orbit star galaxy telescope comet moon nebula",
    "law": "court judge contract statute appeal jury verdict tort",
}


def mixed(per_topic: int = 20, split: str = "train") -> OutcomeTable:
    """Instructions of three topics under one task, each topic with fewer than the one before."""
    rng = np.random.default_rng(0)
    items = []
    for rank, (topic, words) in enumerate(TOPICS.items()):
        for n in range(per_topic - 3 * rank):
            drawn = rng.choice(words.split(), 5, replace=False)
            items.append(Item(f"{topic}#{n}", f"Explain {' and '.join(drawn)}, case {n}", "mixed", split=split))
    items.append(Item("held", "onion soup", "mixed", split="test"))
    scores = rng.integers(0, 2, (4, len(items))).astype(np.float32)
    return OutcomeTable(tuple(items), tuple(Candidate(f"c{m}") for m in range(4)), scores)


def test_topics_are_found_and_the_largest_comes_first():
    table = cluster_tasks(mixed(), 3, seed=0)
    found = {topic: {item.task for item in table.items if item.id.startswith(topic)} for topic in TOPICS}
    assert found == {"cooking": {"cluster 1"}, "astronomy": {"cluster 2"}, "law": {"cluster 3"}}


def test_only_tasks_of_training_items_change():
    before, after = mixed(), cluster_tasks(mixed(), 3, seed=0)
    assert after.items[-1] == before.items[-1]
    assert [(i.id, i.text, i.split) for i in after.items] == [(i.id, i.text, i.split) for i in before.items]
    np.testing.assert_array_equal(after.scores_MN, before.scores_MN)


def test_the_same_seed_makes_the_same_tasks():
    assert cluster_tasks(mixed(), 5, seed=3).items == cluster_tasks(mixed(), 5, seed=3).items
    assert len(Counter(item.task for item in cluster_tasks(mixed(), 5, seed=3).items[:-1])) == 5


def test_an_aptitude_test_is_drawn_from_clusters():
    test = sample_aptitude_test(cluster_tasks(mixed(), 3, seed=0), num_tasks=3, shots=10)
    assert [task.name for task in test.tasks] == ["cluster 1", "cluster 2", "cluster 3"]
    assert set(test.tasks[0].keywords) <= {*TOPICS["cooking"].split(), "explain", "case"}


def one_line(table: OutcomeTable, clusters: int) -> str:
    with pytest.raises(SatjaxError) as caught:
        cluster_tasks(table, clusters, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_more_clusters_than_instructions_is_one_line():
    assert one_line(mixed(), 52).endswith("there are 51 different training instructions; lower it")


def test_instructions_without_words_are_one_line():
    table = mixed()
    items = tuple(Item(i.id, "the " if n % 2 else "of", i.task, split=i.split) for n, i in enumerate(table.items))
    assert "no words to cluster by" in one_line(OutcomeTable(items, table.candidates, table.scores_MN), 2)
