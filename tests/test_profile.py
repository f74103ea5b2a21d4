"""Capability profiles: what they count, how they read as text, and that only true ones come back from a file."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from satjax.aptitude import (
    AptitudeTest,
    CapabilityProfile,
    CoreTask,
    check_same_test,
    known_profiles,
    profile_from_outcomes,
    profile_from_scores,
    render,
    render_sentences,
)
from satjax.errors import SatjaxError
from satjax.outcomes import Candidate, Item, OutcomeTable

NAN = float("nan")
WORDS = st.text(max_size=6)


def exam(num_tasks: int, shots: int, keywords: tuple[str, ...] = ("v", "w", "x", "y", "z")) -> AptitudeTest:
    return AptitudeTest(
        0,
        "s",
        tuple(CoreTask(f"s/task_{t}", keywords, tuple(f"{t}.{k}" for k in range(shots))) for t in range(num_tasks)),
    )


def profile_of(outcomes: list[list[float]] | np.ndarray, name: str = "alpha", test: AptitudeTest | None = None):
    """The profile of a candidate with these outcomes on an aptitude test of that size."""
    outcome_TK = np.array(outcomes, np.float32)
    test = test or exam(*outcome_TK.shape)
    ids = [item for task in test.tasks for item in task.item_ids]
    table = OutcomeTable(tuple(Item(i, "text", "t") for i in ids), (Candidate(name),), outcome_TK.reshape(1, -1))
    return profile_from_outcomes(table, test, name)


@st.composite
def profiles(draw: st.DrawFn) -> CapabilityProfile:
    """Profiles with unobserved items and tasks, soft outcomes, and any text."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 3)))
    elements = st.floats(0, 1, width=32) | st.just(NAN)
    outcomes = draw(hnp.arrays(np.float32, shape, elements=elements).filter(lambda x: not np.isnan(x).all()))
    test = exam(*shape, keywords=tuple(draw(st.lists(WORDS, min_size=5, max_size=5))))
    profile = profile_of(outcomes, draw(st.text(min_size=1, max_size=6).filter(str.isprintable)), test)
    return replace(profile, expert_notes=tuple(draw(st.lists(WORDS, max_size=2))))


def assert_same(a: CapabilityProfile, b: CapabilityProfile) -> None:
    for name in ("candidate", "aptitude_test", "tasks", "keywords", "expert_notes"):
        assert getattr(a, name) == getattr(b, name)
    for name in ("accuracy_T", "count_T", "item_outcome_TK"):
        assert getattr(a, name).dtype == getattr(b, name).dtype
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_accuracy_and_count_by_hand():
    profile = profile_of([[1, 0, 0, 1], [1, NAN, 0.25, NAN], [NAN] * 4])
    np.testing.assert_array_equal(profile.accuracy_T, np.array([0.5, 0.625, NAN], np.float32))
    np.testing.assert_array_equal(profile.count_T, [4, 2, 0])
    assert (profile.accuracy_T.dtype, profile.count_T.dtype) == (np.float32, np.int32)
    assert profile.item_outcome_TK.dtype == np.float32
    assert profile.tasks == ("s/task_0", "s/task_1", "s/task_2")


def test_outcomes_are_found_by_item_and_absent_items_are_unobserved():
    test = exam(2, 2)
    items = tuple(Item(name, "text", "t") for name in ("1.0", "elsewhere", "0.1"))
    scores = np.array([[0, 0, 0], [0.5, 1, 1]], np.float32)
    table = OutcomeTable(items, (Candidate("alpha"), Candidate("beta")), scores)
    profile = profile_from_outcomes(table, test, "beta")
    np.testing.assert_array_equal(profile.item_outcome_TK, [[NAN, 1], [0.5, NAN]])
    with pytest.raises(SatjaxError, match="unknown candidate 'betta': did you mean 'beta'"):
        profile_from_outcomes(table, test, "betta")
    with pytest.raises(SatjaxError, match="'beta' has no outcome on any of the 4 aptitude items"):
        profile_from_outcomes(table.select_items([1]), test, "beta")


def test_profiles_of_many_candidates_are_those_of_each():
    test = exam(2, 2)
    items = tuple(Item(name, "text", "t") for name in ("1.0", "elsewhere", "0.1", "0.0"))
    scores = np.array([[0, 0, 0, 1], [0.5, 1, 1, NAN], [NAN, 1, NAN, NAN]], np.float32)
    table = OutcomeTable(items, tuple(map(Candidate, ("alpha", "beta", "gamma"))), scores)
    found = known_profiles(table, test, ("gamma", "beta", "alpha"))
    assert [profile.candidate for profile in found] == ["beta", "alpha"], "gamma has no outcome on the test"
    for profile in found:
        assert_same(profile, profile_from_outcomes(table, test, profile.candidate))


