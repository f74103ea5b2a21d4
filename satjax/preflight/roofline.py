"""From what a compiled step does to how long it takes at least, by the chip's published figures."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from satjax.preflight.chips import Topology
from satjax.preflight.work import Collective, Work


@dataclass(frozen=True)
class Roofline:
    """Least seconds of one step: products at peak rate, HBM traffic, and collectives that hide behind products or do not.

    `step` is the largest of the first three, which overlap, and what is exposed after them. Nothing is derated: real steps take longer.
    """

    compute: float
    hbm: float
    ici_hidden: float
    ici_exposed: float

    @property
    def step(self) -> float:
        """Seconds of the whole step."""
        return max(self.compute, self.hbm, self.ici_hidden) + self.ici_exposed

    @property
    def bound(self) -> str:
        """What takes longest."""
        parts = {"compute": self.compute, "HBM": self.hbm, "ICI": self.ici_hidden + self.ici_exposed}
        return max(parts, key=parts.__getitem__)


def roofline(work: Work, topology: Topology, coords: Sequence[Sequence[int]]) -> Roofline:
    """`coords` are the chips' places in the slice, in the order of the mesh."""
    chip = topology.chip
    seconds = [(c, c.count * ici_seconds(c, topology, coords)) for c in work.collectives]
    return Roofline(
        compute=work.flops / chip.flops,
        hbm=work.hbm_bytes / chip.hbm_bandwidth,
        ici_hidden=sum(value for c, value in seconds if c.hidden),
        ici_exposed=sum(value for c, value in seconds if not c.hidden),
    )


def ici_seconds(collective: Collective, topology: Topology, coords: Sequence[Sequence[int]]) -> float:
    """Seconds of one run of a collective whose group uses every link along the slice's axes that it spans.

    Over n chips an all-gather or reduce-scatter moves `(n - 1) / n` of its larger side through every chip, an all-reduce twice that; an
    all-to-all moves data a quarter of a ring on average. (Chan et al. 2007; the JAX scaling book, part 3.)
    """
    n = len(collective.devices)
    if n < 2:
        return 0.0
    places = np.array([coords[device][: len(topology.shape)] for device in collective.devices])
    extent = [len(set(column)) for column in places.T]
    rings = [size >= topology.chip.ring and size == full for size, full in zip(extent, topology.shape, strict=True)]
    links = sum(2 if ring else 1 for ring, size in zip(rings, extent, strict=True) if size > 1)
    bandwidth = max(links, 1) * topology.chip.link_bandwidth
    share = (n - 1) / n
    match collective.kind:
        case "all-reduce":
            moved = 2 * collective.size * share
        case "all-to-all" | "ragged-all-to-all":
            moved = collective.size * max(extent) / 4
        case "collective-permute":
            moved, bandwidth = collective.size, topology.chip.link_bandwidth
        case _:
            moved = collective.size * share
    return moved / bandwidth


def by_kind(collectives: Sequence[Collective]) -> list[dict]:
    """Collectives of one kind, in a loop or not, hidden or not, put together: runs and bytes of one step on one chip."""
    groups: dict[tuple, dict] = {}
    for c in collectives:
        key = (c.kind, c.count > 1, c.hidden, len(c.devices))
        row = groups.setdefault(
            key,
            {
                "kind": c.kind,
                "in_loop": c.count > 1,
                "hidden": c.hidden,
                "chips": len(c.devices),
                "runs": 0,
                "bytes": 0,
            },
        )
        row["runs"] += c.count
        row["bytes"] += c.count * c.size
    return sorted(groups.values(), key=lambda row: -row["bytes"])


def largest(collectives: Sequence[Collective]) -> list[dict]:
    """The twelve collectives that move most, as they stand in the program."""
    ordered = sorted(collectives, key=lambda c: -c.count * c.size)[:12]
    return [{**dataclasses.asdict(c), "devices": len(c.devices)} for c in ordered]
