"""Layers of one shape, kept as one module with stacked parameters and run by a scan, so that compile time does not grow with depth."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

REMAT_POLICIES: dict[str, Any] = {
    "none": None,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def stack_layers(make_layer: Callable[[nnx.Rngs], nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """One module whose parameters have a leading axis of `depth`: every layer initialized with its own key."""
    return nnx.vmap(make_layer)(rngs.split(depth))


def run_stack(
    layers: nnx.Module, carry: Any, *shared: Any, remat: str = "none", tap: Callable[[Any], Any] = lambda carry: None
) -> tuple[Any, Any]:
    """Applies the layers in turn: `carry = layer(carry, *shared)`. `remat` names what the backward pass keeps (REMAT_POLICIES).

    Returns the last carry, and what `tap` reads off the carry after each layer, stacked.
    """
    graphdef, state = nnx.split(layers)

    def body(carry: Any, layer_state: Any) -> tuple[Any, Any]:
        carry = nnx.merge(graphdef, layer_state)(carry, *shared)
        return carry, tap(carry)

    if remat != "none":
        body = jax.checkpoint(body, policy=REMAT_POLICIES[remat], prevent_cse=False)
    return jax.lax.scan(body, carry, state)
