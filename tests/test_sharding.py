"""The one table of rules: what lies where, on meshes of simulated devices (see conftest)."""

import dataclasses
import re
import threading
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from satjax.config import MeshConfig, ProfileEncoderConfig
from satjax.errors import SatjaxError
from satjax.models.decoder import DecoderConfig
from satjax.models.router_model import RouterModelConfig, abstract_model
from satjax.models.text_encoder import EncoderConfig
from satjax.sharding import (
    LOGICAL_AXES,
    _arranged,
    as_ours,
    check_batch,
    make_mesh,
    on_each_device,
    on_mesh,
    param_shardings,
    param_spec,
    replicated,
    starting,
)

DECODER = DecoderConfig(64, 32, 4, 4, 2, 8, 48, qkv_bias=True, tied_head=False, lora_rank=2, join_layer=2)
MODEL = RouterModelConfig(
    DECODER, EncoderConfig(64, 16, 2, 2, 32), ProfileEncoderConfig(), "instruction_first", "yes_no", 1, 2, (), "float32"
)


def test_every_rule_names_a_parameter_and_every_large_parameter_has_a_rule():
    _, shapes = abstract_model(MODEL)
    for pattern, axes in LOGICAL_AXES:
        matched = [path for path in shapes if re.fullmatch(pattern, path)]
        assert matched, pattern
        assert all(len(shapes[path].shape) == len(axes) for path in matched), pattern
    ruled = {path for path in shapes for pattern, _ in LOGICAL_AXES if re.fullmatch(pattern, path)}
    assert not [path for path in shapes if path.startswith("llm") and path.endswith("kernel") and path not in ruled]


def test_kernels_are_cut_along_their_axes():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    assert param_spec("llm/upper/mlp/up/kernel", (2, 32, 48), mesh) == PartitionSpec(None, "fsdp", "tensor")
    assert param_spec("llm/upper/attention/o/kernel", (2, 32, 32), mesh) == PartitionSpec(None, "tensor", "fsdp")
    assert param_spec("connector/project/kernel", (32, 32), mesh) == PartitionSpec()


def test_an_axis_that_does_not_divide_is_replicated():
    mesh = make_mesh(MeshConfig(1, 1, 8))
    assert param_spec("llm/upper/attention/k/kernel", (2, 32, 12), mesh) == PartitionSpec(None, "fsdp", None)


def test_all_parameters_get_a_sharding_that_fits():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    _, shapes = abstract_model(MODEL)
    for path, sharding in param_shardings(shapes, mesh).items():
        sharding.shard_shape(shapes[path].shape)


@pytest.mark.parametrize(
    "config", [MeshConfig(3, 1, 1), MeshConfig(-1, -1, 1), MeshConfig(0, 1, 1), MeshConfig(-1, 3, 1)]
)
def test_a_mesh_that_does_not_fill_the_devices_is_refused(config):
    with pytest.raises(SatjaxError, match="mesh"):
        make_mesh(config, jax.devices()[:8])


@dataclass(frozen=True)
class Chip:
    """What jax asks of a TPU chip, to find its place."""

    id: int
    slice_index: int
    coords: tuple[int, int, int]
    process_index: int = 0
    core_on_chip: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v4"


def chips(num_slices: int) -> list[Chip]:
    places = [(x, y, 0) for y in range(2) for x in range(2)]
    return [Chip(4 * s + i, s, place) for s in range(num_slices) for i, place in enumerate(places)]


@pytest.mark.parametrize(
    ("shape", "sliced"),
    [([2, 4, 1], lambda grid: grid), ([2, 2, 2], lambda grid: grid), ([1, 8, 1], lambda grid: grid.reshape(2, 4))],
    ids=("data", "data beside tensor", "fsdp"),
)
def test_slices_lie_along_one_axis(shape, sliced):
    grid = np.vectorize(lambda chip: chip.slice_index)(_arranged(shape, chips(2)))
    assert grid.shape == tuple(shape)
    np.testing.assert_array_equal(sliced(grid)[0], 0)
    np.testing.assert_array_equal(sliced(grid)[1], 1)


