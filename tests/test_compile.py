import importlib.util
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from satjax.config import MeshConfig
from satjax.errors import SatjaxError
from satjax.preflight.chips import topology
from satjax.preflight.compile import NotCompiled, compile_step, open_topology
from satjax.sharding import make_mesh
from satjax.training.device_memory import explain_full_memory


def lowered(mesh):
    x = jax.ShapeDtypeStruct((64, 32), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("fsdp")))
    return {"x": x}, jax.jit(lambda x: x @ x.T, donate_argnums=0).lower(x)


def test_memory_of_one_chip():
    params, step = lowered(make_mesh(MeshConfig(1, 8, 1), jax.devices()[:8]))
    program = compile_step(step, params, ["x"])
    assert program.memory.fits
    assert program.memory.parameters == 64 * 32 * 4 // 8
    assert program.memory.optimizer == 2 * program.memory.parameters
    assert program.memory.inputs == program.memory.parameters + program.memory.optimizer
    assert program.memory.total >= 64 * 64 * 4 // 8
    assert program.work.flops == 2 * 64 * 64 * 32 / 8


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "Ran out of memory on HBM, the total memory required for HLO temporaries (28.50G) exceeds available HBM (15.75G).",
            28.5,
        ),
        ("Ran out of memory in memory space hbm. Used 18.25G of 15.75G hbm. Exceeded hbm capacity by 2.5G.", 18.25),
    ],
)
def test_what_does_not_fit_is_no_error(message, needed):
    params, _ = lowered(make_mesh(MeshConfig(1, 8, 1), jax.devices()[:8]))

    def give_up():
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}")

    program = compile_step(SimpleNamespace(compile=give_up), params)
    assert program.work is None
    assert not program.memory.fits
    assert program.memory.total == needed * 2**30, "what the compiler counts has the arguments in it"
    assert program.memory.activations == program.memory.total - program.memory.inputs
    assert program.memory.inputs == program.memory.parameters > 0


VECTOR_MEMORY = (
    "Ran out of memory in memory space vmem while allocating on stack for %splash. Scoped allocation with size 17.41M and limit 16.00M exceeded "
    "scoped vmem limit by 1.41M.",
    "XLA:TPU compile permanent error. Ran out of memory in memory space vmem. Used 130.21M of 128.00M vmem. Exceeded vmem capacity by 2.21M.",
)


@pytest.mark.parametrize("message", VECTOR_MEMORY)
def test_vector_memory_is_no_hbm(message):
    params, _ = lowered(make_mesh(MeshConfig(1, 8, 1), jax.devices()[:8]))

    def give_up():
        raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {message}\nmore")

    with pytest.raises(NotCompiled, match=r"want of vector memory .*: set router\.attention to 'xla'") as raised:
        compile_step(SimpleNamespace(compile=give_up), params)
    assert "\n" not in str(raised.value)
    line = r"^a step does not fit in memory .*: set router\.attention to 'xla'"
    with pytest.raises(SatjaxError, match=line), explain_full_memory("a step", "lower it"):
        give_up()


def test_what_a_step_does_not_read_lies_on_the_chip_too():
    params, step = lowered(make_mesh(MeshConfig(1, 8, 1), jax.devices()[:8]))
    unread = {"frozen": jax.ShapeDtypeStruct((1024, 1024), jnp.float32, sharding=params["x"].sharding)}
    alone, beside = compile_step(step, params).memory, compile_step(step, {**params, **unread}).memory
    assert beside.parameters == alone.parameters + 2**22 / 8
    assert beside.total - beside.inputs == alone.total - alone.inputs
    assert beside.inputs == beside.parameters


def test_without_libtpu_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SatjaxError, match=r"pip install -e '\.\[preflight\]' in the checkout"):
        open_topology(topology("v5e:2x2"))
