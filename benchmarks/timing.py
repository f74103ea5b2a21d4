"""What the speed benchmarks share: interleaved medians, the measured rate of products, and what a run was made on."""

import argparse
import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import real_run

Call = Callable[[], Any]


def medians(calls: Mapping[str, Call], runs: int, warmup: int = 1) -> dict[str, dict[str, float]]:
    """Seconds of each call, median and extremes. Calls take turns, so that what disturbs the machine disturbs all of them."""
    for name, call in calls.items():
        print(f"{name} …", file=sys.stderr)
        for _ in range(warmup):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median_s": statistics.median(found), "min_s": min(found), "max_s": max(found), "runs": runs}
        for name, found in seconds.items()
    }


def jax_product(dtype: str, size: int) -> Call:
    """A square product with sums of 32 bits."""
    a = jnp.ones((size, size), dtype)
    total = jnp.int32 if dtype == "int8" else jnp.float32
    run = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=total))
    return lambda: jax.block_until_ready(run(a))


def torch_device() -> str:
    """Where PyTorch runs: on the GPU, if it knows one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_product(dtype: str, size: int) -> Call:
    """The same in PyTorch; the corner that is looked at waits for all of it."""
    import torch

    a = torch.ones(size, size, dtype=getattr(torch, dtype), device=torch_device())
    return lambda: (a @ a)[0, 0].item()


def product_rates(runs: int = 7) -> dict[str, float]:
    """Operations per second of a square product, the best of `runs`, by library and dtype: the measured peak."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    calls = {f"jax {dtype}": jax_product(dtype, size) for dtype in ("float32", "bfloat16", "int8")}
    calls |= {f"torch {dtype}": torch_product(dtype, size) for dtype in ("float32", "bfloat16")}
    return {name: 2 * size**3 / found["min_s"] for name, found in medians(calls, runs, 2).items()}


def machine() -> dict[str, Any]:
    """What a report was made on, and when."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": real_run.machine(),
        "device": jax.devices()[0].device_kind,
        "versions": {name: version(name) for name in ("jax", "flax", "torch")},
    }


def arguments(about: str, runs: int) -> argparse.ArgumentParser:
    """What the benchmarks against the published way are told alike."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the report, written as far as it has come")
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--instruction-tokens", type=int, default=200)
    parser.add_argument("--profile-tokens", type=int, default=600)
    return parser


def save(report: dict[str, Any], path: Path | None) -> None:
    """As JSON, where a path is given."""
    if path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
