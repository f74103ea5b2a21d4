"""Pictures of what preflight compared."""

from pathlib import Path
from typing import Any


def plot_preflight(figures: dict[str, Any], target: Path) -> None:
    """What was compared: throughput and memory of every mesh and batch of a sweep, the weak-scaling curve, or both: a PNG at `target`."""
    from matplotlib.figure import Figure

    panels = 2 * ("sweep" in figures) + ("scaling" in figures)
    figure = Figure(figsize=(1 + 4 * panels, 4), dpi=120, layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    if "sweep" in figures:
        _plot_sweep(figures, axes[0], axes[1])
    if "scaling" in figures:
        _plot_scaling(figures["scaling"], axes[-1])
    for each in axes:
        each.grid(alpha=0.3)
    figure.savefig(target)


def _plot_sweep(figures: dict[str, Any], speed: Any, memory: Any) -> None:
    meshes: dict[str, list[dict]] = {}
    for row in figures["sweep"]:
        meshes.setdefault(" x ".join(map(str, row["mesh"].values())), []).append(row)
    for name, rows in meshes.items():
        fitting = [row for row in rows if row["fits"]]
        per_chip = [row["rows_per_second"] / figures["chips"] for row in fitting]
        speed.plot([row["rows_per_chip"] for row in fitting], per_chip, marker="o", label=name)
        sized = [row for row in rows if row["total_bytes"] is not None]
        gib = [row["total_bytes"] / 2**30 for row in sized]
        memory.plot([row["rows_per_chip"] for row in sized], gib, marker="o", label=name)
    memory.axhline(figures["chip"]["hbm"] / 2**30, color="black", linewidth=0.8, linestyle="--")
    speed.set(xlabel="rows of a chip", ylabel="instructions/s of a chip, at most", title=figures["topology"])
    memory.set(xlabel="rows of a chip", ylabel="GiB of a chip", title="memory (dashed: the chip's)")
    speed.legend(title="data x fsdp x tensor", fontsize=8)


def _plot_scaling(rows: list[dict[str, Any]], axes: Any) -> None:
    known = [row for row in rows if row["efficiency"] is not None]
    chips, efficiency = [row["chips"] for row in known], [row["efficiency"] for row in known]
    axes.plot(chips, efficiency, marker="o")
    axes.set(xlabel="chips", ylabel="efficiency", title="predicted weak scaling", xscale="log")
    axes.set_ylim(0, 1.1 * max([1.0, *efficiency]))
    axes.set_xticks(chips, labels=list(map(str, chips)))
    axes.minorticks_off()
