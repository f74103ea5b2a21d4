"""What preflight makes of single figures; that it compiles is tested by `make slow` (`test_preflight.py`)."""

import pytest

from satjax.config import MeshConfig
from satjax.errors import SatjaxError
from satjax.preflight.check import mesh_shapes, scaled_mesh, suggestion, with_efficiency


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