def test_slices_that_no_axis_takes_are_refused():
    with pytest.raises(SatjaxError, match="2 slices have to divide data or fsdp"):
        _arranged([1, 1, 8], chips(2))


def test_a_batch_that_does_not_divide_the_mesh_is_refused():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    check_batch(8, mesh, "batch")
    with pytest.raises(SatjaxError, match="multiple of 4"):
        check_batch(6, mesh, "batch")


@pytest.mark.parametrize(
    ("sizes", "found"), [((4, 4, 2), (1, 2, 1)), ((4, 4, 1), (1, 4, 1)), ((3, 2, 2), (3, 1, 1))], ids=str
)
def test_each_device_runs_on_its_own_rows_and_heads(sizes, found):
    """Both where they divide; groups of heads that the mesh does not divide stay whole, and the heads with them."""
    rows, heads, groups = sizes
    parts = []

    def run(query, key):
        parts.append((*query.shape, key.shape[1]))
        return query * 2

    query, key = jnp.arange(rows * heads, dtype=jnp.float32).reshape(rows, heads), jnp.ones((rows, groups))
    mesh, axes = make_mesh(MeshConfig(2, 2, 2)), (("batch", "heads"),) * 2

    @partial(jax.jit, in_shardings=replicated(mesh))
    def on(query, key):
        with on_mesh(mesh):
            return on_each_device(run, (query, key), axes)

    np.testing.assert_array_equal(on(query, key), 2 * query)
    np.testing.assert_array_equal(on_each_device(run, (query, key), axes), 2 * query)
    assert parts == [found, sizes]


def test_a_mesh_of_other_axes_is_one_line_that_says_how_to_make_one():
    made = make_mesh(MeshConfig(data=2), jax.devices()[:2])
    assert as_ours(made) == made
    for axes in (("x",), ("batch",), ("data",)):
        with pytest.raises(
            SatjaxError, match=rf"the axes \({axes[0]}\) is none.*data, fsdp, tensor.*make_mesh"
        ) as raised:
            as_ours(jax.make_mesh((2,), axes, devices=jax.devices()[:2]))
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [-1, 1, 2, 3])
@pytest.mark.parametrize("fsdp", [1, 3, 5, 16, -1])
@pytest.mark.parametrize("tensor", [1, 2, 7])
def test_what_is_said_to_fill_the_devices_does(data, fsdp, tensor):
    config = MeshConfig(data, fsdp, tensor)
    if data == fsdp == -1:
        return
    try:
        make_mesh(config)
    except SatjaxError as error:
        flags = re.findall(r"--config\.mesh\.(\w+)=(-?\d+)", str(error))
        assert flags
        make_mesh(dataclasses.replace(config, **{name: int(size) for name, size in flags}))


def test_the_nearest_size_is_said():
    with pytest.raises(SatjaxError, match=r"\(-1, 16, 1\) does not fill 8 devices; .* such as --config\.mesh\.fsdp=8$"):
        make_mesh(MeshConfig(-1, 16, 1))
    with pytest.raises(
        SatjaxError, match=r"such as --config\.mesh\.data=-1 --config\.mesh\.fsdp=8 --config\.mesh\.tensor=1$"
    ):
        make_mesh(MeshConfig(3, 3, 3))


def test_programs_of_several_devices_are_started_one_at_a_time():
    order: list[str] = []

    def start(mesh):
        with starting(mesh):
            order.append("second")

    for mesh, expected in ((make_mesh(MeshConfig(8, 1, 1)), ["first", "second"]), (None, ["second", "first"])):
        order.clear()
        other = threading.Thread(target=start, args=(mesh,))
        with starting(mesh):
            other.start()
            other.join(0.3 if mesh else None)
            order.append("first")
        other.join()
        assert order == expected
