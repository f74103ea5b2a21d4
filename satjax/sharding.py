"""How arrays lie on the (data, fsdp, tensor) mesh: one table of logical axes, one table of rules."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from satjax.config import MeshConfig
from satjax.errors import SatjaxError

AXES = ("data", "fsdp", "tensor")

BATCH = ("data", "fsdp")

RULES: dict[str, tuple[str, ...] | str | None] = {
    "batch": BATCH,
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "layers": None,
    "rank": None,
}

LOGICAL_AXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"llm/embedding", ("vocab", "embed")),
    (r"llm/head/kernel", ("embed", "vocab")),
    (r"llm/(lower|upper)/attention/[qkv]/kernel", ("layers", "embed", "heads")),
    (r"llm/(lower|upper)/attention/[qkv]/bias", ("layers", "heads")),
    (r"llm/(lower|upper)/attention/o/kernel", ("layers", "heads", "embed")),
    (r"llm/(lower|upper)/mlp/(gate|up)/kernel", ("layers", "embed", "mlp")),
    (r"llm/(lower|upper)/mlp/down/kernel", ("layers", "mlp", "embed")),
    (r"llm/upper/attention/[qkv]/lora_a", ("layers", "embed", "rank")),
    (r"llm/upper/attention/[qkv]/lora_b", ("layers", "rank", "heads")),
    (r"llm/upper/attention/o/lora_a", ("layers", "heads", "rank")),
    (r"llm/upper/attention/o/lora_b", ("layers", "rank", "embed")),
    (r"llm/upper/mlp/(gate|up)/lora_a", ("layers", "embed", "rank")),
    (r"llm/upper/mlp/(gate|up)/lora_b", ("layers", "rank", "mlp")),
    (r"llm/upper/mlp/down/lora_a", ("layers", "mlp", "rank")),
    (r"llm/upper/mlp/down/lora_b", ("layers", "rank", "embed")),
    (r"encoder/embedding", ("vocab", "embed")),
    (r"encoder/layers/[qkv]/kernel", ("layers", "embed", "heads")),
    (r"encoder/layers/o/kernel", ("layers", "heads", "embed")),
    (r"encoder/layers/up/kernel", ("layers", "embed", "mlp")),
    (r"encoder/layers/down/kernel", ("layers", "mlp", "embed")),
)


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices (of all hosts); one axis of the config may be -1. On a TPU slice its axes lie along the slice's own, where they can."""
    devices = jax.devices() if devices is None else devices
    shape = [config.data, config.fsdp, config.tensor]
    if shape.count(-1) > 1 or any(size < 1 and size != -1 for size in shape):
        raise SatjaxError(
            f"config mesh {tuple(shape)}: sizes must be positive, and at most one may be -1 (whatever is left)"
        )
    fixed = int(np.prod([size for size in shape if size != -1]))
    if -1 in shape and len(devices) % fixed == 0:
        shape[shape.index(-1)] = len(devices) // fixed
    if int(np.prod(shape)) != len(devices):
        raise SatjaxError(
            f"config mesh (data, fsdp, tensor) = {tuple(shape)} does not fill {len(devices)} devices; mend one of the sizes"
        )
    return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def param_spec(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """Where a parameter lies; what the table does not name, or an axis that its mesh axis does not divide, is replicated."""
    logical = next((axes for pattern, axes in LOGICAL_AXES if re.fullmatch(pattern, path)), ())
    entries = [RULES[name] for name in logical]
    return PartitionSpec(
        *(
            entry if entry and size % _extent(mesh, entry) == 0 else None
            for entry, size in zip(entries, shape, strict=False)
        )
    )


def param_shardings(shapes: Mapping[str, Any], mesh: Mesh) -> dict[str, NamedSharding]:
    """A sharding for every parameter path."""
    return {path: NamedSharding(mesh, param_spec(path, leaf.shape, mesh)) for path, leaf in shapes.items()}


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over the data and fsdp axes, the rest whole."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Asks for `x` to lie by its logical axes, on the mesh that is in use (`jax.sharding.use_abstract_mesh`); without one, as it is.

    Without this the partitioner may split a product over `fsdp` along the width instead of the batch, and then moves whole batches of
    activations between all chips where the weights of one layer would do.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*(axis and RULES[axis] for axis in axes)))


def spread(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Rows spread over the mesh in use, as `batch`, with as many rows of zeros after them as it takes; without a mesh, as they are."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return arrays
    missing = -len(arrays[0]) % _extent(mesh, BATCH)
    return tuple(constrain(jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))), "batch") for x in arrays)


def gather_layer(path: str, value: jax.Array) -> jax.Array:
    """A layer's parameter, whole along `fsdp` for as long as the layer runs (ZeRO-3, Rajbhandari et al. 2020); without a mesh, as it is.

    `path` is that of the stacked parameter. The gradient, which every use of the layer adds to, is summed over the mesh once, and each device
    keeps its part.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return value
    axes = tuple(param_spec(path, (1, *value.shape), mesh))[1:]
    part = jax.lax.with_sharding_constraint(value, PartitionSpec(*axes))
    return jax.lax.with_sharding_constraint(part, PartitionSpec(*(None if axis == "fsdp" else axis for axis in axes)))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same everywhere."""
    return NamedSharding(mesh, PartitionSpec())


def batch_shards(mesh: Mesh) -> int:
    """Parts that a batch is cut into."""
    return _extent(mesh, BATCH)


def check_batch(rows: int, mesh: Mesh, what: str) -> None:
    """Raises SatjaxError where `rows` do not divide evenly over the mesh."""
    parts = batch_shards(mesh)
    if rows % parts:
        raise SatjaxError(
            f"{what} has {rows} rows, which data x fsdp = {parts} of the mesh do not divide; make it a multiple of {parts}"
        )


def _extent(mesh: Mesh | AbstractMesh, axes: tuple[str, ...] | str) -> int:
    return int(np.prod([mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes)]))
