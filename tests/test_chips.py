import pytest

from satjax.errors import SatjaxError
from satjax.preflight.chips import CHIPS, slice_of, topology


def test_a_slice_by_name():
    found = topology("v5p:4x4x8")
    assert (found.chip.name, found.shape, found.num_chips, found.name) == ("v5p", (4, 4, 8), 128, "v5p:4x4x8")


def test_an_unknown_slice_is_refused_with_those_that_there_are():
    with pytest.raises(SatjaxError, match=r"v5e:16x16.*Known are v4:2x2x1"):
        topology("v5e:16x17")


@pytest.mark.parametrize("name", CHIPS)
def test_every_scale_of_the_curve_has_a_slice(name):
    found = [slice_of(CHIPS[name], chips) for chips in (4, 16, 64, 256)]
    assert [part and part.num_chips for part in found] == [4, 16, 64, 256]


def test_a_scale_without_a_slice_has_none():
    assert slice_of(CHIPS["v5e"], 12) is None
