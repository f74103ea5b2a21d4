"""Published figures of TPU chips, and the slices of them that can be asked for."""

import math
from dataclasses import dataclass

from satjax.errors import SatjaxError, unknown_name


@dataclass(frozen=True)
class Chip:
    """One chip: peak bfloat16 FLOP/s, HBM bytes and bytes/s, and bytes/s of one link to a neighbour in one direction.

    A slice's axis closes to a ring from `ring` chips on, in multiples of that; shorter ones are lines. `options` are what libtpu wants to hear to
    show one device per chip.
    """

    name: str
    flops: float
    hbm: int
    hbm_bandwidth: float
    link_bandwidth: float
    ring: int
    slices: tuple[str, ...]
    source: str
    options: tuple[tuple[str, str], ...] = ()


GIB = 2**30
FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")

# Link bandwidths: the pages give both directions of all of a chip's links together (v5e 400 GB/s over 4, v5p 1,200 over 6, v6e 800 over 4); v4's page
# gives none, its figure and all rings are of https://jax-ml.github.io/scaling-book/tpus/.
CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            "v4",
            275e12,
            32 * GIB,
            1200e9,
            45e9,
            4,
            CUBES,
            "https://docs.cloud.google.com/tpu/docs/v4",
            (("chip_config_name", "megacore"),),
        ),
        Chip("v5e", 197e12, 16 * GIB, 819e9, 50e9, 16, FLAT, "https://docs.cloud.google.com/tpu/docs/v5e"),
        Chip("v5p", 459e12, 95 * GIB, 2765e9, 100e9, 4, CUBES, "https://docs.cloud.google.com/tpu/docs/v5p"),
        Chip("v6e", 918e12, 32 * GIB, 1600e9, 100e9, 16, FLAT, "https://docs.cloud.google.com/tpu/docs/v6e"),
    )
}


@dataclass(frozen=True)
class Topology:
    """A slice: a chip, and how many of it along each axis."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """As libtpu and the cloud call it, `v5e:16x16`."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def num_chips(self) -> int:
        """Chips in all."""
        return math.prod(self.shape)


def topology(name: str) -> Topology:
    """The slice of that name; raises SatjaxError, with those that there are, for any other."""
    known = [f"{chip.name}:{shape}" for chip in CHIPS.values() for shape in chip.slices]
    if name not in known:
        raise SatjaxError(f"{unknown_name('topology', name, known)} Known are {', '.join(known)}")
    chip, _, shape = name.partition(":")
    return Topology(CHIPS[chip], tuple(map(int, shape.split("x"))))


def slice_of(chip: Chip, num_chips: int) -> Topology | None:
    """The slice of so many chips that is nearest to a square or cube, if there is one."""
    fitting = [topology(f"{chip.name}:{shape}") for shape in chip.slices]
    fitting = [found for found in fitting if found.num_chips == num_chips]
    return min(fitting, key=lambda found: max(found.shape), default=None)
