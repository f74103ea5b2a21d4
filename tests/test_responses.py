"""Responses by the ids of candidates and items, whatever table asks."""

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.outcomes import Responses
from tests.test_table import small

PLACE = np.array([[0, 1, -1], [1, 1, 2]], np.int32)
RESPONSES = Responses(("alpha", "beta"), ("i0", "i1", "i2"), ("yes", "no", ""), PLACE)


def test_places_follow_the_table():
    table = small().select_candidates(["beta", "alpha"]).select_items(np.array([2, 0]))
    np.testing.assert_array_equal(RESPONSES.places(table), [[2, -1], [1, 0]])


def test_pairs_that_are_not_known_have_none():
    fewer = Responses(("beta",), ("i1", "ghost"), ("no",), np.zeros((1, 2), np.int32))
    np.testing.assert_array_equal(fewer.places(small()), [[-1, -1], [-1, 0], [-1, -1]])


@pytest.mark.parametrize(
    ("place", "words"),
    [(PLACE[:1], "int32\\(2, 3\\) is expected"), (PLACE.astype(np.int64), "int64"), (PLACE + 1, "outside the 3 texts")],
)
def test_places_that_do_not_fit(place, words):
    with pytest.raises(SatjaxError, match=words):
        Responses(("alpha", "beta"), ("i0", "i1", "i2"), ("yes", "no", ""), place)
