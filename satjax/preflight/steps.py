"""The train step and the rank step with shapes in the place of arrays: the functions that really run, lowered for chips that nobody holds."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from tokenizers import Tokenizer, models

from satjax.assembly import model_config
from satjax.config import RouterConfig, StageConfig, TrainConfig
from satjax.features.reader import of_texts_alone
from satjax.features.row_batches import Batching
from satjax.instructions import PromptWriter, prompt_writer
from satjax.models.narrow import fixed_dtype
from satjax.models.router_model import ProfileInputs, RouterModelConfig, abstract_model
from satjax.models.text_encoder import Pooling
from satjax.scoring.llm import score_step, sets_at_once
from satjax.sharding import abstract_on_mesh, batch_sharding, batch_shards, param_shardings, replicated
from satjax.training.batches import Columns, feature_columns, token_columns
from satjax.training.job import reads_features
from satjax.training.optimizer import check_trained, make_optimizer, partition, trainable_paths
from satjax.training.train_step import abstract_batch, make_train_step
from satjax.weights.base import open_base
from satjax.weights.fetch import resolve
from satjax.weights.pooling import check_modules, stated_pooling
from satjax.weights.published import published_config

PROFILE_TOKENS_PER_TASK = 24
"""A task's sentence in a profile: the 50 tasks of the paper take about 1,200 tokens."""
KEYWORD_TOKENS = 32
"""Five keywords and a query prefix, at most."""

Shapes = dict[str, Any]
"""`ShapeDtypeStruct`s, with shardings, where a running step has arrays."""


@dataclass(frozen=True)
class Plan:
    """What is compiled: a config with the shapes of its model, the stage, and how many candidates there are to train on."""

    config: TrainConfig
    model: RouterModelConfig
    stage: StageConfig
    num_candidates: int

    @property
    def trained(self) -> list[str]:
        """Paths of the parameters that the stage trains."""
        return trainable_paths(abstract_model(self.model)[1], self.stage)

    @property
    def embeds(self) -> bool:
        """Whether psi runs inside the step: it is trained."""
        return any(path.startswith("encoder/") for path in self.trained)

    @property
    def reads_features(self) -> bool:
        """Whether its steps read what a frozen LLM made of the instructions."""
        return reads_features(self.config, abstract_model(self.model)[1], self.config.stages.index(self.stage))

    @property
    def bucket(self) -> int:
        """The longest bucket: what has to fit."""
        return self.config.router.prompt.max_tokens

    @property
    def candidates(self) -> int:
        """Candidates to one group."""
        return self.config.batch.candidates or self.num_candidates


def make_plan(config: TrainConfig, num_candidates: int) -> Plan:
    """The stage that trains most parameters, on base models known by name or opened where they are; no weight is read.

    Where the ability head scores alone, it is one of those that read tokens, if any does: features need next to nothing.

    Raises SatjaxError where the base models can not be had or do not fit the config, and where its stages leave something as it was initialized.
    """
    router = config.router
    llm, writer = _llm(router)
    encoder: Mapping[str, Any] | None = None
    pooling: Pooling = "mean"  # of all published ones here
    if router.profile_encoder.kind != "items":
        encoder = published_config(router.encoder.weights)
        if encoder is None:
            directory = resolve(router.encoder.weights).directory
            check_modules(directory)
            encoder, pooling = open_base(directory).config, stated_pooling(directory)
    model = model_config(router, llm, encoder, writer, platform="tpu", pooling=pooling)
    if encoder is None:
        model = dataclasses.replace(model, num_candidates=num_candidates)
    _, shapes = abstract_model(model)
    check_trained(shapes, config.stages)
    sizes = {path: leaf.size for path, leaf in shapes.items()}
    plans = [Plan(config, model, stage, num_candidates) for stage in config.stages]
    return max(plans, key=lambda plan: (not plan.reads_features, sum(sizes[path] for path in plan.trained)))


def _llm(config: RouterConfig) -> tuple[Mapping[str, Any], PromptWriter]:
    """The LLM's `config.json`, and a writer of its prompts; without a tokenizer, one that knows the tail's length only."""
    if known := published_config(config.llm.weights):
        tail = range(1 + len(config.prompt.tail.split()) + config.prompt.tail.count(":")) if config.prompt.tail else ()
        tail_ids = tuple(tail) if config.prompt.layout == "instruction_first" else ()
        return known, PromptWriter(config.prompt, Tokenizer(models.BPE()), (), (), tail_ids, 0, 1)
    base = open_base(resolve(config.llm.weights).directory)
    return base.config, prompt_writer(config.prompt, base.tokenizer, base.config.get("bos_token_id"))


def lower_train_step(plan: Plan, mesh: Mesh) -> jax.stages.Lowered:
    """The step of `satjax.training.train_step` for a batch of the longest bucket; raises SatjaxError where the mesh does not divide the batch."""
    graphdef, _ = abstract_model(plan.model)
    params = abstract_params(plan, mesh)
    trainable, frozen = partition(params, plan.trained)
    optimizer = make_optimizer(plan.stage, plan.config.optimizer)
    state = abstract_on_mesh(jax.eval_shape(optimizer.init, trainable), params, mesh)
    hidden = plan.config.batch.hidden_features
    step = make_train_step(graphdef, optimizer, plan.config.loss, mesh, trainable, state, plan.embeds, hidden)
    inputs = profile_inputs(plan, mesh)
    embedding = _on(mesh, () if plan.embeds else (0, 0), jnp.float32)
    if not plan.embeds and plan.model.encoder:
        rows = plan.config.aptitude.num_tasks if plan.model.profile_encoder.kind == "tasks" else plan.num_candidates
        embedding = _on(mesh, (rows, plan.model.encoder.width), jnp.float32)
    batch = abstract_batch(plan.config.batch, mesh, columns(plan), plan.candidates)
    return step.lower(trainable, frozen, state, batch, inputs, embedding)


