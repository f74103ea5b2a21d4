"""The aptitude test is known by its content and by its items' texts, and survives its file."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.aptitude import AptitudeTest, CoreTask
from satjax.aptitude.core_tasks import text_sha256
from satjax.errors import SatjaxError
from satjax.outcomes import Item

TEXTS = st.text(max_size=8)


@st.composite
def aptitude_tests(draw: st.DrawFn) -> AptitudeTest:
    shots = draw(st.integers(1, 3))
    item_ids = st.lists(TEXTS, min_size=shots, max_size=shots).map(tuple)
    task = st.builds(CoreTask, TEXTS, st.lists(TEXTS, min_size=5, max_size=5).map(tuple), item_ids)
    return AptitudeTest(draw(st.integers(0)), draw(TEXTS), tuple(draw(st.lists(task, min_size=1, max_size=3))))


@given(aptitude_tests())
@settings(max_examples=40)
def test_written_and_read_it_is_the_same_test(test):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "aptitude_test.json"
        test.write(path)
        read = AptitudeTest.read(path)
    assert read == test
    assert read.fingerprint == test.fingerprint


def small() -> AptitudeTest:
    task = CoreTask("mmlu/anatomy", ("bones", "muscles", "organs", "nerves", "tissues"), ("i1", "i2"))
    return AptitudeTest(0, "mmlu_pro", (task, replace(task, name="mmlu/virology", item_ids=("i3", "i4"))))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"source": "other"},
        {"tasks": small().tasks[:1]},
        {"tasks": small().tasks[::-1]},
        {"tasks": (small().tasks[0], replace(small().tasks[1], item_ids=("i4", "i3")))},
        {"tasks": (small().tasks[0], replace(small().tasks[1], keywords=("v", "w", "x", "y", "z")))},
    ],
)
def test_any_change_of_content_changes_the_fingerprint(change):
    assert replace(small(), **change).fingerprint != small().fingerprint


def test_texts_are_known_by_their_digests_which_the_fingerprint_leaves_out(tmp_path):
    items = [Item(f"i{n}", f"What is {n}?", "t") for n in range(1, 5)]
    first, second = small().tasks
    digests = [text_sha256(item.text) for item in items]
    test = replace(
        small(),
        tasks=(replace(first, text_sha256=tuple(digests[:2])), replace(second, text_sha256=tuple(digests[2:]))),
    )
    assert (test.content, test.fingerprint) == (small().content, small().fingerprint)
    test.write(tmp_path / "test.json")
    assert AptitudeTest.read(tmp_path / "test.json") == test
    assert test.with_other_texts(items) == []
    changed = [items[0], replace(items[1], text="Which?"), replace(items[2], text=" What  is 3?"), Item("i9", "", "t")]
    assert test.with_other_texts(changed) == ["i2"]
    assert small().with_other_texts(changed) == []


def test_a_test_without_digests_is_written_as_it_was(tmp_path):
    small().write(tmp_path / "test.json")
    assert "text_sha256" not in (tmp_path / "test.json").read_text()


@given(st.floats(0, 1, exclude_max=True))
@settings(max_examples=40)
def test_a_file_that_was_cut_off_is_one_line(share):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "aptitude_test.json"
        small().write(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(SatjaxError, match=r"aptitude_test\.json is no complete aptitude test") as caught:
            AptitudeTest.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "is no aptitude test of version 1 (found None)"),
        ('{"version": 2}', "(found 2)"),
        ('{"version": 1}', "KeyError('tasks')"),
        ('{"version": 1, "seed": 0, "source": "s", "tasks": []}', "or there are none"),
        ('{"version": 1, "seed": 0, "source": "s", "tasks": ["a"]}', "is no aptitude test"),
        ('{"version": 1, "seed": 0, "source": "s", "tasks": [{"name": "a", "keywords": [], "item_ids": []}]}', "none"),
        (
            '{"version": 1, "seed": 0, "source": "s", "tasks": [{"name": "a", "keywords": "abcde", "item_ids": ["i"]}]}',
            "'abcde' is no list of texts",
        ),
        (
            '{"version": 1, "seed": 0, "source": "s", "tasks": [{"name": "a", "keywords": [], "item_ids": ["i"]}, '
            '{"name": "b", "keywords": [], "item_ids": ["i", "j"]}]}',
            "differ in their number of items",
        ),
        (b"\xff\xfe\x00", "is no complete aptitude test"),
    ],
)
def test_damaged_files_and_other_versions_are_one_line(tmp_path, content, words):
    path = tmp_path / "aptitude_test.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SatjaxError) as caught:
        AptitudeTest.read(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SatjaxError, match=r"absent\.json cannot be read \(No such file"):
        AptitudeTest.read(tmp_path / "absent.json")
    with pytest.raises(SatjaxError, match="cannot be read"):
        AptitudeTest.read(tmp_path)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 9))
def test_any_first_items_of_a_turn_lie_spread_over_the_tasks(num_tasks, shots, seed):
    tasks = tuple(CoreTask(f"t{t}", ("a",) * 5, tuple(f"t{t}-{k}" for k in range(shots))) for t in range(num_tasks))
    order = AptitudeTest(0, "made up", tasks).in_turn(seed)
    assert sorted(order) == [(t, k) for t in range(num_tasks) for k in range(shots)]
    for size in range(1, len(order) + 1):
        count = np.bincount([t for t, _ in order[:size]], minlength=num_tasks)
        assert np.ptp(count) <= 1
    assert order == AptitudeTest(0, "made up", tasks).in_turn(seed)
