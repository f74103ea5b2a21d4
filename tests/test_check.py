"""What preflight makes of single figures; that it compiles is tested by `make slow` (`test_preflight.py`)."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from satjax.config import MeshConfig
from satjax.errors import SatjaxError
from satjax.preflight import check
from satjax.preflight.check import mesh_shapes, scaled_mesh, suggestion, with_efficiency
from satjax.preflight.compile import NotCompiled
from satjax.preflight.plot import plot_preflight
from satjax.render.preflight import preflight_tables
from satjax.sharding import AXES
from tests.phi import small_plan

RECORDED = Path(__file__).parents[1] / "benchmarks" / "results" / "preflight_phi35_v5e_16x16.json"


def test_meshes_of_a_sweep_fill_the_slice():
    found = [(shape.data, shape.fsdp, shape.tensor) for shape in mesh_shapes(64)]
    assert found == [(4, 16, 1), (1, 64, 1), (1, 16, 4)]
    assert all(data * fsdp * tensor == 64 for data, fsdp, tensor in found)


def test_efficiency_is_against_the_smallest_slice_from_16_on_that_fits():
    rows = [
        {"chips": 4, "fits": False},
        {"chips": 16, "fits": True, "step_seconds": 1.0},
        {"chips": 64, "fits": True, "step_seconds": 1.25},
    ]
    assert [row["efficiency"] for row in with_efficiency(rows)] == [None, 1.0, 0.8]


def test_the_fastest_that_fits_is_suggested():
    rows = [{"fits": True, "rows_per_second": 5}, {"fits": True, "rows_per_second": 7}, {"fits": False}]
    assert suggestion(rows) is rows[1]
    assert suggestion(rows[2:]) is None


def test_a_mesh_goes_on_smaller_slices_where_it_can():
    assert scaled_mesh(MeshConfig(1, -1, 1), 4) == MeshConfig(1, -1, 1)
    assert scaled_mesh(MeshConfig(-1, 16, 1), 4) == MeshConfig(1, 4, 1)
    assert scaled_mesh(MeshConfig(16, 16, 1), 64) == MeshConfig(4, 16, 1)
    with pytest.raises(SatjaxError, match="8 chips"):
        scaled_mesh(MeshConfig(1, 1, 3), 8)


class Stub:
    """Preflight of the small plan on chips that are not there: meshes have no devices, and nothing is compiled."""

    def __init__(self, monkeypatch, mesh, **batch):
        plan = small_plan(monkeypatch)
        batch = dataclasses.replace(plan.config.batch, **batch)
        self.plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, batch=batch, mesh=mesh))
        self.compiled = []
        monkeypatch.setattr(check, "make_plan", lambda config, num_candidates: self.plan)
        monkeypatch.setattr(check, "open_topology", lambda where: [jax.devices()[0]] * where.num_chips)
        monkeypatch.setattr("satjax.sharding._arranged", lambda shape, devices: np.resize(devices, shape))
        monkeypatch.setattr("satjax.sharding.Mesh", lambda devices, axes, **_: AbstractMesh(devices.shape, axes))
        monkeypatch.setattr(check, "train_figures", self.figures)
        monkeypatch.setattr(check, "rank_figures", self.figures)

    def figures(self, plan, where, mesh):
        self.compiled.append((where.num_chips, tuple(mesh.shape.values())))
        rest = dict.fromkeys(("rows_per_chip", "compile_seconds", "bound", "mfu", "rows_per_second"), 1)
        return {**rest, "mesh": dict(mesh.shape), "memory": {"total": 1, "fits": True}, "seconds": {"step": 1.0}}

    def preflight(self, **named):
        return check.preflight(self.plan.config, "v5e:16x16", num_candidates=25, **named)


@pytest.mark.parametrize("named", [{}, {"scaling": True}, {"sweep": True}])
def test_a_mesh_that_does_not_divide_the_batch_is_said_before_anything_is_compiled(named, monkeypatch):
    stub = Stub(monkeypatch, MeshConfig(-1, 1, 1), groups=1, instructions=8)
    with pytest.raises(
        SatjaxError, match=r"1 groups x 8 instructions has 8 rows, which .* 256 of the mesh do not divide"
    ):
        stub.preflight(**named)
    assert not stub.compiled


@pytest.mark.parametrize(
    ("mesh", "chips"), [(MeshConfig(-1, 16, 8), [16, 64, 256]), (MeshConfig(8, -1, 1), [16, 64, 256])]
)
def test_slices_that_the_mesh_does_not_go_on_are_left_out(mesh, chips, monkeypatch):
    stub = Stub(monkeypatch, mesh, groups=32, instructions=8)
    assert [row["chips"] for row in stub.preflight(scaling=True)["scaling"]] == chips


def test_a_step_that_is_not_compiled_is_one_row_of_what_is_compared(monkeypatch, capsys, tmp_path):
    stub = Stub(monkeypatch, MeshConfig(-1, 16, 1), groups=32, instructions=8)
    figures = stub.figures

    def some(plan, where, mesh):
        if where.num_chips == 64 or mesh.shape["tensor"] == 4:
            raise NotCompiled("a step is not compiled")
        return figures(plan, where, mesh)

    monkeypatch.setattr(check, "train_figures", some)
    heard = []
    found = stub.preflight(sweep=True, scaling=True, on_progress=lambda what, done, total: heard.append((done, total)))
    assert [(row["chips"], row["fits"], row["efficiency"]) for row in found["scaling"]] == [
        (4, True, 1.0),
        (16, True, 1.0),
        (64, False, None),
        (256, True, 1.0),
    ]
    failed = [row for row in found["sweep"] if not row["fits"]]
    assert {(row["mesh"]["tensor"], row["error"]) for row in failed} == {(4, "a step is not compiled")}
    assert [row["rows_per_chip"] for row in failed][:3] == [4, 8, 16]
    assert found["suggestion"]["fits"]
    assert heard[-1][0] == heard[-1][1]
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    shown = {**recorded, "sweep": [*recorded["sweep"], failed[0]], "scaling": found["scaling"][2:3]}
    monkeypatch.setenv("COLUMNS", "200")
    preflight_tables(shown)
    said = capsys.readouterr().out
    assert said.count("not compiled: vector memory") == said.count("a step is not compiled") == 2
    plot_preflight(shown, tmp_path / "figures.png")
    monkeypatch.setattr(
        check, "train_figures", lambda *arguments: some(arguments[0], SimpleNamespace(num_chips=64), None)
    )
    with pytest.raises(NotCompiled):
        stub.preflight()


@pytest.mark.parametrize("passes", [1, 4])
def test_slices_of_a_curve_take_the_same_step(passes, monkeypatch):
    """One pass on each: a step of several passes on the slice that was asked for would look slower than all others."""
    plan = small_plan(monkeypatch)
    batch = dataclasses.replace(plan.config.batch, groups=16 * passes, instructions=8, accumulate=passes)
    config = dataclasses.replace(plan.config, batch=batch, mesh=MeshConfig(-1, 1, 1))
    plan = dataclasses.replace(plan, config=config)
    compiled = []

    def figures(plan, where, mesh):
        compiled.append((where.num_chips, plan.config.batch.accumulate))
        seconds = {"step": 1.0 * plan.config.batch.accumulate}
        rest = dict.fromkeys(("mesh", "rows_per_chip", "compile_seconds", "bound", "mfu", "rows_per_second"), 1)
        return {**rest, "memory": {"total": 1, "fits": True}, "seconds": seconds}

    monkeypatch.setattr(check, "make_plan", lambda config, num_candidates: plan)
    monkeypatch.setattr(check, "open_topology", lambda where: [jax.devices()[0]] * where.num_chips)
    monkeypatch.setattr(check, "make_mesh", lambda shape, devices: AbstractMesh((len(devices), 1, 1), AXES))
    monkeypatch.setattr(check, "train_figures", figures)
    monkeypatch.setattr(check, "rank_figures", figures)
    heard = []
    found = check.preflight(
        config,
        "v5e:8x8",
        num_candidates=25,
        scaling=True,
        on_progress=lambda what, done, total: heard.append((done, total)),
    )
    assert [(row["chips"], row["efficiency"]) for row in found["scaling"]] == [
        (4, 1.0),
        (16, 1.0),
        (64, 1.0),
        (256, 1.0),
    ]
    assert found["train"]["seconds"]["step"] == passes
    assert heard[-1] == (len(compiled), len(compiled))
    assert len(compiled) == (5 if passes == 1 else 6)
