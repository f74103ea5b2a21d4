"""Layers of one shape, kept as one module with stacked parameters and run by a scan, so that compile time does not grow with depth."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from satjax.sharding import gather_layer

REMAT_POLICIES: dict[str, Any] = {
    "none": None,
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
    tap: Callable[[Any], Any] = lambda carry: None,
) -> tuple[Any, Any]:
    """Applies the layers in turn: `carry = layer(carry, *shared)`. `remat` names what the backward pass keeps (REMAT_POLICIES).

    `path` is where the layers' parameters stand in the table of `satjax.sharding`. Kernels are brought to the carry's dtype, in which they are
    used, before a mesh gathers them.
    Returns the last carry, and what `tap` reads off the carry after each layer, stacked.
    """
    graphdef, state = nnx.split(layers)
    dtype = jax.tree.leaves(carry)[0].dtype

    def gathered(keys: tuple, value: jax.Array) -> jax.Array:
        names = [key.key for key in keys if isinstance(key, jax.tree_util.DictKey)]
        return gather_layer("/".join((path, *names)), value.astype(dtype) if names[-1] in KERNELS else value)

    def body(carry: Any, layer_state: Any) -> tuple[Any, Any]:
        layer_state = jax.tree_util.tree_map_with_path(gathered, layer_state)
        carry = nnx.merge(graphdef, layer_state)(carry, *shared)
        return carry, tap(carry)

    if remat != "none":
        body = jax.checkpoint(body, policy=REMAT_POLICIES[remat], prevent_cse=False)
    return jax.lax.scan(body, carry, state)
