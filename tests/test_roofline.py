import itertools

import pytest

from satjax.preflight.chips import topology
from satjax.preflight.roofline import by_kind, ici_seconds, roofline
from satjax.preflight.work import Collective, Work

POD = topology("v5e:16x16")
COORDS = [(x, y, 0) for x, y in itertools.product(range(16), range(16))]


def collective(kind, size, devices, count=1, hidden=False):
    return Collective(kind, size, count, tuple(devices), hidden, "", "")


@pytest.mark.parametrize(
    ("kind", "devices", "seconds"),
    [
        ("all-gather", range(256), 1e9 * 255 / 256 / 200e9),  # both rings of the torus, both ways
        ("reduce-scatter", range(16), 1e9 * 15 / 16 / 100e9),  # one ring
        ("all-reduce", range(16), 2e9 * 15 / 16 / 100e9),
        ("all-gather", range(4), 1e9 * 3 / 4 / 50e9),  # a part of a ring is a line
        ("collective-permute", range(2), 1e9 / 50e9),
        ("all-gather", range(1), 0.0),
    ],
)
def test_a_collective_takes_as_long_as_its_links_need(kind, devices, seconds):
    assert ici_seconds(collective(kind, 10**9, devices), POD, COORDS) == pytest.approx(seconds)


def test_short_axes_do_not_close():
    small = topology("v5e:4x4")
    coords = [(x, y, 0) for x, y in itertools.product(range(4), range(4))]
    assert ici_seconds(collective("all-gather", 10**9, range(16)), small, coords) == pytest.approx(
        1e9 * 15 / 16 / 100e9
    )


def test_what_is_exposed_comes_on_top_of_the_longest():
    collectives = (
        collective("all-gather", 10**9, range(256), 2, hidden=True),
        collective("all-reduce", 10**8, range(256)),
    )
    time = roofline(Work(197e12, 819e8, collectives, 0.0), POD, COORDS)
    assert (time.compute, time.hbm) == (1.0, pytest.approx(0.1))
    assert time.step == pytest.approx(1.0 + 2e8 * 255 / 256 / 200e9)
    assert time.bound == "compute"


def test_collectives_are_put_together_by_kind_and_place():
    rows = by_kind(
        [
            collective("all-gather", 5, range(4), 3),
            collective("all-gather", 7, range(4), 3),
            collective("all-gather", 1, range(4)),
        ]
    )
    assert [(row["in_loop"], row["runs"], row["bytes"]) for row in rows] == [(True, 6, 36), (False, 1, 1)]
