"""Candidates tried in turn, without a router or a network."""

import asyncio

import pytest

from satjax.policy.zoo_file import ServedCandidate
from satjax.serving.api_errors import ApiError
from satjax.serving.attempts import Attempts
from satjax.serving.backends import Answer, Failed
from satjax.serving.cooling import Cooling
from satjax.serving.telemetry import Telemetry


class Backends:
    """Each candidate answers, or fails, as `says` has it by name; who was asked is kept."""

    def __init__(self, says: dict[str, Answer | Failed]):
        self.says, self.asked = says, []

    async def ask(self, candidate, body, deadline, on_end):
        self.asked.append(candidate.name)
        said = self.says[candidate.name]
        if isinstance(said, Failed):
            raise said
        return said


GOOD = Answer(200, {}, b"{}", usage={"prompt_tokens": 7})
TOO_LONG = Failed("too_long", "an error", answer=Answer(400, {}, b"too long"))
DOWN = Failed("server_error", "status 500")


def tried(rooms: dict[str, int], says: dict[str, Answer | Failed], most: int = 3, cooling: Cooling | None = None):
    """Who answered, with what, and who was asked; `rooms` are context lengths, in the order of the candidates."""
    backends = Backends(says)
    attempts = Attempts(backends, cooling or Cooling(10.0), Telemetry(), most)
    candidates = [ServedCandidate(name, "http://h/v1", "m", 0, 0, room, False) for name, room in rooms.items()]

    async def first():
        return await attempts.first_answer(candidates, {"messages": []}, asyncio.get_running_loop().time() + 60)

    name, answer = asyncio.run(first())
    return name, answer, backends.asked


def test_the_next_one_answers_where_the_first_fails():
    assert tried({"a": 10, "b": 10}, {"a": DOWN, "b": GOOD}) == ("b", GOOD, ["a", "b"])


def test_after_one_for_whom_it_is_too_long_come_those_with_more_room():
    says = {"a": TOO_LONG, "small": GOOD, "roomy": GOOD}
    assert tried({"a": 10, "small": 10, "roomy": 20}, says) == ("roomy", GOOD, ["a", "roomy"])


def test_those_for_whom_it_is_too_long_are_counted_by_themselves():
    says = {"a": DOWN, "b": TOO_LONG, "c": DOWN, "d": GOOD}
    with pytest.raises(ApiError, match=r"a: server_error; b: too_long; c: server_error") as raised:
        tried({"a": 30, "b": 10, "c": 30, "d": 30}, says, most=2)
    assert raised.value.status == 502


def test_what_nobody_takes_is_answered_by_the_first_who_says_so():
    says = {"a": TOO_LONG, "b": Failed("rejected", "status 400", answer=Answer(422, {}, b"no images"))}
    assert tried({"a": 10, "b": 20}, says)[:2] == ("a", TOO_LONG.answer)


@pytest.mark.parametrize(
    ("fault", "content", "said"),
    [
        (
            "rejected",
            b'{"error": {"message": "temperature must be\\n at most 2"}}',
            "; b says: temperature must be at most 2)",
        ),
        ("rejected", b'[{"error": {"message": "no images"}}]', "; b says: no images)"),
        ("too_long", b'{"error": "too long"}', "; b says: too long)"),
        ("rejected", b'{"message": "' + b"x" * 9000 + b'"}', "; b says: " + "x" * 500 + ")"),
        ("rejected", b"<html>", "c: server_error)"),
        ("rejected", b"{}", "c: server_error)"),
        ("rejected", b'{"detail": "half \\ud83d"}', "; b says: half ?)"),
        (
            "rejected",
            b'{"detail": [{"loc": ["n"], "msg": "Too few"}, {"msg": 1}, {"msg": "Too many"}]}',
            "Too few; Too many)",
        ),
        ("rejected", b'{"error": {"message": null, "detail": "no images"}}', "; b says: no images)"),
        ("rejected", b'{"detail": [1]}', "c: server_error)"),
    ],
)
def test_where_others_are_down_the_client_hears_what_was_wrong(fault, content, said):
    says = {"a": DOWN, "b": Failed(fault, "status 400", answer=Answer(400, {}, content)), "c": DOWN}
    with pytest.raises(ApiError) as raised:
        tried({"a": 10, "b": 10, "c": 20}, says)
    assert raised.value.status == 502
    assert raised.value.message.endswith(said)


def test_one_forbidden_prompt_is_no_strike_twice():
    cooling = Cooling(10.0)
    forbidden = Failed("forbidden", "status 403", answer=Answer(403, {}, b"no"))
    backends = Backends({"a": forbidden})
    attempts = Attempts(backends, cooling, Telemetry(), 3)
    one = ServedCandidate("a", "http://h/v1", "m", 0, 0, 10, False)

    async def again_and_again() -> None:
        for _ in range(9):
            await attempts.first_answer([one], {"messages": ["the same"]}, asyncio.get_running_loop().time() + 60)

    asyncio.run(again_and_again())
    assert not cooling.is_cooling("a")
