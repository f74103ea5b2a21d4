"""python benchmarks/scale.py --out benchmarks/results/scale_cpu.json --plot benchmarks/results/scale_cpu.png

How time and memory of ranking grow with the number of candidates (1 to 10,000), the length of the instruction (16 to 2,048 tokens) and the number
of instructions, in one run: for the router that comes with satjax, and for the LLM that answers for every candidate. Memory is what the compiled
program takes beside parameters, inputs and results.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).parent))
from subjects import Answering, instruction, with_candidates
from timing import Call, machine, medians, save

from satjax import Router
from satjax.scoring import FeatureScorer

CANDIDATES = (1, 10, 25, 100, 1000, 10_000)
LENGTHS = (16, 64, 200, 512, 1024, 2048)
BATCHES = (1, 4, 16, 64)
TOKENS = 200


def features(router: Router, tokens: int, rows: int = 1) -> tuple[Call, int]:
    """The default router's pass over `rows` instructions of so many tokens, nothing padded, and its memory."""
    assert isinstance(router._scorer, FeatureScorer)
    reader = router._scorer.features
    token, length = jnp.ones((rows, tokens), jnp.int32), jnp.full(rows, tokens, jnp.int32)
    memory = reader._run.lower(router._scorer.params, token, length).compile().memory_analysis().temp_size_in_bytes
    return lambda: jax.block_until_ready(reader._run(router._scorer.params, token, length)), int(memory)


def measured(calls: dict[int, Call], memory: dict[int, int], runs: int) -> list[dict[str, float]]:
    found = medians({str(size): call for size, call in calls.items()}, runs)
    return [{"size": size, **found[str(size)], "bytes": memory[size]} for size in calls]


def heads_memory(router: Router, candidates: int) -> int:
    soft = jnp.zeros((candidates, *next(iter(router._zoo.soft.values())).shape[1:]))
    assert isinstance(router._scorer, FeatureScorer)
    feature = jnp.zeros((1, router._scorer.features.read(router._scorer.params, ["x"]).shape[1]))
    lowered = router._scorer._run.lower(router._scorer.params, feature, soft)
    return int(lowered.compile().memory_analysis().temp_size_in_bytes)


def plot(series: dict[str, dict[str, list[dict[str, float]]]], target: Path) -> None:
    """Time over the smallest size's, and memory: a PNG at `target`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), dpi=110, layout="constrained")
    grid = figure.subplots(2, 3)
    for column, (what, methods) in enumerate(series.items()):
        for name, rows in methods.items():
            size = [row["size"] for row in rows]
            grid[0, column].plot(size, [row["median_s"] / rows[0]["median_s"] for row in rows], marker="o", label=name)
            grid[1, column].plot(size, [max(row["bytes"], 1e4) / 2**20 for row in rows], marker="o", label=name)
        grid[0, column].set(title=what, ylabel="time, of the first point", xscale="log", yscale="log")
        grid[1, column].set(xlabel=what, ylabel="MiB beside the parameters", xscale="log", yscale="log")
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    grid[0, 0].legend()
    figure.savefig(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--points", type=int, default=len(CANDIDATES), help="sizes of each series, from the smallest")
    options = parser.parse_args()
    candidates, lengths, batches = (sizes[: options.points] for sizes in (CANDIDATES, LENGTHS, BATCHES))
    logging.getLogger("satjax").setLevel(logging.ERROR)
    router, answering = Router.load(), Answering(0)
    text = instruction(router, TOKENS)
    routers = {count: with_candidates(router, count) for count in candidates}
    pass_memory = features(router, TOKENS)[1]
    by_length = {length: features(router, length) for length in lengths}
    by_batch = {rows: features(router, TOKENS, rows) for rows in batches}
    shipped, answer = "the router that comes with satjax", "the LLM's answer"
    series = {
        "candidates": {
            shipped: measured(
                {count: lambda r=r: r.rank(text) for count, r in routers.items()},
                {count: max(pass_memory, heads_memory(router, count)) for count in candidates},
                options.runs,
            ),
            answer: measured(
                {count: answering.score(text, count) for count in candidates},
                {count: answering.memory(text, count) for count in candidates},
                min(options.runs, 3),
            ),
        },
        "tokens of the instruction": {
            shipped: measured(
                {length: call for length, (call, _) in by_length.items()},
                {length: memory for length, (_, memory) in by_length.items()},
                options.runs,
            ),
            answer: measured(
                {length: answering.score(instruction(router, length), 25) for length in lengths},
                {length: answering.memory(instruction(router, length), 25) for length in lengths},
                min(options.runs, 3),
            ),
        },
        "instructions at once": {
            shipped: measured(
                {rows: call for rows, (call, _) in by_batch.items()},
                {rows: memory for rows, (_, memory) in by_batch.items()},
                options.runs,
            ),
            answer: measured(
                {rows: answering.score(text, 25, rows) for rows in batches},
                {rows: answering.memory(text, 25, rows) for rows in batches},
                min(options.runs, 3),
            ),
        },
    }
    for what, methods in series.items():
        for name, rows in methods.items():
            print(f"\n{name}, by {what}")
            for row in rows:
                ratio = row["median_s"] / rows[0]["median_s"]
                print(f"{row['size']:8,} {ratio:10.2f} of the first {row['bytes'] / 2**20:10.1f} MiB")
    report: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        **machine(),
        "series": series,
    }
    if options.plot:
        plot(series, options.plot)
    save(report, options.out)


if __name__ == "__main__":
    main()
