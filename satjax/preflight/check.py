"""Whether a config fits a TPU slice, how fast it would run, and on which mesh: everything that `satjax preflight` says."""

import dataclasses
from typing import Any

from jax.sharding import Mesh

from satjax.config import MeshConfig, TrainConfig
from satjax.errors import SatjaxError
from satjax.preflight.chips import Topology, slice_of, topology
from satjax.preflight.compile import CompiledStep, NotCompiled, compile_step, open_topology
from satjax.preflight.model_flops import rank_flops, train_flops
from satjax.preflight.roofline import by_kind, largest, roofline
from satjax.preflight.steps import (
    Plan,
    abstract_params,
    lower_rank_step,
    lower_train_step,
    make_plan,
    rank_rows,
    rank_sets,
    with_rows,
    zoo_sets,
)
from satjax.progress import Steps, unheard
from satjax.sharding import as_satjax_computes, batch_shards, make_mesh
from satjax.training.train_step import rows_of_a_pass

ROWS_PER_CHIP = (1, 2, 4)
"""Instructions of one pass on one chip that a sweep tries."""
SCALES = (4, 16, 64, 256)
"""Chips of the weak-scaling curve."""


@as_satjax_computes()
def preflight(
    config: TrainConfig,
    topology_name: str,
    *,
    num_candidates: int,
    sweep: bool = False,
    scaling: bool = False,
    on_progress: Steps = unheard,
) -> dict[str, Any]:
    """Figures of the train step and the rank step on a slice such as `v5e:16x16`; with `sweep` also of the train step on other meshes with
    other batches, and which of them is best; with `scaling` on slices of other sizes with the same rows on each chip.

    Everything is of one chip and one step for a batch of the longest bucket. `num_candidates` are the training candidates that the data would
    have. Raises SatjaxError for an unknown slice, a config that does not fit its mesh, a kernel of its own step that does not fit a chip, or where
    libtpu is missing.
    """
    where = topology(topology_name)
    devices = open_topology(where)
    plan = make_plan(config, num_candidates)
    mesh = make_mesh(config.mesh, devices)
    rows_of_a_pass(config.batch, mesh)
    meshes = _other_meshes(plan, where, devices) if sweep else []
    slices = _other_slices(plan, where, mesh) if scaling else []
    done, total = 0, 2 + len(meshes) + sum(one != plan for _, one, _ in slices)

    def counted(figures: dict[str, Any]) -> dict[str, Any]:
        nonlocal done
        done += 1
        on_progress("compiling", done, total)
        return figures

    def compared(one: Plan, part: Topology, other: Mesh) -> dict[str, Any]:
        try:
            found = _short(train_figures(one, part, other), part)
        except NotCompiled as error:
            found = _not_compiled(one, part, other, error)
        return counted(found)

    on_progress("compiling", 0, total)
    train = counted(train_figures(plan, where, mesh))
    rank = counted(rank_figures(plan, where, mesh))
    figures: dict[str, Any] = {
        "topology": where.name,
        "chips": where.num_chips,
        "chip": {
            key: value
            for key, value in dataclasses.asdict(where.chip).items()
            if key not in ("slices", "options", "name")
        },
        "stage": plan.stage.name,
        "bucket": plan.bucket,
        "candidates": plan.candidates,
        "fits": train["memory"]["fits"] and rank["memory"]["fits"],
        "train": train,
        "rank": rank,
    }
    if sweep:
        figures["sweep"] = [compared(one, where, other) for one, other in meshes]
        figures["suggestion"] = suggestion(figures["sweep"])
    if scaling:
        rows = [_short(train, part) if one == plan else compared(one, part, other) for part, one, other in slices]
        figures["scaling"] = with_efficiency(rows)
    return figures


def train_figures(plan: Plan, where: Topology, mesh: Mesh) -> dict[str, Any]:
    """Figures of the train step on one mesh."""
    compiled = compile_step(lower_train_step(plan, mesh), abstract_params(plan, mesh), plan.trained)
    batch = plan.config.batch
    return _figures(compiled, where, mesh, rows_of_a_pass(batch, mesh), batch.accumulate, train_flops(plan))


