"""How arrays lie on the (data, fsdp, tensor) mesh: one table of logical axes, one table of rules."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from satjax.config import MeshConfig
from satjax.errors import SatjaxError

AXES = ("data", "fsdp", "tensor")

BATCH = ("data", "fsdp")

RULES: dict[str, tuple[str, ...] | str | None] = {
    "batch": BATCH,
    "replica": "data",
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
            f"config mesh (data, fsdp, tensor) = {tuple(shape)} does not fill {len(devices)} devices; mend one of the sizes, "
            f"such as {_filling(shape, len(devices))}"
        )
    return Mesh(_arranged(shape, devices), AXES, axis_types=(AxisType.Auto,) * 3)


def as_ours(mesh: Mesh) -> Mesh:
    """A mesh that `make_mesh` need not have made; raises SatjaxError where it lacks one of the axes."""
    if not set(AXES) <= set(mesh.axis_names):
        raise SatjaxError(
            f"a mesh with the axes ({', '.join(map(str, mesh.axis_names))}) is none of satjax's, which have ({', '.join(AXES)}); "
            "make it with satjax.sharding.make_mesh"
        )
    # Those of `jax.make_mesh` are Explicit: each operation would have to say how its result lies.
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def _filling(shape: list[int], num_devices: int) -> str:
    """Flags that make a mesh of this shape fill the devices: one size changed as little as possible, or else all of them."""
    for axis in (1, 2, 0):
        others = int(np.prod([size for i, size in enumerate(shape) if i != axis and size != -1]))
        left = -1 in shape[:axis] + shape[axis + 1 :]
        fits = [
            size
            for size in range(1, num_devices + 1)
            if (num_devices % (size * others) == 0 if left else size * others == num_devices)
        ]
        if fits:
            nearest = min(fits, key=lambda size: (abs(size - shape[axis]), -size))
            return f"--config.mesh.{AXES[axis]}={nearest}"
    return f"--config.mesh.data=-1 --config.mesh.fsdp={num_devices} --config.mesh.tensor=1"


def _arranged(shape: list[int], devices: list[jax.Device]) -> np.ndarray:
    """The devices in that shape; where these are several TPU slices, whose chips have the same places, `data` goes from slice to slice, or `fsdp`."""
    slices = {getattr(device, "slice_index", 0) for device in devices} if devices[0].platform == "tpu" else {0}
    if len(slices) == 1:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    across = next((axis for axis in (0, 1) if shape[axis] % len(slices) == 0), None)
    if across is None:
        raise SatjaxError(
            f"config mesh (data, fsdp, tensor) = {tuple(shape)}: {len(slices)} slices have to divide data or fsdp; mend one of them"
        )
    between = [len(slices) if axis == across else 1 for axis in range(3)]
    within = [size // count for size, count in zip(shape, between, strict=True)]
    return mesh_utils.create_hybrid_device_mesh(within, between, devices, allow_split_physical_axes=True)


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


def abstract_on_mesh(tree: Any, like: Mapping[str, Any], mesh: Mesh) -> Any:
    """Shapes of an optimizer state or parameters with the sharding of the parameter each leaf belongs to."""

    def leaf(path: tuple, value: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey) and key.key in like]
        sharding = like[names[-1]].sharding if names else replicated(mesh)
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over the data and fsdp axes, the rest whole."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


_STARTS = threading.Lock()


def starting(mesh: Mesh | None) -> contextlib.AbstractContextManager:
    """Held while a program is started on a mesh of several devices.

    Where two threads start one each, a device may begin with the one and another device with the other, and their collectives wait for each other for ever.
    """
    return contextlib.nullcontext() if mesh is None or mesh.size == 1 else _STARTS


def fetched(mesh: Mesh | None, program: Callable[..., jax.Array], *given: Any) -> np.ndarray:
    """What a program gives, on the host: it starts alone, and only then is waited for."""
    with starting(mesh):
        found = program(*given)
    return np.asarray(found)


@contextlib.contextmanager
def as_satjax_computes() -> Iterator[None]:
    """Inside, what the calling program has set of jax means nothing: a mesh (`jax.set_mesh`), where ours are named or none, and float64 numbers."""
    with contextlib.ExitStack() as settings:
        if not jax.sharding.get_abstract_mesh().empty:
            settings.enter_context(jax.set_mesh(Mesh(np.empty((), object), ())))
        if jax.enable_x64.value:
            settings.enter_context(jax.enable_x64(False))
        yield


def on_mesh(mesh: Mesh | None) -> contextlib.AbstractContextManager:
    """Inside, and while a function is traced there, `constrain`, `spread` and `layer_on_rows` mean this mesh; None is none."""
    return contextlib.nullcontext() if mesh is None else jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Asks for `x` to lie by its logical axes, on the mesh in use (`on_mesh`); without one, as it is.

    Without this the partitioner may split a product over `fsdp` along the width instead of the batch, and then moves whole batches of
    activations between all chips where the weights of one layer would do.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    entries = [RULES[axis] if axis else None for axis in axes]
    fitting = (
        entry if entry and size % _extent(mesh, entry) == 0 else None
        for entry, size in zip(entries, x.shape, strict=False)
    )
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*fitting))


def looked_up(x_BLD: jax.Array) -> jax.Array:
    """Rows of an embedding table, which is cut along its width, as rows of the batch.

    In two steps that devices can take among their own `fsdp` neighbours; in one, the partitioner would send the whole batch to all.
    """
    return constrain(constrain(x_BLD, "replica", None, "embed"), "batch")


def spread(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Rows spread over the mesh in use, as `batch`, with as many rows of zeros after them as it takes; without a mesh, as they are."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return arrays
    missing = -len(arrays[0]) % _extent(mesh, BATCH)
    return tuple(constrain(jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))), "batch") for x in arrays)


def layer_on_rows(
    run: Callable[..., Any], path: str, names: Sequence[str], values: Sequence[jax.Array]
) -> Callable[..., Any]:
    """`run(rows, layer, more_rows)` of one layer on each device's own rows, with the layer's parameters whole along `fsdp` meanwhile.

    `rows` and `more_rows` are trees of arrays whose first axis is the batch, as are the results; `layer` are the layer's parameters `values`, whose
    names continue `path` of the stack. A device gathers them as it comes to the layer and keeps its own part; in the backward pass the gradients
    of all uses are added up before they are summed over the mesh and scattered, once (ZeRO-3, Rajbhandari et al. 2020). Left to itself the
    partitioner reduces each use of a weight apart, to the whole of it. Devices' gradients are summed in the dtype of `values`, that of
    the layer's products, where those of passes (`batch.accumulate`) are in float32: in bfloat16 the sum loses the more the more devices there are.
    Products over `tensor` are the partitioner's. Without a mesh: `run`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or _extent(mesh, BATCH) == 1:
        return run
    rows, parts = PartitionSpec(BATCH), []
    for name, value in zip(names, values, strict=True):
        axes = tuple(param_spec(f"{path}/{name}", (1, *value.shape), mesh))[1:]
        parts.append(PartitionSpec(*(axis if axis == "fsdp" else None for axis in axes)))

    def gathered(part: PartitionSpec, value: jax.Array) -> jax.Array:
        return jax.lax.all_gather(value, "fsdp", axis=part.index("fsdp"), tiled=True) if "fsdp" in part else value

    def whole(carry: Any, layer: Sequence[jax.Array], shared: Any) -> Any:
        return run(carry, [gathered(part, value) for part, value in zip(parts, layer, strict=True)], shared)

    # Unchecked, a parameter's uses inside have one gradient to sum; and kernels of Pallas do not say how their results vary.
    return jax.shard_map(whole, in_specs=(rows, parts, rows), out_specs=rows, axis_names=set(BATCH), check_vma=False)


