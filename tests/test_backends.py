"""A stream is decided on by its first event with data: until that has come, another candidate may still answer."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from satjax.policy.zoo_file import ServedCandidate, Settings
from satjax.serving.backends import Answer, Backends, Failed
from tests.serving import Backend, running

COMMENT, EVENT = b": keep-alive\n\n", b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n'
ERROR = b'data: {"error": {"message": "provider overloaded", "code": 502}}\n\n'


class Chunks(httpx.AsyncByteStream):
    """A stream in these chunks, each after a pause."""

    def __init__(self, chunks: Sequence[bytes], seconds: float):
        self.chunks, self.seconds = chunks, seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            await asyncio.sleep(self.seconds)
            yield chunk


def streamed(chunks: Sequence[bytes], seconds: float = 0.0, patience: float = 30.0, most: int = 2**20) -> list[bytes]:
    """What a client gets of a backend's stream, piece by piece."""

    def reply(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Chunks(chunks, seconds))

    async def ask() -> list[bytes]:
        backends = Backends(Settings(first_byte_timeout_seconds=patience, max_answer_bytes=most))
        backends._client = httpx.AsyncClient(transport=httpx.MockTransport(reply))
        async with backends:
            answer = await backends.ask(candidate(), {"stream": True}, asyncio.get_running_loop().time() + 5)
            return [piece async for piece in answer.chunks]

    return asyncio.run(ask())


def candidate(address: str = "http://localhost:1", model: str = "m") -> ServedCandidate:
    return ServedCandidate("a", f"{address}/v1", model, 0, 0, 100, False)


@pytest.mark.parametrize(
    "chunks",
    [
        [ERROR],
        [COMMENT + ERROR],
        [COMMENT, ERROR],
        [COMMENT, COMMENT[:5], COMMENT[5:] + ERROR[:9], ERROR[9:]],
        [COMMENT, b"event: error\r\n" + ERROR.replace(b"\n", b"\r\n")],
        [COMMENT, ERROR.rstrip()],
        [ERROR.rstrip()],
    ],
)
def test_an_error_after_comments_goes_to_the_next_candidate(chunks):
    with pytest.raises(Failed, match=r"broken .*an error in place of a stream"):
        streamed(chunks)


@pytest.mark.parametrize("chunks", [[], [COMMENT], [COMMENT, COMMENT[:4]], [b"event: done\n\n"]])
def test_a_stream_that_ends_without_data_goes_to_the_next_candidate(chunks):
    with pytest.raises(Failed, match=r"broken .*a stream without data"):
        streamed(chunks)


def answered(status: int, content: bytes) -> Answer:
    """What a backend's answer that is not streamed comes to."""
    reply = lambda _: httpx.Response(status, stream=Chunks([content], 0))  # noqa: E731

    async def ask() -> Answer:
        backends = Backends(Settings())
        backends._client = httpx.AsyncClient(transport=httpx.MockTransport(reply))
        async with backends:
            return await backends.ask(candidate(), {}, asyncio.get_running_loop().time() + 5)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("status", "fault", "is_said"),
    [
        *((status, "server_error", False) for status in (409, 424, 425, 498, 499, 500, 529)),
        *((status, "broken", False) for status in (204, 302, 418, 430)),
        *((status, "refused", False) for status in (401, 402, 404, 405, 407, 410)),
        *((status, "rejected", True) for status in (400, 406, 414, 415, 416, 422, 431, 451)),
        (403, "forbidden", True),
        (408, "timeout", False),
        (413, "too_long", True),
        (429, "rate_limit", False),
    ],
)
def test_whatever_is_no_success_goes_to_the_next_candidate(status, fault, is_said):
    """Only what is said of the request itself may be a client's answer."""
    with pytest.raises(Failed) as raised:
        answered(status, b'{"error": {"message": "no"}}')
    assert (raised.value.fault, raised.value.answer is not None) == (fault, is_said)


