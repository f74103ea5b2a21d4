"""One question to an endpoint: what is asked, what is waited for, and what each fault comes to."""

import asyncio
import contextlib
import json
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.assess import endpoint as module
from satjax.assess.endpoint import AttemptFailed, Declined, Endpoint, Filtered, Reply, TimedOut, ask
from satjax.errors import SatjaxError
from tests.endpoints import FAULTS, Stub, completion, faulty_proxy, stub_endpoint
from tests.processes import free_port

SILENCE = 0.8
"""Seconds after which what the proxy keeps silent about is given up: less than it is silent, and time enough to answer on a busy machine."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT", 0.001)


@pytest.fixture(scope="module")
def stub():
    with stub_endpoint(lambda prompt: f"said {prompt}") as stub:
        yield stub


def asked(endpoint: Endpoint, prompt: str = "hello", **options) -> Reply:
    async def one() -> Reply:
        async with httpx.AsyncClient() as client:
            return await ask(client, endpoint, prompt, **options)

    return asyncio.run(one())


def test_a_reply_comes_with_its_tokens(stub: Stub):
    assert asked(Endpoint(stub.url, "m", max_tokens=5)) == Reply("said hello", "stop", 7, 3)
    message = {"role": "user", "content": "hello"}
    assert stub.body == {"model": "m", "messages": [message], "temperature": 0, "max_tokens": 5}


def test_the_body_is_laid_over_the_request_and_null_takes_a_field_out(stub: Stub):
    body = {"temperature": None, "max_tokens": None, "max_completion_tokens": 9, "top_p": 0.5}
    asked(Endpoint(f"{stub.url}/chat/completions", "m", body=body))
    assert {key: stub.body[key] for key in stub.body if key != "messages"} == {
        "model": "m",
        "max_completion_tokens": 9,
        "top_p": 0.5,
    }


def test_azure_is_asked_at_its_version_with_its_own_header():
    seen = []

    def reply(request: httpx.Request) -> httpx.Response:
        seen.append((str(request.url), request.headers.get("api-key"), request.headers.get("authorization")))
        return httpx.Response(200, json=completion("said"))

    async def one() -> Reply:
        azure = "https://r.openai.azure.com/openai/deployments/m"
        async with httpx.AsyncClient(transport=httpx.MockTransport(reply)) as client:
            return await ask(client, Endpoint(f"{azure}?api-version=2024-10-21", "m", "the-key"), "hello")

    assert asyncio.run(one()).text == "said"
    url = "https://r.openai.azure.com/openai/deployments/m/chat/completions?api-version=2024-10-21"
    assert seen == [(url, "the-key", None)]


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_it_is_asked_again(stub: Stub, fault):
    left = [fault, fault]
    with faulty_proxy(stub, lambda prompt: left.pop() if left else None) as url:
        assert asked(Endpoint(url, "m", timeout=SILENCE if fault == "silence" else 60)).text == "said hello"
    assert left == []


@pytest.mark.parametrize("fault", ["500", "half", "garbage", "dropped"])
def test_a_fault_that_stays_is_said_after_a_few_attempts(stub: Stub, fault, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 3)
    attempts = []
    with (
        faulty_proxy(stub, lambda prompt: attempts.append(prompt) or fault) as url,
        pytest.raises(AttemptFailed) as raised,
    ):
        asked(Endpoint(url, "m"))
    assert len(attempts) == 3
    assert raised.value.reached
    assert "\n" not in str(raised.value)


def test_what_takes_too_long_is_not_paid_for_many_times(stub: Stub, caplog):
    attempts = []
    with (
        faulty_proxy(stub, lambda prompt: attempts.append(prompt) or "silence") as url,
        pytest.raises(TimedOut, match=r"no complete response within 0.05 seconds; a larger --timeout"),
    ):
        asked(Endpoint(url, "m", timeout=0.05))
    assert len(attempts) == module.TIMEOUTS < module.ATTEMPTS
    assert [message for message in caplog.messages if "asked again" in message] == [
        "a question is asked again: no complete response within 0.05 seconds; a larger --timeout waits longer"
    ]


def test_other_faults_leave_a_slow_endpoint_its_attempts(stub: Stub, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUTS", 2)
    left = ["silence", "500", "500", "500"]
    with faulty_proxy(stub, lambda prompt: left.pop() if left else None) as url:
        assert asked(Endpoint(url, "m", timeout=SILENCE)).text == "said hello"


def test_who_says_how_long_to_wait_is_not_told_of(stub: Stub, caplog):
    left = ["429"]
    with faulty_proxy(stub, lambda prompt: left.pop() if left else None) as url:
        asked(Endpoint(url, "m"))
    assert [record for record in caplog.records if record.name == "satjax"] == []


def test_retry_after_is_waited_out(stub: Stub, monkeypatch):
    left = ["429"]
    monkeypatch.setattr(module, "retry_after", lambda value: 0.2 if value == "0.01" else 99)
    start = time.monotonic()
    with faulty_proxy(stub, lambda prompt: left.pop() if left else None) as url:
        asked(Endpoint(url, "m"))
    assert 0.2 <= time.monotonic() - start < 5


def test_who_asks_for_hours_is_not_waited_for(stub: Stub, monkeypatch):
    monkeypatch.setattr(module, "retry_after", lambda value: 3600.0)
    with faulty_proxy(stub, lambda prompt: "429") as url, pytest.raises(AttemptFailed, match="HTTP 429"):
        asked(Endpoint(url, "m"))


def test_waits_grow_and_differ(monkeypatch):
    monkeypatch.setattr(module, "FIRST_WAIT", 1.0)
    state = module.tenacity.RetryCallState(None, None, (), {})
    state.set_exception((AttemptFailed, AttemptFailed("x", wait=10.0), None))
    longest = []
    for number in (1, 3, 12):
        state.attempt_number = number
        waits = [module._wait(state) for _ in range(200)]
        assert len(set(waits)) > 100
        assert min(waits) >= 10.0
        longest.append(max(waits) - 10.0)
    assert longest[0] <= 1 < 2 < longest[1] <= 4 < 30 < longest[2] <= 60


def test_nobody_there_is_told_apart_and_not_waited_for_where_that_is_wanted():
    endpoint = Endpoint(f"http://127.0.0.1:{free_port()}/v1", "m")
    with pytest.raises(AttemptFailed, match="no connection") as raised:
        asked(endpoint, patient=False)
    assert not raised.value.reached


def test_a_refused_key_is_one_line_that_does_not_hold_it():
    with stub_endpoint(str.upper, key="right") as stub:
        assert asked(Endpoint(stub.url, "m", "right")).text == "HELLO"
        with pytest.raises(SatjaxError, match=r"refuses model 'm' \(HTTP 401.*check --base-url") as raised:
            asked(Endpoint(stub.url, "m", "sk-secret"))
        assert "sk-secret" not in str(raised.value)
        assert "sk-secret" not in repr(Endpoint(stub.url, "m", "sk-secret"))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("before", range(150, 210, 10))
def test_no_part_of_a_key_is_said(before):
    key = "sk-0123456789abcdef0123456789abcdef"
    transport = httpx.MockTransport(lambda request: httpx.Response(400, text=f"{'x' * before} {key}"))

    async def go() -> None:
        async with httpx.AsyncClient(transport=transport) as client:
            await ask(client, Endpoint("http://localhost/v1", "m", key), "hi")

    with pytest.raises(Declined) as raised:
        asyncio.run(go())
    assert "sk-0" not in str(raised.value)


def test_a_wrong_path_is_said(stub: Stub):
    with pytest.raises(SatjaxError, match="HTTP 404"):
        asked(Endpoint(stub.url.removesuffix("/v1"), "m"))


def test_a_question_that_is_declined_is_not_asked_again(stub: Stub):
    attempts = []
    with (
        faulty_proxy(stub, lambda prompt: attempts.append(0) or "400") as url,
        pytest.raises(Declined, match="HTTP 400"),
    ):
        asked(Endpoint(url, "m"))
    assert len(attempts) == 1


@pytest.mark.parametrize(
    ("status", "body", "is_filter"),
    [
        (400, "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", True),
        (400, "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", True),
        (400, '{"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}', True),
        (400, '{"code": "data_inspection_failed"}', True),
        (403, "m requires moderation; your input was flagged for harassment", True),
        (451, "", True),
        (403, "this key may not use m", False),
        (400, "This model's maximum context length is 4096 tokens", False),
        (400, "Unknown parameter: 'safety_identifier'", False),
        (413, "too large", False),
    ],
)
def test_what_a_filter_declines_is_told_from_what_has_a_wrong_form(status, body, is_filter):
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=body))

    async def go() -> None:
        async with httpx.AsyncClient(transport=transport) as client:
            await ask(client, Endpoint("http://localhost/v1", "m"), "hi")

    with pytest.raises(Declined) as raised:
        asyncio.run(go())
    assert isinstance(raised.value, Filtered) is is_filter


def test_a_last_attempt_that_times_out_after_other_faults_is_a_failure(stub: Stub, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 3)
    left = ["500", "500", "silence"]
    with faulty_proxy(stub, lambda prompt: left.pop(0)) as url, pytest.raises(AttemptFailed) as raised:
        asked(Endpoint(url, "m", timeout=SILENCE))
    assert not isinstance(raised.value, TimedOut)


@pytest.mark.parametrize("content", [None, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]])
def test_replies_without_text_or_in_parts(content):
    """Some leave the field out where it would be null."""
    reply = module._reply(json.dumps({"choices": [{"message": {"content": content}}]}).encode())
    assert reply == Reply("ab" if content else "", "", 0, 0)
    thought = {"message": {"role": "assistant", "reasoning_content": "So …"}, "finish_reason": "length"}
    assert module._reply(json.dumps({"choices": [thought]}).encode()) == Reply("", "length", 0, 0)
    for message in (None, "text", []):
        with pytest.raises(AttemptFailed, match="no chat completion"):
            module._reply(json.dumps({"choices": [{"message": message}]}).encode())


@pytest.mark.parametrize("status", [409, 424, 498, 503])
def test_what_may_pass_is_asked_again(status):
    answers = [httpx.Response(status, text="later"), httpx.Response(200, json=completion("said"))]
    transport = httpx.MockTransport(lambda request: answers.pop(0))

    async def go() -> Reply:
        async with httpx.AsyncClient(transport=transport) as client:
            return await ask(client, Endpoint("http://localhost/v1", "m"), "hi")

    assert asyncio.run(go()).text == "said"


BROKEN = {"code": 502, "message": "Provider disconnected from sk-0123"}


def said_by(**choice) -> bytes:
    return json.dumps({"choices": [{"message": {"content": "Let me th"}, "finish_reason": "stop", **choice}]}).encode()


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"finish_reason": "error", "error": BROKEN}, "Provider disconnected from …"),
        ({"error": BROKEN}, "Provider disconnected from …"),
        ({"finish_reason": "error"}, "the model broke off"),
        ({"error": "down \udcff\n now"}, "the model broke off"),
    ],
)
def test_a_reply_that_the_provider_broke_off_is_no_reply(choice, said):
    with pytest.raises(AttemptFailed, match=said) as raised:
        module._reply(said_by(**choice), "sk-0123")
    assert "sk-0123" not in str(raised.value)
    assert "\n" not in str(raised.value)
    str(raised.value).encode()


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_what_a_filter_took_is_declined_and_what_it_left_is_a_reply(content):
    with pytest.raises(Filtered, match="content_filter"):
        module._reply(said_by(message={"content": content}, finish_reason="content_filter"))
    assert module._reply(said_by(finish_reason="content_filter", error=None)).text == "Let me th"


@pytest.mark.parametrize(
    ("reply", "tells"),
    [
        (Reply("a", "", 7, 3), True),
        (Reply("", "", 7, 0), True),
        (Reply("a", "", 7, 0), False),
        (Reply("a", "", 0, 3), False),
        (Reply("", "", 0, 0), False),
    ],
)
def test_whether_tokens_are_told(reply, tells):
    assert reply.tells_tokens is tells


def test_more_tokens_than_there_can_be_are_none():
    value = {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 10**400, "completion_tokens": 3}}
    assert module._reply(json.dumps(value).encode()) == Reply("a", "", 0, 3)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_reply_or_a_fault(content):
    with contextlib.suppress(AttemptFailed):
        assert isinstance(module._reply(content), Reply)


def test_a_flood_is_cut_off(monkeypatch):
    monkeypatch.setattr(module, "LARGEST_REPLY", 100)
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    with stub_endpoint(lambda prompt: "x" * 1000) as stub, pytest.raises(AttemptFailed, match="more than 100 bytes"):
        asked(Endpoint(stub.url, "m"))


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "http://host:99999/v1", "ftp://host/v1", "http:///v1", "", "http://[::1/v1"]
)
def test_what_is_no_address_is_said(url):
    with pytest.raises(SatjaxError, match="--base-url"):
        Endpoint(url, "m")


@pytest.mark.parametrize("url", ["http://me:hunter2@host/v1", "http://host/v1?key=hunter2", "http://host/v1#hunter2"])
def test_what_is_more_than_an_address_is_refused_and_not_repeated(url):
    with pytest.raises(
        SatjaxError, match=r"holds more .* a key belongs into the variable that --api-key-env"
    ) as raised:
        Endpoint(url, "m")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("body", [{"stream": True}, {"messages": []}])
def test_what_is_asked_and_how_it_comes_back_is_not_the_bodys_to_say(body):
    with pytest.raises(SatjaxError, match="--body sets"):
        Endpoint("http://localhost/v1", "m", body=body)


@pytest.mark.parametrize(("model", "body"), [("m", {"temperature": float("nan")}), ("m\udcff", {})])
def test_what_no_request_can_hold_is_said_before_one_is_made(model, body):
    with pytest.raises(SatjaxError, match="--model or --body holds what no request can"):
        Endpoint("http://localhost/v1", model, body=body)


@pytest.mark.parametrize("key", ["ключ", "a\nb"])
def test_a_key_that_no_header_can_hold_is_said_without_it(key):
    with pytest.raises(SatjaxError, match="no HTTP header can") as raised:
        Endpoint("http://localhost/v1", "m", key)
    assert key not in str(raised.value)