def on_each_device(
    run: Callable[..., jax.Array], arrays: Sequence[jax.Array], axes: Sequence[tuple[str | None, ...]]
) -> jax.Array:
    """`run(*arrays)` on each device's own part of arrays that lie by their logical axes, as the result does by those of the first.

    For kernels that the partitioner can not cut. On the mesh in use, and inside `layer_on_rows` on what is left of it; an axis that does not divide
    all that is cut along it stays whole. Without a mesh: `run(*arrays)`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    free = [axis for axis in mesh.axis_names if axis not in mesh.manual_axes]
    if not free:
        return run(*arrays)

    def entry(name: str | None) -> tuple[str, ...] | None:
        rule = RULES[name] if name else None
        left = tuple(axis for axis in ((rule,) if isinstance(rule, str) else rule or ()) if axis in free)
        sizes = [x.shape[i] for x, names in zip(arrays, axes, strict=True) for i, n in enumerate(names) if n == name]
        return left if left and all(size % _extent(mesh, left) == 0 for size in sizes) else None

    specs = tuple(PartitionSpec(*map(entry, names)) for names in axes)
    return jax.shard_map(run, in_specs=specs, out_specs=specs[0], axis_names=set(free), check_vma=False)(*arrays)


def gathers_layers() -> bool:
    """Whether layers are gathered on the mesh in use: parameters are cut along its `fsdp`."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and mesh.shape["fsdp"] > 1


def replicated(mesh: Mesh) -> NamedSharding:
    """The same everywhere."""
    return NamedSharding(mesh, PartitionSpec())


def place(value: np.ndarray, sharding: Sharding) -> jax.Array:
    """An array that every process can give any part of, on the mesh; each gives what its own devices hold."""
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def place_on(value: np.ndarray | jax.Array, sharding: Sharding | None) -> np.ndarray | jax.Array:
    """The array placed so; as it is where None says that there is no mesh."""
    return value if sharding is None else place(np.asarray(value), sharding)


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
