"""Optimizer steps of our layout, for the benchmarks of training: compiled ahead of time, so that compiling is measured and done once."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import memory, told

from satjax.assembly import assemble, attention_kernel
from satjax.config import (
    Attention,
    LLMConfig,
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    PromptConfig,
    RouterConfig,
    StageConfig,
)
from satjax.config.load import load_config
from satjax.models.narrow import fixed_dtype
from satjax.models.router_model import Params, ProfileInputs, RouterModelConfig, abstract_model
from satjax.preflight.steps import make_plan
from satjax.sharding import abstract_on_mesh, make_mesh, param_shardings
from satjax.training.optimizer import make_optimizer, partition, trainable_paths
from satjax.training.train_step import make_train_step

CANDIDATES = 25
TASKS, KEYWORD_TOKENS = 50, 16


class Step:
    """One optimizer step of our layout on some instructions and all of their candidates' outcomes; nothing is padded."""

    def __init__(
        self,
        model: RouterModelConfig,
        stage: StageConfig,
        base: Mapping[str, np.ndarray],
        rows: int,
        tokens: int,
        frozen_dtype: str = "float32",
    ):
        """`base` are the weights that are at hand; all others are random, made where they stay. What is trained is float32, kernels that are not have
        the dtype in which they are used (`satjax.assembly.Assembly.fixed`), and other base weights `frozen_dtype`.
        """
        self.model, self.rows, self.tokens = model, rows, tokens
        graphdef, shapes = abstract_model(model)
        mesh = make_mesh(MeshConfig(), jax.devices()[:1])
        shardings, chosen = param_shardings(shapes, mesh), trainable_paths(shapes, stage)

        used, frozen = jnp.dtype(model.compute_dtype), jnp.dtype(frozen_dtype)

        def dtype(path: str, shape: tuple[int, ...]) -> jnp.dtype:
            return jnp.dtype("float32") if path in chosen else fixed_dtype(path, shape, frozen, used)

        like = {
            path: jax.ShapeDtypeStruct(leaf.shape, dtype(path, leaf.shape), sharding=shardings[path])
            for path, leaf in shapes.items()
        }
        given = {path: jax.device_put(base[path].astype(like[path].dtype), shardings[path]) for path in base}
        params = given | random_params({path: leaf for path, leaf in like.items() if path not in base})
        trained, self.frozen = partition(params, chosen)
        optimizer = make_optimizer(stage, OptimizerConfig())
        state = abstract_on_mesh(jax.eval_shape(optimizer.init, trained), like, mesh)
        placed = jax.tree.map(lambda leaf: leaf.sharding, state)
        self.state = (trained, jax.jit(optimizer.init, out_shardings=placed)(trained))
        rng = np.random.default_rng(0)
        self.batch = {
            "text": {
                "token": jnp.asarray(rng.integers(10, 30_000, (1, rows, tokens)), jnp.int32),
                "length": jnp.full((1, rows), tokens, jnp.int32),
            },
            "candidate": jnp.arange(CANDIDATES)[None, None],
            "outcome": jnp.asarray(rng.integers(0, 2, (1, 1, rows, CANDIDATES)), jnp.float32),
            "seed": jnp.zeros((1, 1), jnp.uint32),
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
        self.step = make_train_step(graphdef, optimizer, LossConfig(), mesh, trained, state, embeds_profiles=False)
        self.run: Any = None
        self.compiling: dict[str, Any] = {}

    def compile(self, options: Sequence[str] = ()) -> None:
        """Ahead of time, with XLA's options (`NAME=VALUE`) where XLA knows them; `compiling` says what that took and what the program needs."""
        start = time.perf_counter()
        lowered = self.step.lower(self.state[0], self.frozen, self.state[1], self.batch, self.inputs, self.embedding)
        middle = time.perf_counter()
        try:
            self.run = lowered.compile(compiler_options=dict(map(option, options)) or None)
        except Exception as error:
            if not options or "RESOURCE_EXHAUSTED" in str(error):
                raise
            self.compiling["options_failed"] = told(error)
            self.run = lowered.compile()
        self.compiling |= {"lower_s": middle - start, "compile_s": time.perf_counter() - middle}
        if analysis := self.run.memory_analysis():
            for part in ("argument", "output", "alias", "temp"):
                self.compiling[f"{part}_bytes"] = getattr(analysis, f"{part}_size_in_bytes")

    def __call__(self) -> None:
        if self.run is None:
            self.compile()
        *state, metrics = self.run(self.state[0], self.frozen, self.state[1], self.batch, self.inputs, self.embedding)
        jax.block_until_ready(metrics)
        self.state = (state[0], state[1])


def option(text: str) -> tuple[str, str | bool | int]:
    """`NAME=VALUE` as XLA takes it."""
    name, _, value = text.partition("=")
    if value in ("true", "false"):
        return name, value == "true"
    return name, int(value) if value.lstrip("-").isdigit() else value


def random_params(like: Mapping[str, jax.ShapeDtypeStruct]) -> Params:
    """Small random numbers in these shapes and dtypes, made on the device by its own generator; gains are 1."""

    def make(key: jax.Array) -> Params:
        found = {}
        for number, (path, leaf) in enumerate(like.items()):
            if path.endswith(("scale", "spread")):
                found[path] = jnp.ones(leaf.shape, leaf.dtype)
            else:
                found[path] = 0.02 * jax.random.normal(jax.random.fold_in(key, number), leaf.shape, leaf.dtype)
        return found

    placed = {path: leaf.sharding for path, leaf in like.items()}
    return jax.jit(make, out_shardings=placed)(jax.random.key(0, impl="rbg"))


def small_step(trainable: str, rows: int, tokens: int, attention: Attention = "auto", **llm: Any) -> Step:
    """SmolLM2-135M, with its weights."""
    prompt = PromptConfig(buckets=(max(tokens, 64),))
    assembly = assemble(RouterConfig(llm=LLMConfig(**llm), prompt=prompt, attention=attention))
    base = {path: np.asarray(value[...]) for path, value in assembly.base_params.items()}
    return Step(assembly.model, StageConfig("all", 10, 1e-5, ("connector/.*", trainable)), base, rows, tokens)


def large_step(
    config: str, trainable: str, rows: int, tokens: int, remat: str = "", attention: Attention = "auto"
) -> Step:
    """The LLM of a config with random weights, on the kernel for attention that this machine has; its text encoder stays as it is."""
    plan = make_plan(load_config(config), CANDIDATES)
    decoder, here = plan.model.decoder, jax.default_backend()
    kernel = attention_kernel(attention, here, plan.model.compute_dtype, decoder.head_width, tokens)
    model = dataclasses.replace(
        plan.model, decoder=dataclasses.replace(decoder, attention=kernel), remat=remat or plan.model.remat
    )
    stage = StageConfig("all", 10, 1e-5, ("connector/.*", trainable))
    return Step(model, stage, {}, rows, tokens, "bfloat16")


def flops(step: Step, on_text: float = 3.0, on_suffix: float = 3.0) -> float:
    """Products of a step; causal attention counted whole, nothing that is computed again.

    Full fine-tuning takes every kernel three times: forward, and backward to its input and to itself. LoRA leaves out the last for kernels, and for
    tokens that it does not adapt the backward pass.
    """
    llm, tail = step.model.decoder, len(step.model.tail_ids)
    heads, groups = llm.num_heads * llm.head_width, llm.num_kv_heads * llm.head_width
    kernels = llm.width * 2 * (heads + groups) + 3 * llm.width * llm.mlp_width
    suffix = CANDIDATES * (1 + tail)
    back = 3.0  # attention has no kernel: its products have two inputs each, and each has a gradient
    text = step.tokens * (on_text * 2 * kernels + min(on_text * 2 - 1, back) * 4 * step.tokens * heads)
    each = text + suffix * (on_suffix * 2 * kernels + back * 4 * (step.tokens + 1 + tail) * heads)
    return step.rows * llm.num_layers * each


def summary(step: Step, figure: Mapping[str, float], work: float, peak: float) -> dict[str, Any]:
    """What a step took, of which size it was, and its share of the measured rate of products."""
    done = work / figure["median_s"]
    return {
        **figure,
        "rows": step.rows,
        "attention": step.model.decoder.attention,
        "remat": step.model.remat,
        "flops": work,
        "flops_per_second": done,
        "share_of_the_rate_of_products": done / peak,
        "parameters_of_the_llm": sum(
            value.size for part in (step.state[0], step.frozen) for path, value in part.items() if path[:4] == "llm/"
        ),
        **step.compiling,
        **memory(),
    }
