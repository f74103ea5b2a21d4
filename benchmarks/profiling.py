"""What one call spends its time on, by the profiler: kernels of a GPU, or XLA's operations on a CPU."""

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax
from timing import Call

TOP = 40
KINDS = {
    "attention": ("flash", "sdpa", "fmha"),
    "products": ("nvjet", "gemm", "cublas", "cutlass", "dot", "convolution"),
    "copies": ("memcpy", "copy", "transpose", "memset"),
    "reductions": ("reduce",),
}
"""Of what runs, by words in its name, the first that fits; the rest is arithmetic element by element."""
AROUND = ("ThreadpoolListener", "ThunkExecutor", "end: ", "while")
"""Of a CPU: what stands around operations."""


def profile(call: Call) -> dict[str, Any]:
    """One call, after one that is not looked at: its seconds, the share of them in which something ran, and what took most of that."""
    call()
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        jax.profiler.start_trace(folder, profiler_options=options)
        start = time.perf_counter()
        call()
        wall = time.perf_counter() - start
        jax.profiler.stop_trace()
        traces = sorted(Path(folder).rglob("*.xplane.pb"))
        return {"wall_s": wall, **totals(jax.profiler.ProfileData.from_file(str(traces[-1])), wall)}


def totals(data: Any, wall: float) -> dict[str, Any]:
    """Seconds by name, the largest first, and by kind, and how much of `wall` seconds anything ran."""
    seconds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    spans = []
    for plane in data.planes:
        for line in plane.lines:
            if not _runs(plane.name, line.name):
                continue
            for event in line.events:
                if not event.duration_ns or event.name.startswith(AROUND):
                    continue
                operation = dict(event.stats).get("hlo_op")
                name = f"{operation}: {event.name}" if operation and operation != event.name else event.name
                seconds[name[:160]] += event.duration_ns / 1e9
                counts[name[:160]] += 1
                spans.append((event.start_ns, event.start_ns + event.duration_ns))
    total = sum(seconds.values())
    kinds: Counter[str] = Counter()
    for name, found in seconds.items():
        kinds[kind(name)] += found
    return {
        "busy_s": busy(spans) / 1e9,
        "busy_share": busy(spans) / 1e9 / wall,
        "events": sum(counts.values()),
        "seconds_by_kind": dict(kinds.most_common()),
        "top": [
            {"name": name, "seconds": found, "count": counts[name], "share": found / total}
            for name, found in seconds.most_common(TOP)
        ],
    }


def _runs(plane: str, line: str) -> bool:
    """Whether a line of a trace holds what ran: a GPU's streams, not what the profiler derives from them; a CPU's own threads."""
    if "/device:" in plane:
        return line.startswith("Stream")
    return jax.default_backend() == "cpu" and plane == "/host:CPU" and line.startswith("tf_XLA")


def kind(name: str) -> str:
    """What it does, by its name."""
    return next((kind for kind, words in KINDS.items() if any(word in name.lower() for word in words)), "elementwise")


def busy(spans: list[tuple[float, float]]) -> float:
    """Length of the union."""
    total, until = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return total
