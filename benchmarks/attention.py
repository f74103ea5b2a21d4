"""python benchmarks/attention.py --out benchmarks/results/attention_cpu.json

Each way to compute causal attention of the text against the others, on the shapes that we use, forward and with the gradients: XLA's own, cuDNN's
flash attention (on a GPU) and PyTorch's. Heads as of SmolLM2-135M and of Phi-3.5. One call is a few layers in a row, each reading what the last one
gave, so that starting it weighs little; figures are of one layer.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", ".5")  # PyTorch needs the rest

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
from timing import Call, Report, arguments, later, medians, on_gpu, torch_device
from torch_peer import as_graph

from satjax.models.fused_attention import suffix_attention, text_attention

CANDIDATES, SUFFIX = 25, 4


class Heads(NamedTuple):
    """Of one LLM."""

    name: str
    num_heads: int
    num_groups: int
    width: int


SMALL, LARGE = Heads("SmolLM2-135M", 9, 3, 64), Heads("Phi-3.5", 32, 32, 96)
ON_GPU = ((1, 224, False), (32, 224, False), (32, 224, True), (8, 768, True))
ON_CPU = ((1, 32, False), (2, 32, True))


def arrays(heads: Heads, rows: int, tokens: int, dtype: Any) -> tuple[jax.Array, ...]:
    """Queries, keys and values `[B, L, heads, h]`."""
    rng = np.random.default_rng(0)
    sizes = (heads.num_heads, heads.num_groups, heads.num_groups)
    return tuple(jnp.asarray(rng.standard_normal((rows, tokens, n, heads.width), np.float32), dtype) for n in sizes)


def in_jax(attend: Callable[..., jax.Array], given: tuple[jax.Array, ...], layers: int, backward: bool) -> Call:
    """`attend(query, *more)` so many times, and the gradients of all that is given."""

    def run(query: jax.Array, *more: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (attend(carry, *more), None), query, None, length=layers)[0]

    def loss(*given: jax.Array) -> jax.Array:
        return jnp.sum(run(*given), dtype=jnp.float32)

    call = jax.jit(jax.grad(loss, tuple(range(len(given)))) if backward else run)
    return lambda: jax.block_until_ready(call(*given))


def in_torch(given: tuple[jax.Array, ...], layers: int, backward: bool) -> Call:
    """The same in PyTorch, as one CUDA graph on a GPU."""
    dtype = torch.bfloat16 if given[0].dtype == jnp.bfloat16 else torch.float32
    query, key, value = (
        torch.from_numpy(np.array(x.astype(jnp.float32))).to(torch_device(), dtype).transpose(1, 2).contiguous()
        for x in given
    )
    if backward:
        query, key, value = (x.requires_grad_() for x in (query, key, value))

    def run() -> torch.Tensor:
        with torch.set_grad_enabled(backward):
            x = query
            for _ in range(layers):
                x = F.scaled_dot_product_attention(x, key, value, is_causal=True, enable_gqa=True)
            if not backward:
                return x
            return torch.autograd.grad(x.float().sum(), (query, key, value))[0]

    call = as_graph(run) if on_gpu() else run
    return lambda: call()[0, 0, 0, 0].item()


def suffixes(kernel: Any, heads: Heads, rows: int, tokens: int, layers: int, backward: bool, dtype: Any) -> Call:
    """Attention of the candidates' suffixes."""
    _, key, value = arrays(heads, rows, tokens, dtype)
    rng = np.random.default_rng(1)
    own = tuple(
        jnp.asarray(rng.standard_normal((rows, CANDIDATES, SUFFIX, n, heads.width), np.float32), dtype)
        for n in (heads.num_heads, heads.num_groups, heads.num_groups)
    )
    length = jnp.full(rows, tokens, jnp.int32)
    attend = lambda query, *more: suffix_attention(kernel, query, *more, length)  # noqa: E731
    return in_jax(attend, (*own, key, value), layers, backward)


def main() -> None:
    parser = arguments(__doc__ or "", 10)
    options = parser.parse_args()
    gpu = on_gpu()
    layers, dtype = (8, jnp.bfloat16) if gpu else (2, jnp.float32)
    report = Report(options.out, options.seconds, candidates=CANDIDATES, suffix_tokens=SUFFIX, layers=layers, rows=[])

    def measure(heads: Heads, rows: int, tokens: int, backward: bool) -> None:
        shape = {"heads": heads.name, "rows": rows, "tokens": tokens, "backward": backward}
        given, length = arrays(heads, rows, tokens, dtype), jnp.full(rows, tokens, jnp.int32)

        def attend(kernel: Any, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            return text_attention(kernel, query, key, value, length)

        kinds: dict[str, Callable[[], Call]] = {"xla": lambda: in_jax(partial(attend, "xla"), given, layers, backward)}
        if gpu:
            kinds["cudnn"] = lambda: in_jax(partial(attend, "cudnn"), given, layers, backward)
        kinds["torch"] = lambda: in_torch(given, layers, backward)
        for kernel in ("xla", "cudnn") if gpu else ("xla",):
            if rows > 1:
                kinds[f"suffixes, {kernel}"] = partial(suffixes, kernel, heads, rows, tokens, layers, backward, dtype)
        for kind, make in kinds.items():
            errors: dict[str, str] = {}
            for figure in medians({f"{kind}, {shape}": later(make)}, options.runs, 3, errors).values():
                each = {key: figure[key] / layers for key in ("median_s", "min_s", "max_s")}
                report.found["rows"].append({**shape, "kind": kind, **each, "first_s": figure["first_s"]})
                print(f"{kind:14} {shape} {1e6 * each['median_s']:10.1f} us", flush=True)
            report.errors.update(errors)

    for heads in (SMALL, LARGE):
        for rows, tokens, backward in ON_GPU if gpu else ON_CPU:
            name = f"{heads.name}, {rows} x {tokens}{', backward' if backward else ''}"
            report.part(name, partial(measure, heads, rows, tokens, backward))


if __name__ == "__main__":
    main()
