"""One optimizer step of one stage, as a jitted function on the mesh."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import repeat
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from satjax.config import BatchConfig, LossConfig
from satjax.models.router_model import Params, ProfileInputs, RouterModel, bind
from satjax.sharding import RULES, check_batch, constrain, on_mesh, param_shardings, place, replicated
from satjax.training.batches import Batch, Columns
from satjax.training.losses import total_loss

Metrics = dict[str, jax.Array]


def rows_of_a_pass(config: BatchConfig, mesh: Mesh) -> int:
    """Instructions that go through the model at once; raises SatjaxError where the mesh does not divide them."""
    groups = config.groups // config.accumulate
    rows = groups * config.instructions
    check_batch(rows, mesh, f"config batch: one pass of {groups} groups x {config.instructions} instructions")
    return rows


def abstract_batch(config: BatchConfig, mesh: Mesh, columns: Columns, num_candidates: int) -> dict[str, Any]:
    """Shapes, dtypes and shardings of a batch on the mesh, its groups cut into the passes of `accumulate`; `columns` are what it has of an instruction.

    `text`: `[A, R, ...]` with R instructions of a pass; `candidate` `[A, G, M]`, `outcome` `[A, G, B, M]`; `seed` uint32 `[A, G]`, of what of a group is
    hidden, into however many passes it is cut.
    """
    passes, rows = config.accumulate, rows_of_a_pass(config, mesh)
    groups, whole = config.groups // passes, replicated(mesh)
    by_row = NamedSharding(mesh, PartitionSpec(None, RULES["batch"]))

    def array(sharding: NamedSharding, dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((passes, *shape), dtype, sharding=sharding)

    return {
        "text": {name: array(by_row, one.dtype, rows, *one.shape) for name, one in columns.items()},
        "candidate": array(whole, jnp.int32, groups, num_candidates),
        "outcome": array(whole, jnp.float32, groups, config.instructions, num_candidates),
        "seed": array(whole, jnp.uint32, groups),
    }


def place_batch(batch: Batch, config: BatchConfig, mesh: Mesh) -> dict[str, Any]:
    """A batch as `abstract_batch` has it; each host gathers the rows that its devices hold, and no others."""
    like = abstract_batch(config, mesh, batch.data.columns(batch.width), batch.candidate.shape[1])
    index_AR = batch.index.reshape(config.accumulate, -1)

    def column(name: str, one: jax.ShapeDtypeStruct) -> jax.Array:
        return jax.make_array_from_callback(
            one.shape,
            one.sharding,
            lambda index: batch.data.gather(index_AR[(index or ())[:2]], batch.width)[name],
        )

    def whole(name: str, value: np.ndarray) -> jax.Array:
        return place(np.asarray(value, like[name].dtype).reshape(like[name].shape), like[name].sharding)

    return {
        "text": {name: column(name, one) for name, one in like["text"].items()},
        "candidate": whole("candidate", batch.candidate),
        "outcome": whole("outcome", batch.outcome),
        "seed": whole("seed", np.random.SeedSequence(batch.key).generate_state(config.groups)),
    }


def kept_features(seed_G: jax.Array, shape: tuple[int, ...], hidden: float) -> jax.Array:
    """What standardized features `[R, F]` of G groups are multiplied with: 0 for a share `hidden` of them, for the others what keeps the expectation."""
    of_group = shape[0] // len(seed_G), shape[1]
    kept_GBF = jax.vmap(lambda seed: jax.random.bernoulli(jax.random.key(seed), 1 - hidden, of_group))(seed_G)
    return constrain(kept_GBF.reshape(shape) / (1 - hidden), "batch")


def profiles_of(inputs: ProfileInputs, candidate_GM: jax.Array) -> tuple[ProfileInputs, jax.Array]:
    """The profiles that a pass asks for, and where each of its candidates stands among them.

    A text of 1,450 tokens for every candidate of the zoo is more than the LLM's own work where a pass compares instructions of one. All stay where
    no fewer are asked for, or where psi reads tasks, not candidates.
    """
    if inputs.token.ndim == 2 or candidate_GM.size >= len(inputs.token):
        return inputs, candidate_GM
    asked = jax.tree.map(lambda value: value[candidate_GM.reshape(-1)], inputs)
    return asked, jnp.arange(candidate_GM.size).reshape(candidate_GM.shape)


def scores_of(
    model: RouterModel,
    batch: Mapping[str, Any],
    inputs: ProfileInputs,
    embedding: jax.Array | None,
    hidden_features: float = 0.0,
) -> jax.Array:
    """Scores float32 `[G, B, M]` of one pass of a batch (`abstract_batch`); without an `embedding`, psi reads the profiles here."""
    candidate_GM = batch["candidate"]
    if embedding is None:
        inputs, candidate_GM = profiles_of(inputs, candidate_GM)
        embedding = model.embed_profiles(inputs)
    soft_MKD = model.soft_tokens(embedding, inputs)
    num_groups, num_instructions = batch["outcome"].shape[:2]
    soft_RMKD = repeat(soft_MKD[candidate_GM], "g m k d -> (g b) m k d", b=num_instructions)
    soft_RMKD = constrain(soft_RMKD, "batch")
    text = batch["text"]
    if "feature" in text or hidden_features:
        feature_RF = text["feature"] if "feature" in text else model.features(text["token"], text["length"])
        kept_RF = kept_features(batch["seed"], feature_RF.shape, hidden_features) if hidden_features else None
        score_RM = model.score_features(feature_RF, soft_RMKD, kept_RF)
    else:
        score_RM = model.score(text["token"], text["length"], soft_RMKD)
    # Few numbers: every device takes the loss of the whole batch, or the groups would be sent around in pieces. Their pairs are many, and are
    # never held all at once (`satjax.training.losses`).
    return constrain(score_RM).reshape(num_groups, num_instructions, -1)


def make_score_step(graphdef: nnx.GraphDef, mesh: Mesh, embeds_profiles: bool) -> jax.stages.Wrapped:
    """`score(params, batch, inputs, embedding) -> float32 [A, G, B, M]`: what a train step would score before it learns, with nothing hidden, on every device."""

    @partial(jax.jit, out_shardings=replicated(mesh))
    def score(params: Params, batch: dict, inputs: ProfileInputs, embedding: jax.Array) -> jax.Array:
        model, embedded = bind(graphdef, params), None if embeds_profiles else embedding

        def one_pass(_: None, part: dict) -> tuple[None, jax.Array]:
            with on_mesh(mesh):
                return None, scores_of(model, part, inputs, embedded)

        return jax.lax.scan(one_pass, None, batch)[1]

    return score


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    loss: LossConfig,
    mesh: Mesh,
    trainable: Mapping[str, jax.Array],
    opt_state: Any,
    embeds_profiles: bool,
    hidden_features: float = 0.0,
) -> jax.stages.Wrapped:
    """`step(trainable, frozen, opt_state, batch, inputs, embedding) -> (trainable, opt_state, metrics)`.

    Gradients exist for the trainable parameters only. Where the stage trains psi (`embeds_profiles`), profiles are embedded inside
    the step; otherwise `embedding` is what psi gave once. `hidden_features` is the share of the features that a pass hides. `trainable` and `opt_state` show how these lie on the mesh. Metrics are float32 scalars: `loss`, its parts, `gradient_norm`.
    """

    # Results lie as their inputs do, or the second step would be compiled anew.
    placed = param_shardings(trainable, mesh), jax.tree.map(lambda leaf: leaf.sharding, opt_state)

    def loss_of(trainable: Params, frozen: Params, batch: dict, inputs: ProfileInputs, embedding: jax.Array) -> tuple:
        embedded = None if embeds_profiles else embedding
        score_GBM = scores_of(bind(graphdef, {**frozen, **trainable}), batch, inputs, embedded, hidden_features)
        return total_loss(score_GBM, batch["outcome"], loss)

    def step(
        trainable: Params, frozen: Params, opt_state: Any, batch: dict, inputs: ProfileInputs, embedding: jax.Array
    ) -> tuple[Params, Any, Metrics]:
        def one_pass(gradient: Params, part: dict) -> tuple[Params, Metrics]:
            with on_mesh(mesh):
                (value, parts), more = jax.value_and_grad(loss_of, has_aux=True)(
                    trainable, frozen, part, inputs, embedding
                )
            more = jax.lax.with_sharding_constraint(more, placed[0])
            return jax.tree.map(jnp.add, gradient, more), {"loss": value, **parts}

        zero = jax.tree.map(lambda value: jnp.zeros(value.shape, jnp.float32), trainable)
        gradient, metrics = jax.lax.scan(one_pass, zero, batch)
        passes = batch["outcome"].shape[0]
        gradient = jax.tree.map(lambda value: value / passes, gradient)
        metrics = {name: jnp.mean(value) for name, value in metrics.items()} | {
            "gradient_norm": optax.tree.norm(gradient)
        }
        updates, opt_state = optimizer.update(gradient, opt_state, trainable)
        return optax.apply_updates(trainable, updates), opt_state, metrics

    # XLA's CPU client may still be copying a donated buffer into an asynchronous checkpoint.
    donate = () if mesh.devices.flat[0].platform == "cpu" else (0, 2)
    return jax.jit(step, donate_argnums=donate, out_shardings=(*placed, replicated(mesh)))
