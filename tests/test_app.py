"""The server as clients see it: OpenAI's own client, and plain HTTP, through real sockets, before backends that fail in every way."""

import asyncio
import json
import socket
import threading
import time
from dataclasses import replace

import httpx
import openai
import pytest

from satjax.policy.zoo_file import ServedCandidate, Settings
from satjax.serving.backends import Backends, _events
from tests.serving import MODELS, SECRET, Backend, FakeRouter, all_kinds, ask, running, say, serving, write_zoo

KEY, ADMIN = "client-key-0123456789", "admin-key-0123456789"


@pytest.fixture(scope="module")
def backend():
    app = Backend()
    with running(app) as (address, _):
        app.address = address
        yield app


@pytest.fixture(scope="module")
def started(backend, tmp_path_factory):
    with all_kinds(backend, tmp_path_factory.mktemp("zoo"), [ADMIN]) as served:
        yield served


@pytest.fixture
def address(started):
    return started[0]


@pytest.fixture
def client(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def test_openais_client_gets_the_best_candidates_answer(client, backend):
    raw = client.chat.completions.with_raw_response.create(
        model="satjax",
        messages=say("hello"),
        temperature=0.5,
        extra_body={"satjax": {"objective": "quality"}, "seed": 7},
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == "ok-best says hello"
    assert answer.usage.total_tokens == 12
    assert raw.headers["x-satjax-candidate"] == "best"
    assert raw.headers["x-satjax-probability"] == "0.9000"
    assert float(raw.headers["x-satjax-routing-ms"]) > 0
    sent = backend.seen[-1]
    assert sent == {"model": "ok-best", "messages": say("hello"), "temperature": 0.5, "seed": 7}
    assert backend.keys[-1] == f"Bearer {SECRET}"


def test_a_stream_is_passed_on_as_it_comes(client):
    chunks = list(client.chat.completions.create(model="satjax", messages=say("one two three"), stream=True))
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == "ok-best says one two three"
    assert len(chunks) == 5


@pytest.mark.parametrize("stream", [False, True])
def test_a_proxy_is_told_not_to_gather_a_streams_events(address, stream):
    headers = ask(address, stream=stream).headers
    assert (headers.get("x-accel-buffering"), headers.get("cache-control")) == (
        ("no", "no-cache") if stream else (None, None)
    )


@pytest.mark.parametrize("path", ["/v1/responses", "/chat/completions", "/v1/embeddings"])
def test_what_is_not_there_says_what_is(address, path):
    response = httpx.post(address + path, json={"model": "satjax", "input": "hello"})
    assert response.status_code == 404
    said = "Not Found: this server has /v1/chat/completions, /v1/models, /v1/rank"
    assert response.json()["error"] == {"message": said, "type": "not_found_error", "param": None, "code": None}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "failing",
    ["erring", "limited", "refusing", "dead", "garbled", "halved", "late", "unpaid", "moved", "sorry", "exhausted"],
)
def test_where_a_candidate_fails_the_next_one_answers(address, failing, stream):
    response = ask(address, text=f"best:{failing} hi", stream=stream)
    assert response.status_code == 200
    assert response.headers["x-satjax-candidate"] == "best"
    assert "ok-best" in response.text
    assert SECRET not in response.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failing", ["picky", "offended"])
def test_a_request_that_one_candidate_finds_wrong_may_suit_the_next_one(started, failing, stream):
    address, service = started
    response = ask(address, text=f"best:{failing} hi", stream=stream)
    assert (response.status_code, response.headers["x-satjax-candidate"]) == (200, "best")
    assert not service.cooling.is_cooling(failing)


@pytest.mark.parametrize(
    ("more", "status", "candidate"),
    [
        ({"model": "picky"}, 400, "picky"),
        ({"model": "offended"}, 403, "offended"),
        ({"satjax": {"candidates": ["picky", "offended"]}}, 400, "picky"),
    ],
)
def test_a_request_that_nobody_takes_is_answered_by_what_the_first_one_said(address, backend, more, status, candidate):
    before = len(backend.seen)
    response = ask(address, text="best:picky hi", **more)
    assert (response.status_code, response.headers["x-satjax-candidate"]) == (status, candidate)
    assert response.json() == {"error": {"message": "no: Bearer ***"}}
    assert len(backend.seen) == before + (2 if "satjax" in more else 1)


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_backend_has_no_room_for_the_next_one_answers(address, stream):
    response = ask(address, text="best:short hi", stream=stream)
    assert response.status_code == 200
    assert response.headers["x-satjax-candidate"] == "best"


@pytest.mark.parametrize("more", [{"model": "short"}, {"satjax": {"candidates": ["short", "picky"]}}])
def test_where_nobody_has_room_the_client_hears_what_the_backend_said(started, more):
    address, service = started
    response = ask(address, text="best:short hi", **more)
    assert response.status_code == 400
    assert response.headers["x-satjax-candidate"] == "short"
    assert response.json()["error"] == {"message": "no room; key Bearer ***", "code": "context_length_exceeded"}
    assert not service.cooling.is_cooling("short")


@pytest.mark.parametrize(("other", "status"), [("dead", 502), ("limited", 429), ("late", 504)])
def test_where_others_have_room_and_could_not_be_asked_the_client_is_to_come_again(address, other, status):
    response = ask(address, text="best:short hi", satjax={"candidates": ["short", other]})
    assert response.status_code == status
    assert "short: too_long" in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_where_a_request_is_too_long_those_with_more_room_are_asked_first(backend, tmp_path, stream):
    """Each of three would be one of two attempts."""
    models = {"a": "short", "b": "full", "c": "short", "d": "full", "e": "ok-e"}
    rooms = {name: {"context_tokens": str(2000 if name == "e" else 1000)} for name in models}
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, models, "max_attempts = 2", **rooms)
    with serving(FakeRouter({name: 0.9 - 0.1 * i for i, name in enumerate(models)}), zoo) as (address, service):
        before = len(backend.seen)
        assert ask(address, stream=stream).headers["x-satjax-candidate"] == "e"
        assert len(backend.seen) == before + 2
        response = ask(address, stream=stream, satjax={"candidates": ["b", "a", "c", "d"]})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert len(backend.seen) == before + 4, "no more of them than attempts"
        said = ask(address, stream=stream, model="b").json()["error"]
        assert "exceeds the maximum allowed length" in said["message"]
        assert not any(map(service.cooling.is_cooling, models))


