from satjax.policy.zoo_file import ServedCandidate
from satjax.serving.cooling import LONGEST, STRIKES, Cooling

A, B, C = (ServedCandidate(name, "http://localhost/v1", name, 1.0, 1.0, 10, False) for name in "abc")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_candidate_that_cannot_be_reached_is_asked_last_for_a_while():
    cooling = Cooling(10.0, clock := Clock())
    cooling.failed("a", at_once=True)
    assert cooling.in_order([A, B, C]) == [B, C, A]
    clock.now += 9.9
    assert cooling.is_cooling("a")
    clock.now += 0.2
    assert cooling.in_order([A, B, C]) == [A, B, C]


def test_faulty_answers_are_forgiven_until_they_come_in_a_row():
    cooling = Cooling(10.0, Clock())
    for _ in range(STRIKES - 1):
        cooling.failed("a", at_once=False)
    assert not cooling.is_cooling("a")
    cooling.worked("a")
    for _ in range(STRIKES - 1):
        cooling.failed("a", at_once=False)
    assert not cooling.is_cooling("a")
    cooling.failed("a", at_once=False)
    assert cooling.is_cooling("a")
    cooling.worked("a")
    assert not cooling.is_cooling("a")


def test_a_backend_may_ask_for_longer_but_not_for_ever():
    cooling = Cooling(10.0, clock := Clock())
    cooling.failed("a", at_once=True, retry_after=30.0)
    cooling.failed("b", at_once=True, retry_after=1e9)
    clock.now += 29
    assert cooling.is_cooling("a")
    clock.now = 100 + LONGEST + 1
    assert not cooling.is_cooling("b")


def test_all_cooling_keep_their_order():
    cooling = Cooling(10.0, Clock())
    for name in "cab":
        cooling.failed(name, at_once=True)
    assert cooling.in_order([A, B, C]) == [A, B, C]
