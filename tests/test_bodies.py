"""What a body may be, before anything is done with it."""

import asyncio
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from satjax.serving.api_errors import ApiError
from satjax.serving.bodies import CandidateBody, ChatRequest, RankRequest, checked, read_body


class Request:
    def __init__(self, *chunks, pause=0.0, **headers):
        self.chunks, self.pause, self.headers = chunks, pause, headers

    async def stream(self):
        for chunk in self.chunks:
            await asyncio.sleep(self.pause)
            yield chunk


def read(request, limit=1000, seconds=5.0):
    return asyncio.run(read_body(request, limit, seconds))


WRONG, MANY = 9_000, 20_000
MESSAGES = {"model": "m", "messages": [{"role": "user"}]}
REFUSED = [
    (ChatRequest, lambda: {"model": "m", "messages": [0] * WRONG}, "messages.0: Input should be a valid dictionary"),
    (ChatRequest, lambda: {"model": "m", "messages": [{"role": "user"}] * MANY}, "messages: more than 10000 entries"),
    (ChatRequest, lambda: {**MESSAGES, "tools": [0] * WRONG}, "tools.0: Input should be a valid dictionary"),
    (ChatRequest, lambda: {**MESSAGES, "functions": [{}] * MANY}, "functions: more than 10000 entries"),
    (ChatRequest, lambda: {**MESSAGES, "satjax": dict.fromkeys(map(str, range(MANY)))}, "satjax: more than 256 fields"),
    (
        RankRequest,
        lambda: {"instruction": "x", "candidates": [0] * WRONG},
        "candidates.0: Input should be a valid string",
    ),
    (RankRequest, lambda: dict.fromkeys(map(str, range(MANY))), "the body: more than 256 fields"),
    (CandidateBody, lambda: dict.fromkeys(map(str, range(MANY))), "the body: more than 256 fields"),
]


@pytest.mark.parametrize(("model", "value", "message"), REFUSED)
def test_a_body_that_is_too_much_is_one_mistake(model, value, message):
    """To find and word each of a million stops the server for seconds."""
    with pytest.raises(ApiError, match=message):
        checked(model, value())
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value())
    assert caught.value.error_count() == 1


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
)


@given(values)
def test_any_json_is_read(value):
    content = json.dumps(value).encode()
    assert read(Request(content[:3], content[3:]), limit=len(content)) == value


@given(st.binary(max_size=30))
def test_any_bytes_are_json_or_one_error(content):
    try:
        value = read(Request(content))
    except ApiError as error:
        assert error.status == 400  # noqa: PT017
    else:
        assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request(b"1", **{"content-length": "1001"}), 413),
        (Request(b"1", **{"content-length": "9" * 5000}), 413),
        (Request(b" " * 600, b" " * 600), 413),
        (Request(b"1", b"2", pause=0.2), 408),
        (Request(b"NaN"), 400),
        (Request(b"1e999"), 400),
        (Request(b"1" * 900_000), 413),
    ],
)
def test_what_is_too_long_too_slow_or_no_number(request_, status):
    with pytest.raises(ApiError) as error:
        read(request_, seconds=0.1)
    assert error.value.status == status


@given(values)
def test_any_value_is_a_request_or_one_error(value):
    for model in (ChatRequest, RankRequest):
        try:
            checked(model, value)
        except ApiError as error:
            assert error.status == 400  # noqa: PT017
            json.dumps(error.body, ensure_ascii=False).encode()


def test_the_error_names_the_field():
    with pytest.raises(ApiError) as error:
        checked(ChatRequest, {"model": "satjax", "messages": [{"role": "user"}], "n": "2"})
    assert error.value.param == "n"
    assert error.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(ApiError, match="colour"):
        checked(RankRequest, {"instruction": "x", "colour": 1})