def test_a_candidate_whose_streams_break_off_cools(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "break", "b": "ok-b"})
    with serving(FakeRouter({"a": 0.9, "b": 0.5}), zoo) as (address, _):
        chosen = [ask(address, text="a b c", stream=True).headers["x-satjax-candidate"] for _ in range(4)]
        assert chosen == ["a", "a", "a", "b"]
        metrics = httpx.get(f"{address}/metrics").text
        assert 'satjax_attempts_total{candidate="a",end="interrupted"} 3.0' in metrics
        assert 'satjax_attempts_total{candidate="b",end="interrupted"}' not in metrics


@pytest.mark.parametrize("status", [415, 451])
def test_a_candidate_that_does_not_take_one_request_says_why_and_cools_not(backend, tmp_path, status):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": f"status:{status}", "b": "ok-b"})
    with serving(FakeRouter({"a": 0.9, "b": 0.5}), zoo) as (address, service):
        for _ in range(4):
            assert ask(address).headers["x-satjax-candidate"] == "b"
            named = ask(address, model="a")
            assert named.status_code == status
            assert named.json()["error"]["message"].startswith("no: ")
        assert not service.cooling.is_cooling("a")


@pytest.mark.parametrize("status", [418, 424, 498])
def test_a_candidate_that_fails_by_any_status_cools(backend, tmp_path, status):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": f"status:{status}", "b": "ok-b"})
    with serving(FakeRouter({"a": 0.9, "b": 0.5}), zoo) as (address, service):
        for strikes in range(1, 4):
            assert not service.cooling.is_cooling("a")
            assert ask(address).headers["x-satjax-candidate"] == "b", strikes
        assert service.cooling.is_cooling("a")


def test_after_the_first_byte_there_is_no_way_back_and_the_client_is_told(client):
    def words(model, got):
        got.extend(
            c.choices[0].delta.content
            for c in client.chat.completions.create(model=model, messages=say("a b"), stream=True)
        )

    got = []
    with pytest.raises(openai.APIError, match="stream broke off"):
        words("breaking", got)
    assert got == ["break", " says "]
    with pytest.raises(openai.APIError, match="took too long"):
        words("stalling", got)


