import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.outcomes import guarded
from satjax.outcomes.guarded import DEEPEST, Guarded, check_values

VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\\\[]{},é', max_size=8),
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
