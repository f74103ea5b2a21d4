"""Which candidate a request is routed to, by what it says of itself, and a zoo that changes while it is served."""

import tempfile
import threading
from collections import Counter

import httpx
import openai
import pytest

from tests.serving import MODELS, TOOL, Backend, FakeRouter, all_kinds, ask, running, say, serving, write_zoo

ADMIN = "admin-key-0123456789"


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


def test_tools_are_passed_through_to_a_candidate_that_has_them(client, backend):
    answer = client.chat.completions.create(model="satjax", messages=say("best:good Rain?"), tools=[TOOL])
    assert answer.choices[0].message.tool_calls[0].function.name == "weather"
    assert backend.seen[-1]["model"] == "ok-best"
    assert backend.seen[-1]["tools"] == [TOOL]
    without = client.chat.completions.create(model="satjax", messages=say("best:good Rain?"))
    assert without.model == "ok-good"


def test_a_candidates_name_goes_straight_there(client):
    raw = client.chat.completions.with_raw_response.create(model="good", messages=say("hi"))
    assert raw.parse().choices[0].message.content == "ok-good says hi"
    assert raw.headers["x-satjax-candidate"] == "good"
    assert "x-satjax-probability" not in raw.headers
    with pytest.raises(openai.NotFoundError, match="did you mean 'good'"):
        client.chat.completions.create(model="goood", messages=say("hi"))


def test_what_does_not_fit_a_context_goes_elsewhere(client):
    assert client.chat.completions.create(model="satjax", messages=say("word " * 2000)).model == "ok-good"
    assert client.chat.completions.create(model="satjax", messages=say("word"), max_tokens=1999).model == "ok-best"
    assert client.chat.completions.create(model="satjax", messages=say("word"), max_tokens=2000).model == "ok-good"
    with pytest.raises(openai.BadRequestError, match="no candidate takes about 10000 tokens"):
        client.chat.completions.create(model="satjax", messages=say("word " * 8000))


def test_a_named_candidate_that_fails_is_not_replaced(client):
    for name, error in (
        ("erring", openai.InternalServerError),
        ("dead", openai.InternalServerError),
        ("limited", openai.RateLimitError),
    ):
        with pytest.raises(error) as raised:
            client.chat.completions.create(model=name, messages=say("hi"))
        assert name in str(raised.value)
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model="late", messages=say("hi"))
    assert raised.value.status_code == 504


@pytest.mark.parametrize(
    ("objective", "first"),
    [
        ("quality", "good"),
        ("cheapest above 0.84", "best"),
        ("probability - 1e9 * price", "best"),
        ("cheapest above 0.95", "good"),
    ],
)
def test_the_objective_may_be_given_in_the_body_or_a_header(address, objective, first):
    """`good` is likelier, and dearer."""
    body, header = {"satjax": {"objective": objective}}, {"headers": {"X-Satjax-Objective": objective}}
    other = "quality" if first == "best" else "cheapest above 0.5"
    for options in (body, header, body | {"headers": {"X-Satjax-Objective": other}}):
        response = ask(address, text="best:good hi", **options)
        assert response.headers["x-satjax-candidate"] == first


@pytest.mark.parametrize(
    ("path", "body", "header", "param"),
    [
        ("rank", {"instruction": "x", "objective": "best"}, None, "objective"),
        ("rank", {"instruction": "x", "candidates": ["x"]}, None, "candidates"),
        ("rank", {"instruction": "x"}, "best", "x-satjax-objective"),
        ("chat/completions", {"satjax": {"objective": "best"}}, None, "satjax.objective"),
        ("chat/completions", {"satjax": {"candidates": ["x"]}}, None, "satjax.candidates"),
        ("chat/completions", {"satjax": {}}, "best", "x-satjax-objective"),
    ],
)
def test_an_error_names_the_field_as_the_request_has_it(address, path, body, header, param):
    body = body if path == "rank" else body | {"model": "satjax", "messages": say("x")}
    response = httpx.post(f"{address}/v1/{path}", json=body, headers={"x-satjax-objective": header} if header else {})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_price_decides_where_the_objective_says_so(address):
    chosen = ["good", "erring", "best"]
    body = {"instruction": "best:good hi", "candidates": chosen, "expected_output_tokens": 1000}
    by_quality = httpx.post(f"{address}/v1/rank", json=body).json()
    assert [r["candidate"] for r in by_quality["ranking"]] == ["good", "best", "erring"]
    assert by_quality["ranking"][1] == {
        "candidate": "best",
        "probability": 0.9,
        "price_usd": pytest.approx(0.002 + 3e-6),
    }
    by_price = httpx.post(f"{address}/v1/rank", json=body, headers={"x-satjax-objective": "cheapest above 0.5"}).json()
    assert [r["candidate"] for r in by_price["ranking"]] == ["best", "good", "erring"]
    by_value = httpx.post(f"{address}/v1/rank", json=body | {"objective": "probability - 60 * price"}).json()
    assert [r["candidate"] for r in by_value["ranking"]] == ["best", "good", "erring"]
    assert by_value["objective"] == "probability - 60 * price"