GOOD = {"message": {"content": "x"}, "finish_reason": "stop"}
BROKE_OFF = {"message": {"content": ""}, "finish_reason": "error", "error": {"code": 502, "message": "gone"}}


@pytest.mark.parametrize("choices", [[], None, [BROKE_OFF], [BROKE_OFF, {"finish_reason": "error"}], [{"error": "x"}]])
def test_an_answer_whose_choices_are_errors_goes_to_the_next_candidate(choices):
    with pytest.raises(Failed, match="broken"):
        answered(200, json.dumps({"choices": choices}).encode())
    if choices:
        with pytest.raises(Failed, match=r"broken .*an error in place of a stream"):
            streamed([b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n"])


@pytest.mark.parametrize("choices", [[GOOD], [BROKE_OFF, GOOD], [GOOD | {"error": None}]])
def test_an_answer_is_one_where_a_choice_is(choices):
    content = json.dumps({"choices": choices}).encode()
    assert answered(200, content).content == content
    event = b"data: " + content + b"\n\n"
    assert streamed([event]) == [event]


def test_a_stream_may_begin_without_choices():
    """As Azure's does, with what its filter found in the prompt."""
    event = b'data: {"choices": [], "prompt_filter_results": []}\n\n'
    assert streamed([event, EVENT]) == [event, EVENT]


def test_comments_are_passed_on_with_the_first_event():
    assert streamed([COMMENT, COMMENT, EVENT, COMMENT, ERROR]) == [COMMENT * 2 + EVENT, COMMENT, ERROR]
    assert streamed([COMMENT, EVENT.rstrip()]) == [COMMENT + EVENT.rstrip()]


def test_a_backend_that_comments_for_longer_than_one_waits_for_its_first_byte_works():
    pieces = streamed([COMMENT] * 8 + [EVENT], seconds=0.05, patience=0.2)
    assert b"".join(pieces) == COMMENT * 8 + EVENT
    assert pieces[0] in [COMMENT * n for n in range(2, 8)], "the client hears of it meanwhile"


def test_no_more_than_an_answer_is_kept_of_comments():
    pieces = streamed([COMMENT] * 9 + [EVENT], most=5 * len(COMMENT))
    assert pieces == [COMMENT * 6, COMMENT, COMMENT, COMMENT, EVENT]


def test_a_backend_that_falls_silent_after_a_comment_is_late():
    async def ask(address: str) -> None:
        async with Backends(Settings(first_byte_timeout_seconds=0.3)) as backends:
            body = {"stream": True, "messages": [{"role": "user", "content": "x"}]}
            await backends.ask(candidate(address, "mute:5"), body, asyncio.get_running_loop().time() + 20)

    with running(Backend()) as (address, _):
        started = time.monotonic()
        with pytest.raises(Failed, match="timeout"):
            asyncio.run(ask(address))
        assert time.monotonic() - started < 3


def test_an_address_keeps_its_query_and_azure_has_its_own_header(monkeypatch):
    seen = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), request.headers.get("api-key"), request.headers.get("authorization")))
        return httpx.Response(200, stream=Chunks([b'{"choices": [{}]}'], 0))

    async def ask(*addresses: str) -> None:
        backends = Backends(Settings())
        backends._client = httpx.AsyncClient(transport=httpx.MockTransport(reply))
        async with backends:
            for address in addresses:
                one = ServedCandidate("a", address, "m", 0, 0, 100, False, api_key_env="A_KEY")
                backends.learn_key(one, "zoo.toml")
                await backends.ask(one, {}, asyncio.get_running_loop().time() + 5)

    monkeypatch.setenv("A_KEY", key := "0123456789abcdef")
    asyncio.run(ask("https://h/openai/deployments/m?api-version=1", "https://h/v1"))
    assert seen == [
        ("https://h/openai/deployments/m/chat/completions?api-version=1", key, None),
        ("https://h/v1/chat/completions", None, f"Bearer {key}"),
    ]