def test_of_an_event_that_breaks_off_nothing_is_passed_on(backend, tmp_path):
    with serving(FakeRouter({"a": 0.5}), write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "cut"})) as (url, _):
        got = []
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.APIError, match="stream broke off"):
            got.extend(
                c.choices[0].delta.content
                for c in client.chat.completions.create(model="a", messages=say("x"), stream=True)
            )
        assert '"id": "x"' in ask(url, stream=True).text
        assert ask(url, stream=True).text.count("data: ") == 2


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([b"data: a\n\n"], [b"data: a\n\n", b""]),
        ([b"data: a\n", b"\nda", b"ta: b\n\n"], [b"", b"data: a\n\n", b"data: b\n\n", b""]),
        ([b"data: a\r\n\r", b"\n: c\r\rda"], [b"", b"data: a\r\n\r\n: c\r\r", b"da"]),
    ],
)
def test_events_are_passed_on_whole(parts, whole):
    found, part = [], b""
    for chunk in parts:
        events, part = _events(part, chunk)
        found.append(events)
    assert [*found, part] == whole


def test_a_backends_odd_header_costs_no_place(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "odd"})
    with serving(FakeRouter({"a": 0.5}), zoo) as (address, service):
        response = ask(address, stream=True)
        assert (response.status_code, response.text) == (200, "data: [DONE]\n\n")
        assert "x-request-id" not in response.headers
        until = time.monotonic() + 3
        while service.running and time.monotonic() < until:
            time.sleep(0.01)
        assert service.running == 0


def test_what_a_backend_sets_as_a_cookie_goes_nowhere(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "cookie", "b": "ok-b"})
    with serving(FakeRouter({"a": 0.5, "b": 0.5}), zoo) as (address, _):
        for name in "aba":
            assert ask(address, model=name).status_code == 200
    assert backend.cookies[-3:] == [None] * 3


def test_without_keys_no_page_of_another_site_may_ask(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"})
    with serving(FakeRouter({"a": 0.5}), zoo) as (address, _):
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
            assert ask(address, headers={"sec-fetch-site": site}).status_code == status
        assert httpx.get(f"{address}/v1/models", headers={"sec-fetch-site": "cross-site"}).status_code == 200
        for origin, status in (("http://evil.example", 403), ("null", 403), (address, 200), (address.upper(), 200)):
            assert ask(address, headers={"origin": origin}).status_code == status
        assert ask(address, headers={"host": "evil.example"}).status_code == 403
        for path in ("/v1/models", "/metrics"):
            assert httpx.get(address + path, headers={"host": "evil.example"}).status_code == 403
    with serving(FakeRouter({"a": 0.5}), zoo, keys=[KEY]) as (address, _):
        headers = {"sec-fetch-site": "cross-site", "host": "evil.example", "authorization": f"Bearer {KEY}"}
        assert ask(address, headers=headers).status_code == 200


def test_a_name_with_a_slash_comes_and_goes(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"org/a": "ok-a", "b": "ok-b"})
    admin = {"authorization": f"Bearer {ADMIN}"}
    entry = {"base_url": f"{backend.address}/v1", "model": "ok-c", "context_tokens": 100, "tools": False}
    entry |= {f"usd_per_million_{side}_tokens": 1 for side in ("input", "output")}
    with serving(FakeRouter({"org/a": 0.5, "b": 0.4}), zoo, admin_keys=[ADMIN]) as (address, service):
        assert httpx.delete(f"{address}/v1/candidates/org%2Fa", headers=admin).status_code == 204
        assert list(service.candidates) == ["b"]
        assert httpx.put(f"{address}/v1/candidates/org/a", json=entry, headers=admin).status_code == 204
        assert ask(address).headers["x-satjax-candidate"] == "org/a"
        assert 'route="/v1/candidates/{name}"' in httpx.get(f"{address}/metrics").text


