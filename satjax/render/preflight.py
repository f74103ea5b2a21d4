"""What would come of a slice: memory, time and collectives."""

from typing import Any

from rich.text import Text

from satjax.render.console import open_console, percent, plain_table

SECONDS = {"compute": "compute", "hbm": "HBM", "ici_hidden": "hidden collectives", "ici_exposed": "exposed collectives"}
SHOWN = 2**20
"""Collectives that move less in a step are left to the JSON."""


def preflight_tables(figures: dict[str, Any]) -> None:
    """Whether a slice does, and how fast: memory, time and collectives of both steps; meshes, batches and slices where they were compared."""
    console = open_console()
    console.print(
        f"{figures['topology']}: {figures['chips']} chips, stage {figures['stage']!r}, "
        f"{figures['bucket']} tokens, {figures['candidates']} candidates; meshes are data x fsdp x tensor, figures are of one chip and one step"
    )
    for name in ("train", "rank"):
        found, memory = figures[name], figures[name]["memory"]
        verdict = f"fits, {_gib(memory['spare'])} to spare" if memory["fits"] else "does not fit"
        console.print(
            Text(f"{name} step, mesh {_mesh(found)}: {verdict}", style="bold" if memory["fits"] else "bold red")
        )
        table = plain_table(show_header=False)
        for label in ("parameters", "optimizer", "activations", "total", "hbm"):
            table.add_row(label if label != "hbm" else "HBM of the chip", _gib(memory[label]))
        if memory["fits"]:
            seconds = found["seconds"]
            table.add_row("FLOPs", f"{found['flops']:.3e}, of that the model's {found['model_flops']:.3e}")
            table.add_row("HBM traffic", _gib(found["hbm_bytes"]))
            parts = ", ".join(f"{label} {1000 * seconds[key]:.1f}" for key, label in SECONDS.items())
            table.add_row("least time", f"{1000 * seconds['step']:.1f} ms ({parts}), bound by {found['bound']}")
            table.add_row("predicted MFU", percent(found["mfu"]))
            for row in (row for row in found["collectives"] if row["bytes"] >= SHOWN):
                where = ("in a loop" if row["in_loop"] else "once") + (", hidden" if row["hidden"] else ", exposed")
                table.add_row(
                    row["kind"], f"{_gib(row['bytes'])} in {row['runs']} runs over {row['chips']} chips, {where}"
                )
        console.print(table)
    for title in ("sweep", "scaling"):
        if title not in figures:
            console.print(f"--{title} compares more", style="dim")
            continue
        table = plain_table()
        for column in (title, "mesh", "rows", "memory", "least ms", "MFU", "efficiency"):
            table.add_column(column)
        for row in figures[title]:
            compiled = row["total_bytes"] is not None
            verdict = "does not fit" if compiled else "not compiled: vector memory"
            speed = (f"{1000 * row['step_seconds']:.1f}", percent(row["mfu"])) if row["fits"] else (verdict, "")
            efficiency = row.get("efficiency")
            last = "" if efficiency is None else f"{efficiency:.3f}"
            memory = _gib(row["total_bytes"]) if compiled else ""
            table.add_row(row["topology"], _mesh(row), f"{row['rows_per_chip']:g}", memory, *speed, last)
        console.print(table)
        if error := next((row["error"] for row in figures[title] if "error" in row), None):
            console.print(Text(error))
    if "sweep" in figures:
        best = figures["suggestion"]
        console.print(
            f"suggested mesh: {_mesh(best)}, {best['rows_per_chip']:g} rows on a chip" if best else "no mesh fits"
        )


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB" if size == 0 or size >= 2**30 / 100 else f"{size / 2**20:.1f} MiB"


def _mesh(figures: dict[str, Any]) -> str:
    return "x".join(map(str, figures["mesh"].values()))
