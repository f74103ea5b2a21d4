"""What the speed benchmarks share: interleaved medians, the measured rate of products, and what a run was made on."""

import argparse
import datetime
import json
import math
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import real_run

Call = Callable[[], Any]
START = time.monotonic()


def medians(
    calls: Mapping[str, Call], runs: int, warmup: int = 1, errors: dict[str, str] | None = None
) -> dict[str, dict[str, float]]:
    """Seconds of each call, median and extremes. Calls take turns, so that what disturbs the machine disturbs all of them.

    `first_s` is what the very first call took, compiling included. A call that fails goes into `errors`, if given, and not into the result.
    """
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {}
    for name, call in calls.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            for again in range(warmup):
                start = time.perf_counter()
                call()
                if not again:
                    first[name] = time.perf_counter() - start
            seconds[name] = []
        except Exception as error:
            if errors is None:
                raise
            errors[name] = told(error)
    for _ in range(runs):
        for name in seconds:
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median_s": statistics.median(found), "min_s": min(found), "max_s": max(found), "runs": runs}
        | ({"first_s": first[name]} if name in first else {})
        for name, found in seconds.items()
    }


def later(make: Callable[[], Call]) -> Call:
    """A call that is made when it is first called, so that what fails in making it fails there."""
    made: list[Call] = []

    def call() -> Any:
        if not made:
            made.append(make())
        return made[0]()

    return call


def told(error: Exception) -> str:
    """An error and where it arose, in a few lines."""
    lines = traceback.format_exception(error)
    return "".join(lines[-3:])[-1500:]


class Report:
    """What a benchmark found, as JSON, written after each of its parts.

    A part that fails is a line of `errors`, one whose turn comes after `seconds` a line of `left_out`; the others run all the same.
    """

    def __init__(self, path: Path | None, seconds: float = math.inf, **more: Any):
        self.path, self.until = path, START + seconds
        self.found: dict[str, Any] = {"command": " ".join(["python", *sys.argv]), **machine(), **more}
        self.errors: dict[str, str] = {}

    def part(self, name: str, run: Callable[[], None]) -> None:
        """Runs a part, which puts what it finds into `found`."""
        start = time.monotonic()
        if start > self.until:
            self.found.setdefault("left_out", []).append(name)
        else:
            try:
                run()
            except Exception as error:
                self.errors[name] = told(error)
            self.found.setdefault("seconds", {})[name] = round(time.monotonic() - start, 2)
        if self.errors:
            self.found["errors"] = self.errors
            print(f"failed: {', '.join(self.errors)}", file=sys.stderr, flush=True)
        save(self.found, self.path)


def on_gpu() -> bool:
    return jax.default_backend() == "gpu"


def memory() -> dict[str, int]:
    """Bytes of the first device that were in use at most so far, and how many there are for JAX; nothing where it does not tell."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return {key: stats[key] for key in ("peak_bytes_in_use", "bytes_limit") if key in stats}


def factor(dtype: str, size: int) -> np.ndarray:
    """A random square matrix: chips multiply ones at less power, and so faster, than numbers that differ."""
    normal = np.random.default_rng(0).standard_normal((size, size), np.float32)
    return np.clip(40 * normal, -127, 127).astype(np.int8) if dtype == "int8" else normal


def jax_product(dtype: str, size: int, times: int) -> Call:
    """A square product with sums of 32 bits, a few times in a row."""
    a = jnp.asarray(factor(dtype, size), dtype)
    total = jnp.int32 if dtype == "int8" else jnp.float32
    run = jax.jit(lambda a: jnp.matmul(a, a, preferred_element_type=total))
    return lambda: jax.block_until_ready([run(a) for _ in range(times)][-1])


def torch_device() -> str:
    """Where PyTorch runs: on the GPU, if it knows one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_product(dtype: str, size: int, times: int) -> Call:
    """The same in PyTorch; the corner that is looked at waits for all of it."""
    import torch

    a = torch.from_numpy(factor(dtype, size)).to(torch_device(), getattr(torch, dtype))
    return lambda: [a @ a for _ in range(times)][-1][0, 0].item()


def product_rates(
    runs: int = 7,
    dtypes: Mapping[str, Sequence[str]] | None = None,
    errors: dict[str, str] | None = None,
) -> dict[str, float]:
    """Operations per second of a square product, the best of `runs`, by library and dtype: the measured peak."""
    size, times = (2048, 1) if jax.default_backend() == "cpu" else (8192, 10)
    wanted = dtypes or {"jax": ("float32", "bfloat16", "int8"), "torch": ("float32", "bfloat16")}
    product = {"jax": jax_product, "torch": torch_product}
    found: dict[str, float] = {}
    for library, names in wanted.items():  # one at a time, so that one that fails leaves the others
        for dtype in names:
            name = f"{library} {dtype}"
            try:
                call = product[library](dtype, size, times)
            except Exception as error:
                if errors is None:
                    raise
                errors[name] = told(error)
                continue
            for row in medians({name: call}, runs, 2, errors).values():
                found[name] = 2 * times * size**3 / row["min_s"]
    return found


def machine() -> dict[str, Any]:
    """What a report was made on, and when."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": real_run.machine(),
        "device": jax.devices()[0].device_kind,
        "versions": {name: version(name) for name in ("jax", "flax", "torch")},
        **({"xla_flags": os.environ["XLA_FLAGS"]} if "XLA_FLAGS" in os.environ else {}),
        **({"memory_bytes": memory()["bytes_limit"]} if "bytes_limit" in memory() else {}),
    }


def arguments(about: str, runs: int) -> argparse.ArgumentParser:
    """What the benchmarks against the published way are told alike."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the report, written as far as it has come")
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--seconds", type=float, default=math.inf, help="no part begins after so many")
    parser.add_argument("--instruction-tokens", type=int, default=200)
    parser.add_argument("--profile-tokens", type=int, default=600)
    return parser


def save(report: dict[str, Any], path: Path | None) -> None:
    """As JSON, where a path is given."""
    if path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