def rank_figures(plan: Plan, where: Topology, mesh: Mesh) -> dict[str, Any]:
    """Figures of the rank step on one mesh."""
    compiled = compile_step(lower_rank_step(plan, mesh), abstract_params(plan, mesh))
    rows, sets = rank_rows(plan, mesh), rank_sets(plan, mesh)
    figures = _figures(compiled, where, mesh, rows, 1, rank_flops(plan, rows, sets))
    if "rows_per_second" in figures:  # of a zoo that takes the program several times
        figures["rows_per_second"] /= -(-zoo_sets(plan) // sets)
    return figures


def _figures(
    compiled: CompiledStep, where: Topology, mesh: Mesh, rows: int, passes: int, useful: float
) -> dict[str, Any]:
    spare = where.chip.hbm - compiled.memory.total
    memory = dataclasses.asdict(compiled.memory) | {
        "fits": compiled.memory.fits and spare >= 0,
        "hbm": where.chip.hbm,
        "spare": spare,
    }
    figures: dict[str, Any] = {
        "mesh": dict(mesh.shape),
        "rows_per_chip": rows / batch_shards(mesh),
        "passes": passes,
        "memory": memory,
        "compile_seconds": round(compiled.seconds, 1),
    }
    if compiled.work is None:
        return figures
    time = roofline(compiled.work, where, [device.coords for device in mesh.devices.flat])
    return figures | {
        "flops": compiled.work.flops,
        "flops_with_loops_once": compiled.work.flops_once,
        "flops_xla": compiled.xla_flops,
        "model_flops": useful / where.num_chips,
        "hbm_bytes": compiled.work.hbm_bytes,
        "collectives": by_kind(compiled.work.collectives),
        "largest_collectives": largest(compiled.work.collectives),
        "seconds": dataclasses.asdict(time) | {"step": time.step},
        "bound": time.bound,
        "mfu": useful / where.num_chips / where.chip.flops / time.step,
        "rows_per_second": rows * passes / time.step,
    }


def mesh_shapes(num_chips: int) -> list[MeshConfig]:
    """Meshes worth comparing: parameters cut over all chips or 16 of them, each layer's products over 1 or 4."""
    shapes = []
    for tensor in (1, 4):
        for fsdp in sorted({num_chips // tensor, min(16, num_chips // tensor)}):
            if fsdp and num_chips % (fsdp * tensor) == 0:
                shapes.append(MeshConfig(num_chips // (fsdp * tensor), fsdp, tensor))
    return shapes


def _other_meshes(plan: Plan, where: Topology, devices: list[Any]) -> list[tuple[Plan, Mesh]]:
    """Every mesh worth comparing with every batch."""
    meshes = [make_mesh(shape, devices) for shape in mesh_shapes(where.num_chips)]
    return [(with_rows(plan, rows * where.num_chips), mesh) for mesh in meshes for rows in ROWS_PER_CHIP]


def _other_slices(plan: Plan, where: Topology, mesh: Mesh) -> list[tuple[Topology, Plan, Mesh]]:
    """The config's own mesh, and one pass of its batch, on slices of 4 to 256 chips, the slice that was asked for among them; not on those that
    the mesh does not go on.
    """
    per_shard = rows_of_a_pass(plan.config.batch, mesh) // batch_shards(mesh)
    found = []
    for chips in SCALES:
        part = where if chips == where.num_chips else slice_of(where.chip, chips)
        if part is None:
            continue
        try:
            other = mesh if part == where else make_mesh(scaled_mesh(plan.config.mesh, chips), open_topology(part))
        except SatjaxError:
            continue
        found.append((part, with_rows(plan, per_shard * batch_shards(other)), other))
    return found


def with_efficiency(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A weak-scaling curve with each step's time against that of the smallest slice, of 16 chips or more, that the step fits."""
    base = next((row["step_seconds"] for row in rows if row["chips"] >= 16 and row["fits"]), None)
    return [row | {"efficiency": base / row["step_seconds"] if base and row["fits"] else None} for row in rows]


def scaled_mesh(mesh: MeshConfig, chips: int) -> MeshConfig:
    """The config's mesh on another number of chips: what is left goes to the axis that takes it, or to `data`; `fsdp` gives way first."""
    if chips % mesh.tensor:
        raise SatjaxError(f"config mesh.tensor = {mesh.tensor} does not divide {chips} chips; choose another")
    rest = chips // mesh.tensor
    if mesh.fsdp == -1:
        return mesh
    fsdp = min(mesh.fsdp, rest)
    return MeshConfig(rest // fsdp, fsdp, mesh.tensor)


def _short(figures: dict[str, Any], where: Topology) -> dict[str, Any]:
    short = {
        "topology": where.name,
        "chips": where.num_chips,
        "mesh": figures["mesh"],
        "rows_per_chip": figures["rows_per_chip"],
        "total_bytes": figures["memory"]["total"],
        "fits": figures["memory"]["fits"],
        "compile_seconds": figures["compile_seconds"],
    }
    if figures["memory"]["fits"]:
        short |= {
            "step_seconds": figures["seconds"]["step"],
            "seconds": figures["seconds"],
            "bound": figures["bound"],
            "mfu": figures["mfu"],
            "rows_per_second": figures["rows_per_second"],
        }
    return short


def _not_compiled(plan: Plan, where: Topology, mesh: Mesh, error: NotCompiled) -> dict[str, Any]:
    """The row of a comparison that has no figures."""
    return {
        "topology": where.name,
        "chips": where.num_chips,
        "mesh": dict(mesh.shape),
        "rows_per_chip": rows_of_a_pass(plan.config.batch, mesh) / batch_shards(mesh),
        "total_bytes": None,
        "fits": False,
        "error": str(error),
    }


def suggestion(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The mesh and batch of a sweep that does most instructions a second; None where nothing fits."""
    return max((row for row in rows if row["fits"]), key=lambda row: row["rows_per_second"], default=None)
