"""Fits a small model of logits by full-batch AdamW and dropout, stopped where the validation fold says."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from satjax.evaluation.baselines.data import Fold

Params = dict[str, jax.Array]
Logits = Callable[[Params, jax.Array], jax.Array]
"""`logits(params, embedding_BE)`: float32 `[B, M]`."""

STEPS_PER_LOOK = 10
MOST_LOOKS = 200
PATIENCE = 5
"""Looks at the validation loss without a better one until training stops."""


@partial(jax.tree_util.register_dataclass, data_fields=("weight_decay", "learning_rate", "dropout"), meta_fields=())
@dataclass(frozen=True)
class Training:
    """Weight decay (AdamW, arXiv 1711.05101), on matrices only, learning rate, and the share of an embedding's entries that each step leaves out."""

    weight_decay: float
    learning_rate: float
    dropout: float = 0.0


def fit_logits(
    logits: Logits, params: Params, train: Fold, val: Fold, training: Training, key: jax.Array
) -> tuple[Params, int]:
    """Minimizes cross-entropy over the observed pairs of `train`; returns the parameters best on `val`, and their step.

    The batch is everything: neither the order of rows nor that of candidates has a say. `key` draws what is left out.
    """
    # What is left out of a row goes by its place, which is therefore one among all rows sorted.
    order = np.lexsort(train.instructions.embedding_BE.T)
    rows = jnp.asarray(train.instructions.embedding_BE[order]), jnp.asarray(train.outcome_BM[order])
    held = jnp.asarray(val.instructions.embedding_BE), jnp.asarray(val.outcome_BM)
    state = _optimizer(training).init(params)
    best, best_loss, best_step = params, np.inf, 0
    for look in range(MOST_LOOKS):
        loss = float(_loss(logits, params, *held))
        if loss < best_loss:
            best, best_loss, best_step = params, loss, look * STEPS_PER_LOOK
        elif look * STEPS_PER_LOOK - best_step >= PATIENCE * STEPS_PER_LOOK:
            break
        params, state = _advance(
            logits, training.dropout > 0, training, params, state, *rows, jax.random.fold_in(key, look)
        )
    return best, best_step


def _optimizer(training: Training) -> optax.GradientTransformation:
    matrices = lambda params: jax.tree.map(lambda value: value.ndim > 1, params)  # noqa: E731
    return optax.adamw(training.learning_rate, weight_decay=training.weight_decay, mask=matrices)


@partial(jax.jit, static_argnums=0)
def _loss(logits: Logits, params: Params, embedding_BE: jax.Array, outcome_BM: jax.Array) -> jax.Array:
    seen = ~jnp.isnan(outcome_BM)
    each = optax.sigmoid_binary_cross_entropy(logits(params, embedding_BE), jnp.where(seen, outcome_BM, 0.5))
    return jnp.sum(jnp.where(seen, each, 0)) / jnp.maximum(seen.sum(), 1)


@partial(jax.jit, static_argnums=(0, 1))
def _advance(
    logits: Logits,
    drops: bool,
    training: Training,
    params: Params,
    state: optax.OptState,
    embedding_BE: jax.Array,
    outcome_BM: jax.Array,
    key: jax.Array,
) -> tuple[Params, optax.OptState]:
    """Steps until the next look. What a grid varies is traced: all of its settings are two programs, one that leaves entries out and one that does not."""
    optimizer = _optimizer(training)

    def step(carry: tuple[Params, optax.OptState], key: jax.Array) -> tuple[tuple[Params, optax.OptState], None]:
        params, state = carry
        seen_BE = _left_out(embedding_BE, training.dropout, key) if drops else embedding_BE
        grads = jax.grad(partial(_loss, logits))(params, seen_BE, outcome_BM)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    carry, _ = jax.lax.scan(step, (params, state), jax.random.split(key, STEPS_PER_LOOK))
    return carry


def _left_out(embedding_BE: jax.Array, dropout: float | jax.Array, key: jax.Array) -> jax.Array:
    """The embeddings without some of their entries, the others as much larger as keeps the mean."""
    return embedding_BE * jax.random.bernoulli(key, 1 - dropout, embedding_BE.shape) / (1 - dropout)
