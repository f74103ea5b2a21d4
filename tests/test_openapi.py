"""Requests made out of the API's own description, good and bad: no fault of ours, no answer that it does not tell of."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi import checks

from satjax.serving.app import create_app
from satjax.serving.keys import KeyRing
from satjax.serving.service import open_service
from satjax.serving.zoo_file import read_zoo_file
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
            yield schemathesis.openapi.from_url(f"{address}/openapi.json")


def try_all(schema, examples):
    """Calls every operation that many times with what its description allows, and with what it does not; how often in all."""
    calls = 0
    for found in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            operation = found.ok()

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
                nonlocal calls
                calls += 1
                case.call_and_validate(checks=CHECKS, headers={"authorization": f"Bearer {ADMIN}"})

            if mode.is_positive or operation.body or operation.path_parameters:
                one()
    return calls


def test_requests_of_the_description_are_answered_as_it_says(schema):
    assert try_all(schema, 12) > 100


@pytest.mark.slow
def test_so_are_many_more(schema):
    assert try_all(schema, 2000) > 10_000
