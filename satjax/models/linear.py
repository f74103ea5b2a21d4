"""Linear map with an optional low-rank update (LoRA), and the normalizations.

LoRA is ours because an adapter may serve some calls of a layer and not others (candidates' tokens, not the text's), within layers
that are stacked and run by a scan; libraries such as qwix attach adapters to a layer by its path, whatever runs through it.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from satjax.models.narrow import product


class Linear(nnx.Module):
    """`y = x W + b`, plus `(x A) B * scale` where `lora_rank` is positive (Hu et al. 2021, arXiv 2106.09685).

    Kernels are `[in, out]`. `B` starts at zero, so that an untrained adapter changes nothing. `scale` is 2, the common
    `alpha = 2 * rank`.
    """

    LORA_SCALE = 2.0

    def __init__(self, width_in: int, width_out: int, *, bias: bool = False, lora_rank: int = 0, rngs: nnx.Rngs):
        self.kernel = nnx.Param(jax.nn.initializers.lecun_normal()(rngs.params(), (width_in, width_out)))
        self.bias = nnx.Param(jnp.zeros(width_out)) if bias else None
        down = jax.nn.initializers.lecun_normal()
        self.lora_a = nnx.Param(down(rngs.params(), (width_in, lora_rank))) if lora_rank else None
        self.lora_b = nnx.Param(jnp.zeros((lora_rank, width_out))) if lora_rank else None

    def __call__(self, x: Float[Array, "*rows i"], *, adapted: bool = True) -> Float[Array, "*rows o"]:
        """Maps `[..., in]` to `[..., out]` in the dtype of `x`; the adapter, where there is one, counts if `adapted`."""
        y = product(x, self.kernel[...])
        if self.bias is not None:
            y = y + self.bias[...].astype(x.dtype)
        if adapted and self.lora_a is not None and self.lora_b is not None:
            y = y + (x @ self.lora_a[...].astype(x.dtype)) @ self.lora_b[...].astype(x.dtype) * self.LORA_SCALE
        return y


class RMSNorm(nnx.Module):
    """Root-mean-square normalization with a gain (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, width: int, epsilon: float):
        self.scale = nnx.Param(jnp.ones(width))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*rows d"]) -> Float[Array, "*rows d"]:
        """Normalizes the last axis; the result has the dtype of `x`."""
        x32 = x.astype(jnp.float32)
        x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.epsilon)
        return (x32 * self.scale[...].astype(jnp.float32)).astype(x.dtype)


class LayerNorm(nnx.Module):
    """Layer normalization with gain and bias, computed in float32."""

    def __init__(self, width: int, epsilon: float):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "*rows d"]) -> Float[Array, "*rows d"]:
        """Normalizes the last axis; the result has the dtype of `x`."""
        x32 = x.astype(jnp.float32)
        x32 = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        x32 = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.epsilon)
        return (x32 * self.scale[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)).astype(x.dtype)