def lower_rank_step(plan: Plan, mesh: Mesh) -> jax.stages.Lowered:
    """`satjax.scoring.llm.score_step` for one full batch of the longest bucket against every candidate."""
    graphdef, _ = abstract_model(plan.model)
    rows, by_row = rank_rows(plan, mesh), batch_sharding(mesh)
    soft = (plan.num_candidates, 1, plan.model.ability_head.rank + 1)
    if plan.model.encoder:
        soft = (rank_sets(plan, mesh), plan.model.profile_encoder.soft_tokens, plan.model.decoder.width)
    return score_step(graphdef, mesh).lower(
        abstract_params(plan, mesh),
        jax.ShapeDtypeStruct((rows, plan.bucket), jnp.int32, sharding=by_row),
        jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=by_row),
        _on(mesh, soft, jnp.float32),
    )


def rank_rows(plan: Plan, mesh: Mesh) -> int:
    """Instructions of a full batch of the longest bucket (`satjax.features.row_batches`)."""
    batching = Batching(mesh)
    if plan.model.head == "none":
        batching = of_texts_alone(batching, plan.model, accelerator=True)
    return batching.sizes_at(plan.bucket)[-1]


def zoo_sets(plan: Plan) -> int:
    """Sets of soft tokens that are scored: one for each candidate and task order."""
    options = plan.model.profile_encoder
    return plan.num_candidates * (options.orders if options.kind == "text" else 1)


def rank_sets(plan: Plan, mesh: Mesh) -> int:
    """Those of them that a batch of instructions meets at once."""
    rows = -(-rank_rows(plan, mesh) // batch_shards(mesh))
    return min(zoo_sets(plan), sets_at_once(plan.model.layout, rows, plan.bucket))


def with_rows(plan: Plan, rows: int) -> Plan:
    """The same with `rows` instructions to a step, in one pass; groups stay as large as they can."""
    most = plan.config.batch.instructions
    size = max(size for size in range(1, min(most, rows) + 1) if rows % size == 0)
    batch = dataclasses.replace(plan.config.batch, groups=rows // size, instructions=size, accumulate=1)
    return dataclasses.replace(plan, config=dataclasses.replace(plan.config, batch=batch))


def abstract_params(plan: Plan, mesh: Mesh) -> Shapes:
    """Parameters as training holds them: what is learned in float32, base weights that no stage trains in the config's dtype, kernels of the LLM's
    layers among them in that of the computation where it is narrower (`satjax.assembly.Assembly.fixed`).
    """
    _, shapes = abstract_model(plan.model)
    shardings, base = param_shardings(shapes, mesh), jnp.dtype(plan.config.router.param_dtype)
    learned = {path for stage in plan.config.stages for path in trainable_paths(shapes, stage)}

    def dtype(path: str) -> jnp.dtype:
        fixed = path.startswith(("llm/", "encoder/")) and "/lora_" not in path and path not in learned
        if not fixed:
            return jnp.dtype(jnp.float32)
        return fixed_dtype(path, shapes[path].shape, base, jnp.dtype(plan.model.compute_dtype))

    return {
        path: jax.ShapeDtypeStruct(leaf.shape, dtype(path), sharding=shardings[path]) for path, leaf in shapes.items()
    }


def columns(plan: Plan) -> Columns:
    """What its steps read of an instruction of the longest bucket."""
    return feature_columns(plan.model.num_features) if plan.reads_features else token_columns(plan.bucket)


def profile_inputs(plan: Plan, mesh: Mesh) -> ProfileInputs:
    """Profiles of all candidates; a text profile takes as many chunks as the encoder needs to read all of it."""
    tasks, candidates, encoder = plan.config.aptitude.num_tasks, plan.num_candidates, plan.model.encoder
    if encoder is None:
        return ProfileInputs(*(_on(mesh, (0, 0), jnp.float32) for _ in range(4)))
    rows, width = profile_inputs_shape(plan)
    shape = (candidates, rows // candidates) if plan.model.profile_encoder.kind == "text" else (rows,)
    numbers = _on(mesh, (candidates, tasks), jnp.float32)
    return ProfileInputs(_on(mesh, (*shape, width), jnp.int32), _on(mesh, shape, jnp.int32), numbers, numbers)


def profile_inputs_shape(plan: Plan) -> tuple[int, int]:
    """Rows that psi reads, and their tokens."""
    tasks, encoder = plan.config.aptitude.num_tasks, plan.model.encoder
    assert encoder is not None
    if plan.model.profile_encoder.kind == "tasks":
        return tasks, KEYWORD_TOKENS
    tokens = tasks * PROFILE_TOKENS_PER_TASK
    return plan.num_candidates * -(-tokens // encoder.max_positions), min(encoder.max_positions, tokens)


def _on(mesh: Mesh, shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=replicated(mesh))
