"""Kernels kept in bfloat16 beside float32 states: twice the speed on a CPU that multiplies bfloat16.

XLA's CPU compiler uses such instructions only where the products of two bfloat16 arrays are summed as float32, and copies a layer's part of a
stack of bfloat16 kernels slowly, number by number. So two of them are kept as one 32-bit number until their layer comes.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
PACKED = jnp.uint32


def cpu_multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU says that it has instructions for products of bfloat16 numbers (x86: AVX512_BF16, AMX; Arm: BF16)."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(CPU_FLAGS & set(line.split()) for line in lines if line.lower().startswith(("flags", "features")))


def pack(kernel: Float[Array, "*n i o"]) -> Array:
    """Rounded to bfloat16, two neighbours as one: uint32 `[..., in, out / 2]`. The number of columns must be even."""
    rounded = kernel.astype(jnp.bfloat16)
    return jax.lax.bitcast_convert_type(rearrange(rounded, "... (o two) -> ... o two", two=2), PACKED)


def packs(path: str, shape: Sequence[int]) -> bool:
    """Whether the parameter of this path is a kernel of the LLM's layers, which `satjax.models.stack.run_stack` unpacks."""
    return path.startswith(("llm/lower/", "llm/upper/")) and path.endswith("/kernel") and shape[-1] % 2 == 0


def fixed_dtype(path: str, shape: Sequence[int], base: jnp.dtype, used: jnp.dtype) -> jnp.dtype:
    """In which a base weight is kept that nothing trains: its own, or for such a kernel that of the computation where it is narrower."""
    return used if used.itemsize < base.itemsize and packs(path, shape) else base


def unpack(kernel: Array) -> Float[Array, "*n i o"]:
    """What `pack` was given, in bfloat16."""
    return rearrange(jax.lax.bitcast_convert_type(kernel, jnp.bfloat16), "... o two -> ... (o two)")


def narrowed(x: Float[Array, "*n i"], kernel: Array) -> Float[Array, "*n i"]:
    """`x` in the dtype of a kernel that is narrower than it."""
    return x.astype(kernel.dtype) if kernel.dtype.itemsize < x.dtype.itemsize else x


def product(x: Float[Array, "*rows i"], kernel: Float[Array, "i o"]) -> Float[Array, "*rows o"]:
    """`x @ kernel` in the dtype of `x`; where the kernel's is narrower, `x` is rounded to it, and the sums stay as wide as `x`."""
    factor = narrowed(x, kernel)
    return jnp.matmul(factor, kernel.astype(factor.dtype), preferred_element_type=x.dtype)
