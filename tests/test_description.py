"""A table is described as it is, with everything that a user may want to mend first."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings

from satjax.outcomes import Candidate, OutcomeTable, describe, synthetic_zoo
from satjax.render.outcomes import description_tables
from tests.test_table import small, tables


def test_figures_of_a_small_table():
    found = describe(small())
    assert found["items"] == 3
    assert found["splits"] == {"train": 2, "test": 1}
    assert (found["tasks"], found["outcomes"], found["soft_outcomes"], found["costs"]) == (2, 5, 1, 6)
    assert found["text_length"] == [6, 6, 6]
    # Items have outcomes (0, 0.5), (1, 0) and (unobserved, 1), where there is nothing to choose.
    assert found["random"] == pytest.approx((0.25 + 0.5) / 2)
    assert found["oracle"] == pytest.approx((0.5 + 1) / 2)
    assert [(entry["id"], entry["mean"]) for entry in found["candidates"]] == [("alpha", 0.5), ("beta", 0.5)]
    assert [entry["observed"] for entry in found["candidates"]] == pytest.approx([2 / 3, 1])


def test_what_is_missing_is_said():
    missing = describe(small())["missing"]
    assert any(line.startswith("no validation items") for line in missing)
    assert any("20 of each of 50 tasks (0 tasks have that many" in line for line in missing)
    assert "some outcomes unobserved (they count nowhere): alpha" in missing
    assert "1 of 3 instructions have outcomes of one candidate only: routing cannot be measured on them" in missing
    assert any(line.endswith("alpha, beta") and "release date" in line for line in missing)


def test_a_log_with_one_outcome_an_instruction_has_no_oracle():
    found = describe(small(scores_MN=np.array([[0, 1, np.nan], [np.nan, np.nan, 1]], np.float32)))
    assert (found["random"], found["oracle"]) == (None, None)
    assert any(line.startswith("3 of 3 instructions have outcomes of one candidate only") for line in found["missing"])
    whole = small(candidates=(Candidate("alpha"),), scores_MN=np.ones((1, 3), np.float32), cost_usd_MN=None)
    assert not any("candidate only" in line for line in describe(whole)["missing"]), "nobody means to choose"


def test_leaks_and_silent_candidates_are_said():
    table = small()
    items = tuple(dataclasses.replace(item, text="the same") for item in table.items)
    scores = np.array([[0, 1, 0], [np.nan, np.nan, np.nan]], np.float32)
    missing = describe(OutcomeTable(items, table.candidates, scores))["missing"]
    assert any("1 questions stand in two splits, such as 'i0' (train) and 'i2' (test)" in line for line in missing)
    assert "no outcomes at all: beta" in missing
    nobody = describe(OutcomeTable(items, (Candidate("a"),), np.full((1, 3), np.nan, np.float32)))
    assert (nobody["random"], nobody["oracle"], nobody["candidates"][0]["mean"]) == (None, None, None)
    assert "3 items that no candidate answered" in nobody["missing"]


def test_one_question_under_ids_of_different_candidates_is_said():
    table = small()
    items = tuple(
        dataclasses.replace(item, text="one  text" if n else "one text") for n, item in enumerate(table.items)
    )
    twins = lambda scores: [  # noqa: E731
        line
        for line in describe(dataclasses.replace(table, items=items, scores_MN=np.array(scores, np.float32)))["missing"]
        if "under several ids" in line
    ]
    nan = np.nan
    (line,) = twins([[1, 1, nan], [nan, nan, 0]])
    assert line.startswith(
        "1 questions stand under several ids, such as 'i0' and 'i2': their candidates are not compared"
    )
    # All candidates met it twice: they are compared.
    assert twins([[1, 1, 1], [0, 0, 0]]) == []


def test_nothing_is_missing_from_a_whole_table():
    table = synthetic_zoo(num_items=300)
    dated = tuple(dataclasses.replace(c, release_date="2024-01") for c in table.candidates)
    (line,) = describe(dataclasses.replace(table, candidates=dated))["missing"]
    assert "(0 tasks have that many" in line  # of three hundred items
    assert "train with --config.aptitude.num_tasks=" in line


def test_candidates_that_training_knows_little_of_are_named():
    table = synthetic_zoo(num_items=900)
    scores = np.array(table.scores_MN)
    train = np.flatnonzero([item.split == "train" for item in table.items])
    scores[0, train[3:]] = scores[1, train[99:]] = scores[2, train[100:]] = np.nan
    alone = train[-120:]  # of a source of its own
    scores[:, alone] = np.nan
    scores[3, train] = np.nan
    scores[3, alone] = 1.0
    missing = describe(dataclasses.replace(table, scores_MN=scores))["missing"]
    names = table.candidate_ids
    assert (
        f"few outcomes (where no profiles are read, training measures them like new candidates): {names[0]} (3), {names[1]} (99)"
        in missing
    )
    (line,) = [line for line in missing if "would not be in the router" in line]
    assert line.endswith(f": {names[3]} (120)")


def test_brackets_in_names_are_printed_as_they_are(capsys):
    table = small()
    items = tuple(dataclasses.replace(item, source="data[/v1]") for item in table.items)
    candidates = tuple(
        dataclasses.replace(candidate, id=f"{candidate.id}[/x]", family="llama[v3]") for candidate in table.candidates
    )
    description_tables(describe(dataclasses.replace(table, items=items, candidates=candidates)))
    said = capsys.readouterr().out
    for name in ("data[/v1]", "llama[v3]", "alpha[/x]"):
        assert name in said


@given(tables())
@settings(max_examples=50)
def test_any_table_can_be_described(table):
    found = json.loads(json.dumps(describe(table)))
    assert found["outcomes"] <= len(table.items) * len(table.candidates)
    assert sum(found["splits"].values()) == found["items"] == len(table.items)
    if found["oracle"] is not None:
        assert found["random"] <= found["oracle"] + 1e-6


def test_items_that_few_candidates_were_tried_on_make_no_aptitude_test():
    table = synthetic_zoo(num_items=900)
    apart = np.array(table.scores_MN)
    apart[1:, ::2] = np.nan  # half of the items come from a source that one candidate was tried on
    (line,) = [
        line for line in describe(dataclasses.replace(table, scores_MN=apart))["missing"] if "training items" in line
    ]
    (before,) = [line for line in describe(table)["missing"] if "training items" in line]
    assert int(line.split("(")[1].split()[0]) < int(before.split("(")[1].split()[0])