def test_profiles_of_many_candidates_go_through_a_table_once(monkeypatch):
    """A table of a hundred thousand items takes its time for each of a thousand candidates."""
    test, walks = exam(1, 2), []
    items = tuple(Item(name, "text", "t") for name in ("0.0", "0.1", "elsewhere"))
    table = OutcomeTable(items, tuple(Candidate(f"c{m}") for m in range(5)), np.ones((5, 3), np.float32))

    class Walked(tuple):
        def __iter__(self):
            walks.append(len(self))
            return super().__iter__()

    monkeypatch.setattr(OutcomeTable, "__post_init__", lambda self: None)
    walked = replace(table, items=Walked(items))
    assert len(known_profiles(walked, test, walked.candidate_ids)) == 5
    assert len(walks) == 1


@given(profiles())
@settings(max_examples=60)
def test_written_and_read_it_is_the_same_profile(profile):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "profile.json"
        profile.write(path)
        json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert_same(CapabilityProfile.read(path), profile)


def test_the_sentence_of_the_paper():
    keywords = ("groups", "rings", "fields", "homomorphisms", "permutations")
    test = AptitudeTest(0, "s", (CoreTask("mmlu/abstract_algebra", keywords, tuple("abcdefghijkl")),))
    profile = profile_of([[1] * 7 + [0] * 5], test=test)  # 58.3 %
    assert render(profile) == (
        "The model achieves accuracy 58% on the task of 'abstract algebra', "
        "with keywords groups, rings, fields, homomorphisms, permutations."
    )


def test_tasks_without_outcomes_are_left_out_and_notes_come_last():
    profile = replace(profile_of([[1, 1], [NAN, NAN], [0, NAN]]), expert_notes=("Good at chess.", "Short answers."))
    first, last = (
        f"The model achieves accuracy {p}% on the task of 'task {t}', with keywords v, w, x, y, z."
        for p, t in ((100, 0), (0, 2))
    )
    assert render_sentences(profile) == [first, last, "Good at chess.", "Short answers."]
    for order in ([2, 1, 0], np.array([2, 0, 1])):
        assert render_sentences(profile, order) == [last, first, "Good at chess.", "Short answers."]
    assert render(profile) == f"{first} {last} Good at chess. Short answers."


@given(profiles(), st.randoms(use_true_random=False))
def test_any_order_of_tasks_is_a_permutation_of_the_same_sentences(profile, random):
    plain = render_sentences(profile)
    order = random.sample(range(len(profile.tasks)), len(profile.tasks))
    told = [t for t in order if profile.count_T[t]]
    seen = [t for t in range(len(profile.tasks)) if profile.count_T[t]]
    expected = [plain[seen.index(t)] for t in told] + list(profile.expert_notes)
    assert render_sentences(profile, order) == expected
    assert len(plain) == len(told) + len(profile.expert_notes)


def test_a_profile_of_another_test_is_refused():
    test = exam(2, 2)
    profile = profile_of([[1, 0], [0, 1]], test=test)
    check_same_test(profile, test)
    other = replace(test, seed=1)
    with pytest.raises(SatjaxError) as caught:
        check_same_test(profile, other)
    for word in ("'alpha'", test.fingerprint[:12], other.fingerprint[:12], "aptitude_test.json"):
        assert word in str(caught.value)
    shorter = replace(profile, item_outcome_TK=profile.item_outcome_TK[:, :1])
    with pytest.raises(SatjaxError, match="belongs to aptitude test"):
        check_same_test(shorter, test)


@pytest.mark.parametrize("summary", [False, True])
def test_a_profile_whose_tasks_stand_in_another_order_is_refused(tmp_path, summary):
    test = exam(3, 2)
    profile = profile_of([[1, 1], [0, 1], [0, 0]], test=test)
    path = tmp_path / "a.json"
    (profile.summary() if summary else profile).write(path)
    value = json.loads(path.read_text())
    value["tasks"] = value["tasks"][::-1]
    path.write_text(json.dumps(value))
    with pytest.raises(
        SatjaxError, match=r"'alpha' has task 1 named '.+2', the aptitude test has '.+0' there"
    ) as caught:
        check_same_test(CapabilityProfile.read(path), test)
    assert "in its order" in str(caught.value)


@pytest.mark.parametrize("score", [-0.5, 85, np.inf])
def test_scores_outside_their_range_make_no_profile(score):
    test = exam(1, 2)
    first, second = test.tasks[0].item_ids
    with pytest.raises(SatjaxError, match=rf"'alpha'.*{second!r}.*outside \[0, 1\]; rescale"):
        profile_from_scores({first: 1.0, second: score, "of no test": 7.0}, test, "alpha")


