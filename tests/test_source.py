"""`open_outcomes` reads whatever a user names."""

import dataclasses

import pytest

from satjax.errors import SatjaxError
from satjax.outcomes import open_outcomes, synthetic_zoo, write_table, write_tfds
from tests.test_table import assert_same, small


def test_synthetic_with_and_without_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_same(open_outcomes("synthetic"), synthetic_zoo(0))
    assert_same(open_outcomes("synthetic:7"), synthetic_zoo(7))


@pytest.mark.parametrize("write", [write_table, write_tfds])
def test_directories_of_both_forms(tmp_path, write):
    write(small(), tmp_path / "t")
    assert_same(small(), open_outcomes(tmp_path / "t"))
    assert_same(small(), open_outcomes(str(tmp_path / "t")))


def test_a_table_without_validation_items_gets_some_of_its_training_items(tmp_path):
    table = synthetic_zoo(num_items=300)
    items = tuple(dataclasses.replace(i, split="train" if i.split == "val" else i.split) for i in table.items)
    write_table(dataclasses.replace(table, items=items), tmp_path / "t")
    opened = open_outcomes(tmp_path / "t")
    moved = [now for was, now in zip(items, opened.items, strict=True) if was != now]
    assert moved
    assert {item.split for item in moved} == {"val"}
    assert [item.split for item in opened.items if item.split == "test"] == ["test"] * sum(
        i.split == "test" for i in items
    )
    write_table(table, tmp_path / "whole")
    assert_same(open_outcomes(tmp_path / "whole"), table)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("synthetic:x", "whole number"),
        ("synthetic:²", "whole number"),
        ("absent", "no such directory"),
        (".", "missing"),
    ],
)
def test_anything_else_is_one_line(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SatjaxError, match=words) as caught:
        open_outcomes(source)
    assert "\n" not in str(caught.value)
