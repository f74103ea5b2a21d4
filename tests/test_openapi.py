"""Requests made out of the API's own description, good and bad: no fault of ours, no answer that it does not tell of."""

from collections import Counter

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks

from satjax.policy.zoo_file import read_zoo_file
from satjax.serving.app import create_app
from satjax.serving.keys import KeyRing
from satjax.serving.service import open_service
from tests.serving import Backend, FakeRouter, running, write_zoo

ADMIN = "admin-key-0123456789"
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    with running(Backend()) as (backend, _):
        path = write_zoo(tmp_path_factory.mktemp("zoo") / "zoo.toml", backend, {"a": "ok-a", "b": "ok-b"})
        service = open_service(FakeRouter({"a": 0.5, "b": 0.4}), read_zoo_file(path), path)
        with running(create_app(service, KeyRing(), KeyRing([ADMIN]))) as (address, _):
            described = httpx.get(f"{address}/openapi.json").json()
            # Every call bears the key: without this, one that the description lets go without is taken for a fault.
            for path in described["paths"].values():
                for operation in path.values():
                    operation.pop("security", None)
            schema = schemathesis.openapi.from_dict(described)
            schema.config.update(base_url=address)
            yield schema


def within_reach(case, number):
    """A request that the description allows, of a model, a key and an address that are there."""
    if not isinstance(case.body, dict):
        return case
    body = dict(case.body)
    match case.operation.path:
        case "/v1/chat/completions":
            body["model"] = ("satjax", "a")[number % 2]
            body["messages"] = [*body["messages"], {"role": "user", "content": "hello"}]
            body["satjax"] = (body.get("satjax") or {}) | {"candidates": None}
        case "/v1/rank":
            body = {key: value for key, value in body.items() if key not in ("messages", "candidates")}
            body["instruction"] = "hello"
        case "/v1/candidates/{name}" if case.method == "PUT":
            body |= {"base_url": "http://localhost:1/v1", "model": "m", "api_key_env": "", "profile": None}
            case.path_parameters["name"] = "b"
    case.body = body
    return case


def try_all(schema, examples):
    """Calls every operation that many times with what its description allows, and with what it does not; how the calls ended."""
    ends = Counter()

    def try_one(operation, mode):
        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case):
            if mode.is_positive and ends.total() % 4:
                case = within_reach(case, ends.total())
            response = case.call_and_validate(checks=CHECKS, headers={"authorization": f"Bearer {ADMIN}"})
            ends[operation.label, response.status_code] += 1

        one()

    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:
            if mode.is_positive or operation.body:
                try_one(operation, mode)
    return ends


def check(ends, examples):
    assert ends.total() > 6 * examples
    for label in ("POST /v1/chat/completions", "POST /v1/rank"):
        assert ends[label, 200] > examples // 4
        assert ends[label, 400] > examples // 4
    assert ends["PUT /v1/candidates/{name}", 204] > examples // 8


def test_requests_of_the_description_are_answered_as_it_says(schema):
    check(try_all(schema, 24), 24)


@pytest.mark.slow
def test_so_are_many_more(schema):
    check(try_all(schema, 400), 400)
