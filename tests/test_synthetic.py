"""The synthetic zoo: labelled, deterministic, learnable, no candidate best at all; and its answers are right."""

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from satjax.errors import SatjaxError
from satjax.outcomes import synthetic
from satjax.outcomes.splits import split_of
from satjax.outcomes.synthetic import planted_abilities, synthetic_zoo
from satjax.outcomes.synthetic_skills import GROUPS, SKILLS
from tests.test_table import assert_same


@pytest.fixture(scope="module")
def zoo():
    return synthetic_zoo()


def planted_MN(table, seed, num_candidates):
    skills, ability = planted_abilities(seed, num_candidates)
    return ability[:, [skills.index(item.task.removeprefix("synthetic/")) for item in table.items]]


def test_labels(zoo):
    assert zoo.scores_MN.shape == (12, 2400)
    assert 14 <= len(zoo.tasks) <= 16
    assert set(GROUPS) == set(SKILLS)
    for item in zoo.items:
        assert item.id.startswith("synthetic/")
        assert item.task.startswith("synthetic/")
        assert item.source == "synthetic"
        assert item.answer
    for candidate in zoo.candidates:
        assert candidate.id.startswith("synthetic-")
        assert candidate.family == "synthetic"


def test_texts_are_short_distinct_and_varied(zoo):
    texts = [item.text for item in zoo.items]
    assert len(set(texts)) == len(texts)
    assert max(map(len, texts)) <= 150
    assert min(map(len, texts)) >= 15
    for task in zoo.tasks:
        openings = {item.text.split()[0] for item in zoo.items if item.task == task}
        assert len(openings) >= 2, task


def test_same_seed_same_zoo_and_other_seed_another(zoo):
    assert_same(zoo, synthetic_zoo(0))
    other = synthetic_zoo(1)
    assert other.items[0].text != zoo.items[0].text
    assert not np.array_equal(planted_abilities(0)[1], planted_abilities(1)[1])


@pytest.mark.parametrize(("seed", "num_candidates"), [(0, 12), (1, 12), (2, 40), (3, 5)])
def test_outcomes_can_be_predicted_and_routing_pays(seed, num_candidates):
    table = synthetic_zoo(seed, num_candidates=num_candidates)
    test = table.split("test")
    assert roc_auc_score(test.scores_MN.ravel(), planted_MN(test, seed, num_candidates).ravel()) >= 0.93
    skills, ability = planted_abilities(seed, num_candidates)
    assert ability.shape == (num_candidates, len(skills))
    assert ability.dtype == np.float32
    # The router that knows the abilities gains at least a twentieth over the best fixed candidate, here and in the oracle.
    chosen = planted_MN(test, seed, num_candidates).argmax(axis=0)
    best_single = test.scores_MN.mean(axis=1).max()
    assert test.scores_MN[chosen, np.arange(len(test.items))].mean() > best_single + 0.05
    assert test.scores_MN.max(axis=0).mean() > best_single + 0.05
    assert (ability > 0.5).sum(axis=1).max() < len(skills)
    assert ((ability > 0.9) | (ability < 0.1)).all()


def test_outcomes_follow_the_planted_abilities(zoo):
    skills, ability = planted_abilities()
    for s, skill in enumerate(skills):
        columns = [n for n, item in enumerate(zoo.items) if item.task == f"synthetic/{skill}"]
        np.testing.assert_allclose(zoo.scores_MN[:, columns].mean(axis=1), ability[:, s], atol=0.1)


def test_candidates_differ_in_strength_and_kind():
    _, ability = planted_abilities(0, 12)
    able = ability > 0.5
    assert able.mean(axis=1).max() > 2 * able.mean(axis=1).min()
    assert len({tuple(row) for row in able}) == 12


def test_splits(zoo):
    counts = Counter(item.split for item in zoo.items)
    for split, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert counts[split] / len(zoo.items) == pytest.approx(share, abs=0.03)
    assert all(item.split == split_of(item.text) for item in zoo.items)
    per_skill = Counter(item.task for item in zoo.items if item.split == "train")
    # An aptitude test of all skills with 20 shots leaves most of the training items.
    assert min(per_skill.values()) >= 60


def test_limits(monkeypatch):
    assert len(set(synthetic_zoo(num_items=16, num_candidates=40).candidate_ids)) == 40
    for arguments in ({"num_candidates": 41}, {"num_candidates": 0}, {"num_items": 0}):
        with pytest.raises(SatjaxError):
            synthetic_zoo(**arguments)
    monkeypatch.setattr(synthetic, "MOST_DRAWS", 1)
    with pytest.raises(SatjaxError, match="runs out of new texts"):
        synthetic_zoo(num_items=10**6, num_candidates=1)
