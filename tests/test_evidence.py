import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from satjax.aptitude import CapabilityProfile
from satjax.serving.evidence import NEAREST, SHOWN, Evidence, evidence


def profile(name, accuracy):
    accuracy_T = np.array(accuracy, np.float32)
    count_T = np.where(np.isnan(accuracy_T), 0, 5).astype(np.int32)
    tasks = tuple(f"task{t}" for t in range(len(accuracy)))
    return CapabilityProfile(name, "test", tasks, (("word",),) * len(accuracy), accuracy_T, count_T, None)


def test_tasks_speak_by_their_difference_from_the_mean():
    profiles = [profile("a", [0.9, 0.2, 0.5, 0.8, np.nan]), profile("b", [0.5, 0.6, 0.5, 0.6, 0.5])]
    likeness_T = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    found = evidence(likeness_T, profiles, "a")
    spoke_for, against = found.spoke_for, found.against
    assert [task.task for task in spoke_for] == ["task0", "task3"]
    assert [task.task for task in against] == ["task1"]
    assert np.isclose(spoke_for[0].accuracy, 0.9)
    assert np.isclose(spoke_for[0].zoo_accuracy, 0.7)
    assert np.isclose(spoke_for[0].likeness, 0.9)


def test_tasks_unlike_the_instruction_do_not_speak():
    profiles = [profile("a", [0.9, 0.9]), profile("b", [0.1, 0.1])]
    assert evidence(np.array([-0.5, 0.0], np.float32), profiles, "a") == Evidence([], [])


rows = st.integers(1, 30).flatmap(
    lambda size: st.lists(
        st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1, width=32)), min_size=size, max_size=size),
        min_size=1,
        max_size=4,
    )
)


@given(rows, st.randoms(use_true_random=False))
def test_only_near_tasks_that_the_candidate_answered_speak(accuracies, random):
    profiles = [profile(f"c{i}", row) for i, row in enumerate(accuracies)]
    likeness_T = np.array([random.uniform(-1, 1) for _ in accuracies[0]], np.float32)
    found = evidence(likeness_T, profiles, "c0")
    spoke_for, against = found.spoke_for, found.against
    told = np.where(np.isnan(accuracies[0]), -2, likeness_T)
    nearest = {f"task{t}" for t in np.argsort(-told, kind="stable")[:NEAREST]}
    for side in (spoke_for, against):
        assert len(side) <= SHOWN
        assert {task.task for task in side} <= nearest
        differences = [abs(task.accuracy - task.zoo_accuracy) for task in side]
        assert differences == sorted(differences, reverse=True)
    assert all(task.accuracy > task.zoo_accuracy for task in spoke_for)
    assert all(task.accuracy < task.zoo_accuracy for task in against)