def test_a_summary_keeps_all_but_single_outcomes(tmp_path):
    profile = profile_of([[1, 0, NAN], [NAN] * 3])
    profile.summary().write(tmp_path / "a.json")
    assert "item_outcomes" not in (tmp_path / "a.json").read_text()
    read = CapabilityProfile.read(tmp_path / "a.json")
    assert read.item_outcome_TK is None
    assert profile.outcomes_TK is profile.item_outcome_TK
    with pytest.raises(SatjaxError, match="is a summary; this router measures by the outcome of each aptitude item"):
        _ = read.outcomes_TK
    np.testing.assert_array_equal(read.accuracy_T, profile.accuracy_T)
    np.testing.assert_array_equal(read.count_T, profile.count_T)
    test = exam(2, 3)
    check_same_test(replace(read, aptitude_test=test.fingerprint), test)
    with pytest.raises(SatjaxError, match="belongs to aptitude test"):
        check_same_test(replace(read, aptitude_test=test.fingerprint, count_T=np.array([4, 0], np.int32)), test)


def test_accuracy_and_count_follow_from_the_outcomes_of_the_file(tmp_path):
    path = tmp_path / "alpha.json"
    profile_of([[1, 0], [0, 0]]).write(path)
    value = json.loads(path.read_text())
    assert value["tasks"][0]["accuracy"] == 0.5
    value["tasks"][0].update(accuracy=1.0, count=7)
    path.write_text(json.dumps(value))
    read = CapabilityProfile.read(path)
    assert (read.accuracy_T[0], read.count_T[0]) == (0.5, 2)


SUMMARY = {"task": "a", "keywords": [], "accuracy": 0.5, "count": 2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "is no capability profile of version 1 (found 2)"),
        ({"tasks": []}, "tasks without items, or of different length"),
        ({"tasks": [{"task": "a", "keywords": [], "item_outcomes": []}]}, "tasks without items"),
        ({"tasks": [{**SUMMARY, "count": 2.5}]}, "a task without a count"),
        ({"tasks": [{**SUMMARY, "count": 0}]}, "an accuracy without items"),
        ({"tasks": [{**SUMMARY, "accuracy": None}]}, "items without an accuracy"),
        ({"tasks": [{**SUMMARY, "accuracy": 1.5}]}, "outcome 1.5 is outside [0, 1]"),
        ({"candidate": None}, "[None, '"),
        ({"tasks": [{**SUMMARY, "task": 3}]}, "[3] is no list of texts"),
        ({"tasks": ["a"]}, "is no capability profile"),
        ({"tasks": None}, "is no capability profile"),
        ({"tasks": [{"task": "a", "keywords": "abcde", "item_outcomes": [1]}]}, "'abcde' is no list of texts"),
        ({"expert_notes": "good at chess"}, "'good at chess' is no list of texts"),
        ({"expert_notes": [3]}, "[3] is no list of texts"),
        *(
            ({"tasks": [{"task": "a", "keywords": [], "item_outcomes": [0, outcome]}]}, words)
            for outcome, words in [
                (1.5, "outcome 1.5 is outside [0, 1]"),
                (-0.1, "outcome -0.1 is outside"),
                (10**400, "is outside"),
                (float("inf"), "inf is outside"),
                (float("nan"), "nan is outside [0, 1]; null is unobserved"),
                (True, "outcome True is no number"),
                ("1", "outcome '1' is no number"),
                ([1], "is no number"),
            ]
        ),
    ],
)
def test_damaged_profiles_are_one_line(tmp_path, change, words):
    path = tmp_path / "alpha.json"
    profile_of([[1, 0], [0, 0]]).write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SatjaxError) as caught:
        CapabilityProfile.read(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_profile_comes_from_a_value_as_from_its_file(tmp_path):
    profile = profile_of([[1, 0, NAN], [NAN] * 3])
    profile.write(tmp_path / "a.json")
    value = json.loads((tmp_path / "a.json").read_text())
    assert_same(CapabilityProfile.from_value(value, "the profile"), profile)
    for wrong in ([], {}, value | {"version": 2}, value | {"tasks": []}):
        with pytest.raises(SatjaxError, match=r"^the profile is no capability profile"):
            CapabilityProfile.from_value(wrong, "the profile")


@pytest.mark.parametrize("key", ["candidate", "aptitude_test", "tasks", "expert_notes"])
def test_a_missing_part_is_named(tmp_path, key):
    path = tmp_path / "alpha.json"
    profile_of([[1, 0]]).write(path)
    value = json.loads(path.read_text())
    del value[key]
    path.write_text(json.dumps(value))
    with pytest.raises(
        SatjaxError, match=rf"is no capability profile \('{key}'\); make it again with `satjax profile`"
    ):
        CapabilityProfile.read(path)


@given(st.floats(0, 1, exclude_max=True))
@settings(max_examples=40)
def test_a_file_that_was_cut_off_is_one_line(share):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "alpha.json"
        profile_of([[1, 0], [NAN, 0]]).write(path)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(SatjaxError, match="is no complete capability profile") as caught:
            CapabilityProfile.read(path)
    assert "\n" not in str(caught.value)
