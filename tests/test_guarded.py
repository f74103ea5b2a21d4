import io
import json

import ijson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.outcomes.importers import guarded
from satjax.outcomes.importers.guarded import DEEPEST, Guarded, check_values

VALUES = st.recursive(
    st.none() | st.integers(1 - 10**18, 10**18 - 1) | st.text(alphabet='a"\\\\[]{},é', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='a"\\\\[', max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict | list):
        return 1 + max(map(depth_of, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@given(VALUES, st.integers(1, 7))
@settings(database=None, max_examples=100)
def test_it_reads_what_is_there_and_knows_how_deep_it_is_however_it_is_cut(value, size):
    content = json.dumps(value, ensure_ascii=False).encode()
    for limit in (depth_of(value), depth_of(value) - 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(guarded, "DEEPEST", limit)
            stream = Guarded(io.BytesIO(content))
            read = lambda stream=stream: b"".join(iter(lambda: stream.read(size), b""))  # noqa: E731
            if limit < 0 or limit == depth_of(value):
                if limit >= 0:
                    assert read() == content
            else:
                with pytest.raises(ValueError, match="deep"):
                    read()


ODD = [float("nan"), float("inf"), -float("inf"), 2**63, -(2**70), 10**18]
PLAIN = [7, -0.5, 1e300, 1e-7, True, None, "NaN", "-Infinity 9223372036854775808", '\\"', "\\"]


@given(st.lists(st.sampled_from(ODD + PLAIN), max_size=8), st.integers(1, 40))
@settings(database=None, max_examples=200)
def test_numbers_that_only_python_knows_come_as_texts_however_they_are_cut(values, size):
    content = json.dumps([values, {"x": values}]).encode()
    stream = Guarded(io.BytesIO(content))
    read = b"".join(iter(lambda: stream.read(size), b""))
    expected = [json.dumps(value) if value in ODD[1:] or value != value else value for value in values]
    assert read == json.dumps([expected, {"x": expected}]).encode()
    [found] = ijson.items(Guarded(io.BytesIO(content)), "", use_float=True)
    assert found == [expected, {"x": expected}]


@pytest.mark.parametrize("number", ["0.1234567890123456789012", "12345678901234567890.5", "1234567890123456789e5"])
def test_long_numbers_with_a_point_stay_numbers(number):
    for size in (1, 7, 100):
        stream = Guarded(io.BytesIO(f"[{number}]".encode()))
        assert b"".join(iter(lambda stream=stream, size=size: stream.read(size), b"")).decode() == f"[{number}]"


def test_floats_are_not_looked_at_one_by_one(monkeypatch):
    """What does so takes longer than ijson itself."""
    monkeypatch.setattr(guarded, "_with_texts", lambda *_: pytest.fail("looked at"))
    content = json.dumps([0.0012345678901234567, -1.5e-300, {"x": 0.0012345678901234567}] * 1000).encode()
    stream = Guarded(io.BytesIO(content))
    assert b"".join(iter(lambda: stream.read(2**10), b"")) == content


def test_only_what_one_item_holds_counts(monkeypatch):
    monkeypatch.setattr(guarded, "MOST_VALUES", 10)
    stream = Guarded(io.BytesIO(b"[1,2,3,4]" * 4))
    for _ in range(4):
        assert stream.read(9)
        stream.next_item()
    stream = Guarded(io.BytesIO(b"[1,2,3,4]" * 4))
    with pytest.raises(ValueError, match="more than 268,435,456 bytes or 10 values"):
        [stream.read(9) for _ in range(4)]


def test_an_item_may_have_so_many_bytes(monkeypatch):
    monkeypatch.setattr(guarded, "LARGEST", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        Guarded(io.BytesIO(b'"' + b"x" * 20)).read(20)


def test_values_are_counted_before_they_are_unpacked(monkeypatch):
    monkeypatch.setattr(guarded, "MOST_VALUES", 4)
    check_values(b"[1, 2, 3]")
    check_values(b'["\\frac{1}{2}, {3}, \\"[4]", 5]'.replace(b"\\f", b"\\\\f"))
    with pytest.raises(ValueError, match="or 4 values"):
        check_values(b"[{}, {}, {}]")


def test_python_reads_no_deeper():
    with pytest.raises(RecursionError):
        json.loads("[" * 10 * DEEPEST)
