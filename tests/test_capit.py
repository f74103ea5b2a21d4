"""The importer of the paper's training files, in the form that its code reads; none of the real ones is public."""

import json
from pathlib import Path

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.outcomes import import_outcomes
from satjax.outcomes.importers.capit import import_capit

FIRST = "Gardening: 80 % of 20 questions. Cooking: 35 % of 20 questions."
TURNED = "Cooking: 35 % of 20 questions. Gardening: 80 % of 20 questions."
OTHER = "Gardening: 10 % of 20 questions. Cooking: 95 % of 20 questions."


def record(profile: str, pos: list, neg: list) -> dict:
    return {"model_repr": profile, "data_repr": {"pos": pos, "neg": neg}}


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_pairs_of_both_sides_by_profile_whatever_its_order(tmp_path):
    records = [
        record(FIRST, ["When do tulips bloom?"], ["How long does rice cook?", "What is a roux?"]),
        record(OTHER, ["What is a roux?"], ["When do tulips bloom?"]),
    ]
    again = [record(TURNED, ["When do tulips  bloom?"], ["What is a roux?"])]
    write(tmp_path / "capit-1.0.json", records)
    write(tmp_path / "capit_2.json", again)
    table = import_outcomes("capit", [tmp_path])
    assert len(table.candidate_ids) == 2
    assert all(name.startswith("model-") for name in table.candidate_ids)
    assert [item.text for item in table.items] == [
        "When do tulips bloom?",
        "How long does rice cook?",
        "What is a roux?",
    ]
    np.testing.assert_array_equal(table.scores_MN, [[1, 0, 0], [0, np.nan, 1]])


def test_what_stands_on_both_sides_is_half_managed(tmp_path):
    path = write(tmp_path / "capit.json", [record(FIRST, ["a b", "a b", "c"], ["a b"]), record(OTHER, [], ["c"])])
    table = import_capit([path])
    np.testing.assert_array_equal(table.scores_MN, [[0.5, 1], [np.nan, 0]])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "has no records"),
        ({"model_repr": FIRST}, "has no records"),
        ([7], "record 1 has no profile"),
        ([record(FIRST, ["a"], []), record(" ", ["a"], [])], "record 2 has no profile"),
        ([{"model_repr": FIRST, "data_repr": ["a"]}], "record 1 has no profile"),
        ([record(FIRST, ["a"], "b")], "record 1 neg is no list of texts"),
        ([record(FIRST, [{"id": 1}], [])], "record 1 pos is no list of texts"),
        ([record(FIRST, [" "], [])], "empty text"),
        ([record(FIRST, [], [])], "no files given"),
    ],
)
def test_anything_else_is_one_line(value, said, tmp_path):
    with pytest.raises(SatjaxError) as caught:
        import_capit([write(tmp_path / "capit.json", value)])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
