from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.errors import SatjaxError
from satjax.policy.objective import Cheapest, Worth
from satjax.policy.zoo_file import Settings, read_candidate, read_zoo_file
from satjax.pretrained import DEFAULT
from tests.serving import write_zoo

EXAMPLE = Path(__file__).parents[1] / "configs" / "serve_zoo.toml"


@pytest.fixture
def zoo(tmp_path):
    def write(serve="", **changes):
        return write_zoo(
            tmp_path / "zoo.toml", "http://localhost:1", {"a": "model-a", "b": "model-b"}, serve, **changes
        )

    return write


def test_the_example_fits_the_router_in_the_package():
    found = read_zoo_file(EXAMPLE)
    known = {path.stem for path in (DEFAULT / "profiles").glob("*.json")}
    assert set(found.candidates) <= known
    assert found.objective == Worth(20.0)
    assert found.settings.expected_output_tokens == 400
    assert not found.candidates["mathstral-7B"].tools


def test_what_a_file_says_is_read_with_defaults_for_the_rest(zoo):
    found = read_zoo_file(zoo('objective = "cheapest above 0.5"\nmax_queue = 7', b={"api_key_env": '"B_KEY"'}))
    assert list(found.candidates) == ["a", "b"]
    assert found.candidates["a"].model == "model-a"
    assert found.candidates["b"].api_key_env == "B_KEY"
    assert found.objective == Cheapest(0.5)
    assert found.settings == Settings(objective="cheapest above 0.5", max_queue=7)


@pytest.mark.parametrize(
    ("serve", "changes", "said"),
    [
        ("colour = 1", {}, "serve.colour"),
        ("max_queue = 0", {}, "serve.max_queue = 0 must be at least 1"),
        ("request_timeout_seconds = inf", {}, "serve.request_timeout_seconds"),
        ("connect_timeout_seconds = 0.0", {}, "must be at least 0.001"),
        ('max_queue = "7"', {}, "serve.max_queue = '7': int is expected"),
        ('objective = "best"', {}, "serve.objective: objective 'best' is unknown"),
        ("", {"a": {"colour": "1"}}, "candidates.a.colour"),
        ("", {"a": {"name": '"b"'}}, "candidates.a.name"),
        ("", {"a": {"tools": "1"}}, "candidates.a.tools = 1: bool is expected"),
        ("", {"a": {"model": '""'}}, "candidates.a.model is empty"),
        ("", {"a": {"context_tokens": "0"}}, "candidates.a.context_tokens"),
        ("", {"a": {"usd_per_million_input_tokens": "-1"}}, "a price of at least 0"),
        ("", {"a": {"usd_per_million_output_tokens": "nan"}}, "a finite number is expected"),
        ("", {"a": {"base_url": '"localhost:8000"'}}, "candidates.a.base_url is no address"),
        ("", {"a": {"base_url": '"http://h:99999/v1"'}}, "candidates.a.base_url is no address"),
        ("", {"a": {"base_url": '"file:///etc/passwd"'}}, "candidates.a.base_url is no address"),
        ("", {"a": {"base_url": '"http://10.0.0.300:8000/v1"'}}, "candidates.a.base_url is no address"),
        ("", {"a": {"base_url": '"http://xn--a/v1"'}}, "candidates.a.base_url is no address"),
        ("", {"a": {"base_url": '"http://[v1.a]/v1"'}}, "candidates.a.base_url is no address"),
        ("", {"a": {"base_url": '"http://me:hunter2@h/v1"'}}, "holds more than an address"),
        ("", {"a": {"base_url": '"http://h/v1?key=hunter2"'}}, "holds more than an address"),
        ("", {"a": {"api_key_env": '"hunter2-secret"'}}, "api_key_env is no name"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_file_and_key(zoo, serve, changes, said):
    path = zoo(serve, **changes)
    with pytest.raises(SatjaxError) as error:
        read_zoo_file(path)
    message = str(error.value)
    assert str(path) in message
    assert said in message
    assert "\n" not in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no candidate"),
        ("candidates = 1", "names no candidate"),
        ("candidates.a = 1", "candidates.a is no table"),
        ("[zoo]", "unknown key"),
        ("[small]\ncandidates = ['a', 'b']", "holds named sets of candidates, which is for --zoos; give"),
        ("[all]\nincludes = ['small']", "holds named sets of candidates, which is for --zoos; give"),
        ("serve = 1\n[candidates.a]", "serve is no table"),
        ("[candidates.a]", "missing"),
        ("[candidates.satjax]", "cannot be a candidate's name"),
        ("[[", "cannot be read"),
        ("a = " + "[" * 5000, "cannot be read"),
    ],
)
def test_what_is_no_zoo_file(tmp_path, text, said):
    path = tmp_path / "zoo.toml"
    path.write_text(text)
    with pytest.raises(SatjaxError, match=said) as error:
        read_zoo_file(path)
    assert str(path) in str(error.value)


def test_files_that_are_not_there_or_no_text(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SatjaxError, match="cannot be read"):
            read_zoo_file(path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SatjaxError, match="cannot be read"):
        read_zoo_file(tmp_path / "bytes.toml")


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    path = tmp_path / "zoo.toml"
    path.write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert read_zoo_file(path) == read_zoo_file(EXAMPLE)


json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)
KEYS = (
    "base_url",
    "model",
    "usd_per_million_input_tokens",
    "usd_per_million_output_tokens",
    "context_tokens",
    "tools",
    "api_key_env",
    "profile",
)
VALUES = ("http://localhost:1/v1", "m", 1.0, 1.0, 100, True, "KEY", "p.json")


@given(
    st.text(max_size=10),
    st.dictionaries(st.sampled_from(KEYS), json, max_size=3),
    st.dictionaries(st.text(max_size=5), json, max_size=1),
)
def test_any_table_is_a_candidate_or_one_clear_error(name, changes, more):
    table = {**dict(zip(KEYS, VALUES, strict=True)), **changes, **more}
    try:
        candidate = read_candidate(name, table, "zoo.toml")
    except SatjaxError as error:
        assert "zoo.toml" in str(error)  # noqa: PT017
    else:
        assert candidate.name == name
        assert not set(more) - set(KEYS)