def test_a_conversation_is_ranked_as_it_would_be_answered(address, started):
    router = started[1].router
    messages = [*say("Translate 'dog'."), {"role": "assistant", "content": "Hund"}, *say("and French?")]
    assert httpx.post(f"{address}/v1/rank", json={"messages": messages}).status_code == 200
    assert router.batches[-1] == ("Translate 'dog'.\n\nand French?",)
    httpx.post(f"{address}/v1/chat/completions", json={"model": "satjax", "messages": messages})
    assert router.batches[-1] == ("Translate 'dog'.\n\nand French?",)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"tools": [TOOL]},
        {"functions": [TOOL["function"]]},
        {"max_tokens": 1999},
        {"max_completion_tokens": 8000, "n": 2},
        {"messages": say("best:best " + "word " * 2000)},
        {"messages": say("word " * 8000)},
        {"max_tokens": 8192},
    ],
)
def test_a_ranking_is_what_a_request_of_the_same_content_follows(address, more):
    body = {"messages": say("best:good hi"), **more}
    ranked = httpx.post(f"{address}/v1/rank", json=body).json()
    chosen = httpx.post(f"{address}/v1/chat/completions", json={"model": "satjax", **body})
    if chosen.status_code == 400:
        assert ranked == chosen.json()
        assert ranked["error"]["code"] == "no_candidate"
        return
    names = [offer["candidate"] for offer in ranked["ranking"]]
    assert chosen.headers["x-satjax-candidate"] == names[0]
    left_out = {entry["candidate"]: entry["reason"] for entry in ranked["left_out"]}
    assert sorted([*names, *left_out]) == sorted(MODELS)
    reason = {"tools": "tools = false, and the request or its messages have tools"}
    assert left_out.get("good") == reason.get("tools" if {"tools", "functions"} & set(more) else "")
    if "max_completion_tokens" in more:
        assert left_out["best"] == "context_tokens = 2000, and the request takes about 3 and 8000 of an answer"


