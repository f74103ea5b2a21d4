"""What preflight makes of single figures; that it compiles is tested by `make slow` (`test_preflight.py`)."""

import dataclasses

import jax
import pytest
from jax.sharding import AbstractMesh

from satjax.config import MeshConfig
from satjax.errors import SatjaxError
from satjax.preflight import check
from satjax.preflight.check import mesh_shapes, scaled_mesh, suggestion, with_efficiency
from satjax.sharding import AXES
from tests.phi import small_plan


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
        config, "v5e:8x8", scaling=True, on_progress=lambda what, done, total: heard.append((done, total))
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
