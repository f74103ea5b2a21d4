"""Layers of one shape, kept as one module with stacked parameters and run by a scan, so that compile time does not grow with depth."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from satjax.models.narrow import PACKED, unpack
from satjax.sharding import gathers_layers, layer_on_rows


def _all_but_gathered(primitive: Any, *_: Any, **__: Any) -> bool:
    """Keeps everything for the backward pass but what a mesh gathered: whole layers would pile up, and are gathered again instead."""
    return not primitive.name.startswith("all_gather")


REMAT_POLICIES: dict[str, Any] = {
    "none": _all_but_gathered,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}

KERNELS = ("kernel", "lora_a", "lora_b")


def stack_layers(make_layer: Callable[[nnx.Rngs], nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """One module whose parameters have a leading axis of `depth`: every layer initialized with its own key."""
    return nnx.vmap(make_layer)(rngs.split(depth))


def run_stack(
    layers: nnx.Module,
    carry: Any,
    *shared: Any,
    path: str,
    remat: str = "none",
    tap: Callable[..., Any] = lambda carry, *shared: None,
) -> tuple[Any, Any]:
    """Applies the layers in turn: `carry = layer(carry, *shared)`. `remat` names what the backward pass keeps (REMAT_POLICIES).

    The carry and what is shared are trees of arrays whose first axis is the batch. `path` is where the layers' parameters stand in the table of
    `satjax.sharding`. Kernels are brought to the carry's dtype, in which they are used, before a mesh gathers them; packed ones are used as bfloat16.
    Returns the last carry, and what `tap(carry, *shared)` reads off the carry after each layer, stacked.
    """
    graphdef, state = nnx.split(layers)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(state)
    names = ["/".join(key.key for key in keys if isinstance(key, jax.tree_util.DictKey)) for keys, _ in leaves]
    dtype = jax.tree.leaves(carry)[0].dtype

    def run(carry: Any, layer: Sequence[jax.Array], shared: tuple) -> tuple[Any, Any]:
        carry = nnx.merge(graphdef, jax.tree.unflatten(treedef, layer))(carry, *shared)
        return carry, tap(carry, *shared)

    def body(carry: Any, layer: Sequence[jax.Array]) -> tuple[Any, Any]:
        used = [_used(name, value, dtype) for name, value in zip(names, layer, strict=True)]
        return layer_on_rows(run, path, names, used)(carry, used, shared)

    if remat != "none" or gathers_layers():
        body = jax.checkpoint(body, policy=REMAT_POLICIES[remat], prevent_cse=False)
    return jax.lax.scan(body, carry, [value for _, value in leaves])


def _used(name: str, value: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    if not name.endswith(KERNELS):
        return value
    return unpack(value) if value.dtype == PACKED else value.astype(dtype)