def test_secrets_stay_out_of_logs_and_errors(address, caplog):
    for name in MODELS:
        assert SECRET not in ask(address, text=f"best:{name} hi").text
        assert SECRET not in ask(address, model=name).text
    for path in ("/metrics", "/healthz", "/v1/models", "/openapi.json"):
        assert SECRET not in httpx.get(address + path).text
    assert "candidate erring failed" in caplog.text
    assert SECRET not in caplog.text
    assert "127.0.0.1" not in "".join(record.getMessage() for record in caplog.records if record.name == "satjax")


def test_an_empty_instruction_is_named_as_such(address):
    error = httpx.post(f"{address}/v1/rank", json={"instruction": " "}).json()["error"]
    assert (error["param"], "empty" in error["message"]) == ("instruction", True)


def test_an_instruction_that_is_no_unicode_is_not_called_empty(address):
    error = httpx.post(f"{address}/v1/rank", content=b'{"instruction": "\\ud800"}').json()["error"]
    assert "is not valid Unicode" in error["message"]
    assert error["param"] == "instruction"


def test_models_are_told_one_by_one_too(client):
    assert client.models.retrieve("satjax").id == "satjax"
    assert client.models.retrieve("good") == client.models.list().data[2]
    with pytest.raises(openai.NotFoundError, match="did you mean 'good'") as raised:
        client.models.retrieve("goood")
    assert raised.value.code == "model_not_found"


