"""How arrays lie on the (data, fsdp, tensor) mesh: one table of logical axes, one table of rules."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from satjax.config import MeshConfig
from satjax.errors import SatjaxError

AXES = ("data", "fsdp", "tensor")

RULES: dict[str, tuple[str, ...] | str | None] = {
    "batch": ("data", "fsdp"),
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
    """A mesh over all devices (of all hosts); one axis of the config may be -1."""
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
    return Mesh(np.asarray(devices).reshape(shape), AXES, axis_types=(AxisType.Auto,) * 3)


def param_spec(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
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


def replicated(mesh: Mesh) -> NamedSharding:
    """The same everywhere."""
    return NamedSharding(mesh, PartitionSpec())


def place(value: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array that every process can give any part of, on the mesh; each gives what its own devices hold."""
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def batch_shards(mesh: Mesh) -> int:
    """Parts that a batch is cut into."""
    return _extent(mesh, ("data", "fsdp"))


def check_batch(rows: int, mesh: Mesh, what: str) -> None:
    """Raises SatjaxError where `rows` do not divide evenly over the mesh."""
    parts = batch_shards(mesh)
    if rows % parts:
        raise SatjaxError(
            f"{what} has {rows} rows, which data x fsdp = {parts} of the mesh do not divide; make it a multiple of {parts}"
        )


def _extent(mesh: Mesh, axes: tuple[str, ...] | str) -> int:
    return int(np.prod([mesh.shape[axis] for axis in ((axes,) if isinstance(axes, str) else axes)]))
