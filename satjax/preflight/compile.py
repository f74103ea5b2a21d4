"""Ahead-of-time compilation for a TPU slice on a machine without one, by libtpu."""

import importlib.util
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from satjax.errors import SatjaxError, how_to_install
from satjax.preflight.chips import GIB, Topology
from satjax.preflight.work import Work, read_work
from satjax.training.device_memory import OTHER_KERNEL, lacks_vector_memory

# libtpu looks for the machine that it would run on; these are its answers, so that it neither asks the network nor complains, nor wants to be
# the only process here that has it open.
ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_MIN_LOG_LEVEL": "4",
    "TPU_STDERR_LOG_LEVEL": "4",
}


@dataclass(frozen=True)
class Memory:
    """Bytes on one chip: what comes in, of that parameters and optimizer state, and what the step needs besides.

    `total` counts a donated input and the result in its place once. Where the step does not fit, it is what the compiler says that all takes, and
    `activations` what is left of that.
    """

    parameters: int
    optimizer: int
    inputs: int
    activations: int
    total: int
    fits: bool


@dataclass(frozen=True)
class CompiledStep:
    """A compiled step of one chip; there is no `work` where it does not fit."""

    memory: Memory
    work: Work | None
    xla_flops: float
    seconds: float


class NotCompiled(SatjaxError):
    """A step with a kernel that the chip's cores have no room for, however large its memory is."""


def open_topology(topology: Topology) -> list[Any]:
    """The chips of a slice as devices to compile for; raises SatjaxError where libtpu is missing."""
    if importlib.util.find_spec("libtpu") is None:
        raise SatjaxError(f"preflight compiles with libtpu, which is not installed: {how_to_install('preflight')}")
    for name, value in ALONE.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    options = dict(topology.chip.options)
    return list(topologies.get_topology_desc(platform="tpu", topology_name=topology.name, **options).devices)


def compile_step(
    lowered: jax.stages.Lowered, params: Mapping[str, Any], trained: list[str] | None = None
) -> CompiledStep:
    """Compiles; a step that does not fit the chip's memory is no error. `trained` has float32 moments, two of each parameter.

    Raises NotCompiled where a kernel of it does not fit.
    """
    parameters = sum(_on_chip(leaf) * leaf.dtype.itemsize for leaf in params.values())
    optimizer = sum(8 * _on_chip(params[path]) for path in trained or ())
    start = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        if lacks_vector_memory(str(error)):
            raise NotCompiled(
                f"a step is not compiled for want of vector memory ({str(error).splitlines()[0]}): {OTHER_KERNEL}"
            ) from None
        inputs = parameters + optimizer
        needed = max(_needed(str(error)), inputs)
        memory = Memory(parameters, optimizer, inputs, needed - inputs, needed, fits=False)
        return CompiledStep(memory, None, 0.0, time.perf_counter() - start)
    found, costs, text = compiled.memory_analysis(), compiled.cost_analysis(), compiled.as_text()
    assert found is not None
    assert costs is not None
    assert text is not None
    kept = found.output_size_in_bytes - found.alias_size_in_bytes
    # Frozen parameters that a step does not read are no arguments of it, and lie on the chip all the same.
    inputs = max(found.argument_size_in_bytes, parameters + optimizer)
    memory = Memory(
        parameters,
        optimizer,
        inputs,
        found.temp_size_in_bytes + kept,
        inputs + found.temp_size_in_bytes + kept,
        fits=True,
    )
    return CompiledStep(memory, read_work(text), float(costs.get("flops", 0.0)), time.perf_counter() - start)


def _on_chip(leaf: Any) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape))


def _needed(message: str) -> int:
    """Bytes of all, arguments among them, by the compiler's own account, `… (28.73G) exceeds available HBM (15.75G)`."""
    found = re.search(r"\(([\d.]+)([KMGT])\)\s+exceeds", message) or re.search(r"Used ([\d.]+)([KMGT])", message)
    if not found:
        raise SatjaxError(
            f"the compiler gave up for want of memory, and does not say how much: {message.splitlines()[0]}"
        )
    return int(float(found[1]) * {"K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}[found[2]])