def test_one_forbidden_prompt_keeps_nobody_else_away(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a", "b": "status:403"})
    with serving(FakeRouter({"a": 0.5, "b": 0.9}), zoo) as (address, service):
        cooling = []
        for text in ("x", "x", "x", "x", "y", "z"):
            assert ask(address, text=text).headers["x-satjax-candidate"] == "a"
            cooling.append(service.cooling.is_cooling("b"))
        assert cooling == [False, False, False, False, False, True], "requests of many clients are, as with a wrong key"


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/v1/chat/completions", b"{", 400),
        ("/v1/chat/completions", b"[]", 400),
        ("/v1/chat/completions", b"[" * 100_000, 400),
        ("/v1/chat/completions", b'{"model": NaN}', 400),
        ("/v1/chat/completions", b"\xff", 400),
        ("/v1/chat/completions", b'{"model": "satjax", "messages": []}', 400),
        ("/v1/chat/completions", b'{"model": "satjax", "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        ("/v1/chat/completions", b'{"model": "\\ud800", "messages": [{"role": "user"}]}', 404),
        ("/v1/chat/completions", b'{"model": "satjax", "messages": [{"role": "system", "content": "x"}]}', 400),
        (
            "/v1/chat/completions",
            b'{"model": "satjax", "messages": [{"role": "user", "content": "x"}], "satjax": {"objective": "best"}}',
            400,
        ),
        (
            "/v1/chat/completions",
            b'{"model": "satjax", "messages": [{"role": "user", "content": "x"}], "satjax": {"candidates": ["x"]}}',
            400,
        ),
        (
            "/v1/chat/completions",
            b'{"model": "satjax", "messages": [{"role": "user", "content": "x"}], "n": ' + b"1" * 5000 + b"}",
            400,
        ),
        ("/v1/chat/completions", b'{"model": "best", "messages": [{"role": "user"}], "temperature": 1e999}', 400),
        ("/v1/rank", b"{}", 400),
        ("/v1/rank", b'{"instruction": "x", "messages": [{}]}', 400),
        ("/v1/rank", b'{"instruction": "   "}', 400),
        ("/v1/rank", b'{"instruction": 7}', 400),
        ("/v1/rank", b'{"instruction": "' + b"x" * 5_000_000 + b'"}', 413),
        ("/nothing", b"{}", 404),
    ],
)
def test_bad_requests_get_openais_kind_of_error(address, path, content, status):
    response = httpx.post(address + path, content=content, timeout=30)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text


def test_a_body_without_a_length_is_limited_too(address):
    def chunks():
        for _ in range(80):
            yield b" " * 100_000

    assert httpx.post(f"{address}/v1/rank", content=chunks(), timeout=30).status_code == 413


def test_without_the_right_key_nobody_gets_in(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"})
    with serving(FakeRouter({"a": 0.5}), zoo, keys=[KEY], admin_keys=[ADMIN]) as (address, service):
        for key in ("wrong", ADMIN):
            with pytest.raises(openai.AuthenticationError):
                openai.OpenAI(base_url=f"{address}/v1", api_key=key).chat.completions.create(
                    model="a", messages=say("x")
                )
        assert openai.OpenAI(base_url=f"{address}/v1", api_key=KEY).models.list().data[1].id == "a"
        for path in ("/v1/models", "/metrics"):
            assert httpx.get(address + path).status_code == 401
        assert httpx.post(f"{address}/v1/rank", json={}).json()["error"]["code"] == "invalid_api_key"
        for path in ("/", "/healthz"):
            assert httpx.get(address + path).status_code == 200
        service.cooling.failed("a", at_once=True)
        assert httpx.get(f"{address}/healthz").json() == {"status": "ok", "warm": True, "candidates": 1, "cooling": 1}
        assert httpx.delete(f"{address}/v1/candidates/a", headers={"authorization": f"Bearer {KEY}"}).status_code == 401
    with serving(FakeRouter({"a": 0.5}), zoo) as (address, _):
        assert httpx.delete(f"{address}/v1/candidates/a").status_code == 403


def test_it_is_ready_when_every_program_is_compiled_and_stays_so(backend, tmp_path):
    compiled = threading.Event()

    class Cold(FakeRouter):
        def warm_up(self, most):
            yield (0, 1)
            assert compiled.wait(30)

    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"})
    with serving(Cold({"a": 0.5}), zoo, keys=[KEY]) as (address, service):
        for ask_for in (httpx.get, httpx.head):
            assert ask_for(f"{address}/healthz").status_code == 200
            assert ask_for(f"{address}/readyz").status_code == 503
            assert ask_for(address).status_code == 200
        assert httpx.get(f"{address}/readyz").json()["error"]["code"] == "not_ready"
        compiled.set()
        until = time.monotonic() + 10
        while httpx.head(f"{address}/readyz").status_code == 503 and time.monotonic() < until:
            time.sleep(0.01)
        assert httpx.get(f"{address}/readyz").json() == httpx.get(f"{address}/healthz").json()
        compiled.clear()
        service.batcher.warm_up_again(service.router.warm_up(1))
        assert httpx.get(f"{address}/readyz").json()["warm"] is False, "slow for a while, and ready"
        compiled.set()


@pytest.mark.parametrize(("model", "stream"), [("slow:5", False), ("slow:5", True), ("stall:5", True)])
def test_a_client_that_leaves_cancels_what_runs_for_it(backend, tmp_path, model, stream):
    zoo, before = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": model}), backend.cancelled
    with serving(FakeRouter({"a": 0.5}), zoo) as (address, service):
        with pytest.raises(httpx.TimeoutException):
            httpx.post(
                f"{address}/v1/chat/completions",
                json={"model": "a", "messages": say("a b"), "stream": stream},
                timeout=0.3,
            )
        until = time.monotonic() + 3
        while (backend.cancelled == before or service.running) and time.monotonic() < until:
            time.sleep(0.01)
        assert backend.cancelled == before + 1
        assert service.running == 0


def test_many_at_once_share_passes_and_each_gets_its_own_answer(backend, tmp_path):
    zoo = write_zoo(
        tmp_path / "zoo.toml",
        backend.address,
        {"a": "ok-a", "b": "status:500", "c": "dead"},
        "max_attempts = 3",
    )
    router = FakeRouter({"a": 0.5, "b": 0.6, "c": 0.7}, seconds=0.01)

    async def go(address):
        async with httpx.AsyncClient(timeout=30) as client:

            async def one(i):
                stream = i % 2 == 0
                body = {"model": "satjax", "messages": say(f"number {i} end"), "stream": stream}
                response = await client.post(f"{address}/v1/chat/completions", json=body)
                assert response.status_code == 200
                assert response.headers["x-satjax-candidate"] == "a"
                if not stream:
                    return response.json()["choices"][0]["message"]["content"]
                events = [json.loads(line[6:]) for line in response.text.split("\n\n") if line.startswith("data: {")]
                return "".join(event["choices"][0]["delta"]["content"] for event in events)

            return await asyncio.gather(*map(one, range(120)))

    with serving(router, zoo) as (address, service):
        assert asyncio.run(go(address)) == [f"ok-a says number {i} end" for i in range(120)]
        metrics = httpx.get(f"{address}/metrics").text
        assert service.running == 0
    assert len(router.batches) < 60
    assert 'satjax_attempts_total{candidate="a",end="ok"} 120.0' in metrics
    assert 'satjax_responses_total{route="/v1/chat/completions",status="200"} 120.0' in metrics


def test_shutting_down_finishes_what_runs(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "slow:3"})
    from satjax.policy.zoo_file import read_zoo_file
    from satjax.serving.app import create_app
    from satjax.serving.keys import KeyRing
    from satjax.serving.service import open_service

    service = open_service(FakeRouter({"a": 0.5}), read_zoo_file(zoo), zoo)
    found = []
    with running(create_app(service, KeyRing(), KeyRing())) as (address, server):
        threads = [threading.Thread(target=lambda s=s: found.append(ask(address, stream=s))) for s in (True, False)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while service.running < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        server.should_exit = True

        def knock():
            while service.running == 2:
                httpx.get(f"{address}/healthz")

        with pytest.raises(httpx.ConnectError):
            knock()
        assert found == []
        for thread in threads:
            thread.join(10)
    assert [response.status_code for response in found] == [200, 200]
    assert all("slow:3" in response.text for response in found)


def test_a_bug_of_ours_is_500_without_a_word_of_it(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"})
    with serving(FakeRouter({"a": 0.5}), zoo) as (address, _):
        assert ask(address, text="hello").status_code == 200
        response = ask(address, text="poison")
        metrics = httpx.get(f"{address}/metrics").text
    assert response.status_code == 500
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert "a bug" not in response.text
    assert 'satjax_responses_total{route="/v1/chat/completions",status="500"} 1.0' in metrics


def test_a_slow_body_is_not_waited_for(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"}, "body_timeout_seconds = 0.2")
    with serving(FakeRouter({"a": 0.5}), zoo) as (address, service):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"POST /v1/rank HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
            assert b"408" in connection.recv(1000)
        assert service.running == 0


def test_a_client_that_leaves_before_its_body_is_there_is_no_error_of_ours(backend, tmp_path, caplog):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"})
    with serving(FakeRouter({"a": 0.5}), zoo) as (address, service):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(b"POST /v1/rank HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
            time.sleep(0.2)
        until = time.monotonic() + 3
        while "satjax_responses_total{" not in (said := httpx.get(f"{address}/metrics").text.split("/metrics")[0]):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert 'satjax_responses_total{route="/v1/rank",status="499"} 1.0' in said
        assert service.running == 0
    assert "Exception" not in caplog.text


def test_a_backend_that_floods_is_cut_off(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"}, "max_answer_bytes = 200")
    with serving(FakeRouter({"a": 0.5}), zoo) as (address, _):
        assert ask(address).status_code == 502


def test_a_key_goes_to_no_other_address_than_the_zoo_file_says(monkeypatch):
    monkeypatch.setenv("A_KEY", SECRET)
    known = ServedCandidate("a", "http://localhost:1/v1", "m", 1.0, 1.0, 10, False, api_key_env="A_KEY")
    backends = Backends(Settings())
    assert not backends.may_have_key(known)
    backends.learn_key(known, "zoo.toml")
    assert backends.may_have_key(replace(known, name="b", model="n"))
    assert backends.may_have_key(replace(known, base_url="http://elsewhere/v1", api_key_env=""))
    assert not backends.may_have_key(replace(known, base_url="http://elsewhere/v1"))
    assert not backends.may_have_key(replace(known, api_key_env="HOME"))


@pytest.mark.parametrize("depth", [*range(150, 1000, 60), 5000])
def test_a_request_nested_deeply_is_no_fault_of_ours(address, depth):
    nested = b"[" * depth + b"]" * depth
    for key in (b"tools", b"other"):
        content = b'{"model": "best", "messages": [{"role": "user", "content": "x"}], "%s": [{"function": {"name": "f"}, "a": %s}]}'
        response = httpx.post(f"{address}/v1/chat/completions", content=content % (key, nested))
        assert response.status_code == 200 if depth < 500 else response.status_code in (200, 400, 502)
