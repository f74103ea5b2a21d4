"""Five words that say what a task is about, curated or found."""

import tracemalloc
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.aptitude.keywords import task_keywords
from satjax.outcomes import Candidate, Item, OutcomeTable
from tests.test_table import tables
from tests.tiny import tiny_table


def corpus(**texts: str) -> OutcomeTable:
    """One item for each task; underscores of its name stand for slashes."""
    items = tuple(Item(task, text, task.replace("__", "/")) for task, text in texts.items())
    return OutcomeTable(items, (Candidate("c"),), np.ones((1, len(items)), np.float32))


def test_class_tfidf_by_hand():
    """Of 6 and 4 words, A = 5: cat 3/6 log(1 + 5/3) = 0.49, bird 1/6 log(1 + 5/1) = 0.30, dog 2/6 log(1 + 5/6) = 0.20."""
    table = corpus(pets__one="cat cat cat dog dog bird", pets__two="dog Dog DOG dog")
    found = task_keywords(table, ["pets/one", "pets/two"])
    assert found["pets/one"] == ("cat", "bird", "dog", "pets", "one")
    assert found["pets/two"] == ("dog", "pets", "two", "topic1", "topic2")


def test_the_best_five_are_kept_and_equal_weights_go_by_the_alphabet():
    table = corpus(a="zebra yak wombat viper urchin tiger", b="tiger")
    assert task_keywords(table, ["a"]) == {"a": ("urchin", "viper", "wombat", "yak", "zebra")}


def test_words_of_all_tasks_are_never_all_weighed_for_each_of_them():
    """Of 600 tasks with 20 words of their own each, a dense matrix takes 58 MB."""
    name = lambda n: "".join(chr(ord("a") + int(digit)) for digit in f"{n:05d}")  # noqa: E731
    table = corpus(**{f"t{n}": " ".join(name(20 * n + m) for m in range(20)) for n in range(600)})
    tracemalloc.start()
    found = task_keywords(table, table.tasks[:50])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["t10"] == tuple(name(200 + m) for m in range(5))
    assert peak < 25e6


def test_stop_words_numbers_and_short_words_are_no_keywords():
    table = corpus(synthetic__word_sort="the and of 12345 x86 ab is", other="Übung größe über")
    found = task_keywords(table, ["synthetic/word_sort", "other"])
    assert found["synthetic/word_sort"] == ("synthetic", "word", "sort", "topic1", "topic2")
    assert found["other"][:3] == ("größe", "über", "übung")


def test_texts_of_stop_words_alone_leave_the_name():
    assert task_keywords(corpus(name="the of"), ["name"])["name"] == ("name", "topic1", "topic2", "topic3", "topic4")


def test_curated_words_come_before_the_texts():
    table = corpus(mmlu__anatomy="cat dog bird fish snake", mmlu__unheard="cat dog bird fish snake")
    found = task_keywords(table, ["mmlu/unheard", "mmlu/anatomy"])
    assert list(found) == ["mmlu/unheard", "mmlu/anatomy"]
    assert found["mmlu/anatomy"] == ("bones", "muscles", "organs", "nerves", "tissues")
    assert found["mmlu/unheard"] == ("bird", "cat", "dog", "fish", "snake")


@given(tables())
@settings(max_examples=40)
def test_any_task_has_five_distinct_words(table):
    found = task_keywords(table, table.tasks)
    assert tuple(found) == table.tasks
    for words in found.values():
        assert len(set(words)) == len(words) == 5
        assert all(word.strip() for word in words)


@given(st.integers(0, 1000))
@settings(max_examples=5)
def test_the_order_of_items_and_the_outcomes_have_no_say(seed):
    table = tiny_table()
    rng = np.random.default_rng(seed)
    mixed = replace(table, scores_MN=rng.permutation(table.scores_MN, axis=1))
    mixed = mixed.select_items(rng.permutation(len(table.items)))
    assert task_keywords(mixed, table.tasks) == task_keywords(table, table.tasks)
