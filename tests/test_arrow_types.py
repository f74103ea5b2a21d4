"""Text is text however it is stored, and bytes and lists of texts are none."""

import pyarrow as pa
import pytest

from satjax.outcomes.arrow_types import is_text, value_type


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_text_is_found_also_in_a_dictionary(kind):
    in_dictionary = pa.dictionary(pa.int8(), kind)
    assert is_text(kind)
    assert is_text(in_dictionary)
    assert value_type(kind) == value_type(in_dictionary) == kind


@pytest.mark.parametrize(
    "kind",
    [pa.int64(), pa.null(), pa.binary(), pa.list_(pa.string()), pa.dictionary(pa.int8(), pa.int64())],
    ids=str,
)
def test_anything_else_is_no_text(kind):
    assert not is_text(kind)