def test_a_ranking_has_those_that_just_failed_last_as_a_request_does(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a", "b": "dead"})
    with serving(FakeRouter({"a": 0.5, "b": 0.9}), zoo) as (address, _):
        rank = lambda: httpx.post(f"{address}/v1/rank", json={"instruction": "hi"}).json()  # noqa: E731
        assert ([r["candidate"] for r in rank()["ranking"]], rank()["cooling"]) == (["b", "a"], [])
        assert ask(address).headers["x-satjax-candidate"] == "a"
        assert ([r["candidate"] for r in rank()["ranking"]], rank()["cooling"]) == (["a", "b"], ["b"])


def test_candidates_come_and_go_while_others_are_served(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"})
    admin = {"authorization": f"Bearer {ADMIN}"}
    entry = {
        "base_url": f"{backend.address}/v1",
        "model": "ok-b",
        "usd_per_million_input_tokens": 1,
        "usd_per_million_output_tokens": 1,
        "context_tokens": 100,
        "tools": False,
    }
    with serving(FakeRouter({"a": 0.5, "b": 0.9}), zoo, admin_keys=[ADMIN]) as (address, service):
        put = lambda name, body: httpx.put(f"{address}/v1/candidates/{name}", json=body, headers=admin)  # noqa: E731
        assert ask(address).headers["x-satjax-candidate"] == "a"
        assert put("b", entry).status_code == 204
        assert ask(address).headers["x-satjax-candidate"] == "b"
        for change, said in (
            ({"base_url": "file:///x"}, "is no address"),
            ({"api_key_env": "HOME"}, "sends no key"),
            ({"colour": 1}, "colour"),
            ({"profile": {}}, "is no capability profile"),
            ({"context_tokens": 0}, "context_tokens"),
        ):
            response = put("b", entry | change)
            assert response.status_code == 400
            assert said in response.json()["error"]["message"]
            assert "/tmp" not in response.text
        assert "does not know 'c'" in put("c", entry).json()["error"]["message"]
        assert put("satjax", entry).status_code == 400
        assert httpx.delete(f"{address}/v1/candidates/b", headers=admin).status_code == 204
        assert ask(address).headers["x-satjax-candidate"] == "a"
        assert httpx.delete(f"{address}/v1/candidates/b", headers=admin).status_code == 404
        assert httpx.delete(f"{address}/v1/candidates/a", headers=admin).status_code == 409
        assert list(service.candidates) == ["a"]


def test_a_profile_comes_where_no_file_can_be_written(backend, tmp_path, monkeypatch):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"})
    task = {"task": "t", "keywords": [], "accuracy": 0.5, "count": 2}
    profile = {"version": 1, "candidate": "b", "aptitude_test": "f", "expert_notes": [], "tasks": [task]}
    entry = {"base_url": f"{backend.address}/v1", "model": "ok-b", "context_tokens": 100, "tools": False}
    entry |= {f"usd_per_million_{side}_tokens": 1 for side in ("input", "output")}
    with serving(FakeRouter({"a": 0.5}), zoo, admin_keys=[ADMIN]) as (address, service):
        put = lambda body: httpx.put(  # noqa: E731
            f"{address}/v1/candidates/b", json=entry | body, headers={"authorization": f"Bearer {ADMIN}"}
        )
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
        assert put({"profile": profile}).status_code == 204
        assert service.router.candidates == ("a", "b")
        assert "the profile is that of 'c'" in put({"profile": profile | {"candidate": "c"}}).json()["error"]["message"]


def test_too_much_at_once_is_turned_away_with_a_time_to_come_again(backend, tmp_path):
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "ok-a"}, "max_queue = 2\nmax_batch = 1")
    with serving(FakeRouter({"a": 0.5}, seconds=0.2), zoo) as (address, _):
        responses = at_once([lambda: ask(address)] * 10)
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 3
    turned_away = next(response for response in responses if response.status_code == 503)
    assert turned_away.headers["retry-after"] == "1"
    assert turned_away.json()["error"]["code"] == "overloaded"
    zoo = write_zoo(tmp_path / "zoo.toml", backend.address, {"a": "slow:0.3"}, "max_requests = 2")
    with serving(FakeRouter({"a": 0.5}), zoo) as (address, service):
        statuses = Counter(response.status_code for response in at_once([lambda: ask(address)] * 6))
        assert statuses == {200: 2, 503: 4}
        assert service.running == 0


def at_once(calls):
    found = [None] * len(calls)

    def run(i, call):
        found[i] = call()

    threads = [threading.Thread(target=run, args=(i, call)) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_backends_need_their_keys_at_the_start(tmp_path, monkeypatch):
    from satjax.errors import SatjaxError
    from satjax.policy.zoo_file import read_zoo_file
    from satjax.serving.service import open_service

    monkeypatch.delenv("ABSENT_KEY", raising=False)
    zoo = write_zoo(tmp_path / "zoo.toml", "http://localhost:1", {"a": "m"}, a={"api_key_env": '"ABSENT_KEY"'})
    with pytest.raises(SatjaxError, match=r"zoo\.toml: candidates\.a: environment variable ABSENT_KEY is not set"):
        open_service(FakeRouter({"a": 0.5}), read_zoo_file(zoo), zoo)
    zoo = write_zoo(tmp_path / "zoo.toml", "http://localhost:1", {"b": "m"})
    said = r"candidates\.b: unknown candidate 'b'; there are: a\. A new one needs its profile: add profile = \"FILE\.json\" to its table"
    with pytest.raises(SatjaxError, match=said) as raised:
        open_service(FakeRouter({"a": 0.5}), read_zoo_file(zoo), zoo)
    assert "satjax assess --add" in str(raised.value)
    assert "--out-router" in str(raised.value)
    assert "\n" not in str(raised.value)
