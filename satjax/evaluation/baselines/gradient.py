"""Fits a small model of logits by full-batch AdamW, stopped where the validation fold says."""

from collections.abc import Callable
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


def fit_logits(
    logits: Logits, params: Params, train: Fold, val: Fold, weight_decay: float, learning_rate: float
) -> tuple[Params, int]:
    """Minimizes cross-entropy over the observed pairs of `train`; returns the parameters best on `val`, and their step.

    The batch is everything: neither the order of rows nor that of candidates has a say. Weight decay (AdamW, arXiv
    1711.05101) is on matrices only.
    """
    batches = [(jnp.asarray(fold.instructions.embedding_BE), jnp.asarray(fold.outcome_BM)) for fold in (train, val)]
    state = _optimizer(weight_decay, learning_rate).init(params)
    best, best_loss, best_step = params, np.inf, 0
    for look in range(MOST_LOOKS):
        loss = float(_loss(logits, params, *batches[1]))
        if loss < best_loss:
            best, best_loss, best_step = params, loss, look * STEPS_PER_LOOK
        elif look * STEPS_PER_LOOK - best_step >= PATIENCE * STEPS_PER_LOOK:
            break
        params, state = _advance(logits, params, state, *batches[0], weight_decay, learning_rate)
    return best, best_step


def _optimizer(weight_decay: float, learning_rate: float) -> optax.GradientTransformation:
    matrices = lambda params: jax.tree.map(lambda value: value.ndim > 1, params)  # noqa: E731
    return optax.adamw(learning_rate, weight_decay=weight_decay, mask=matrices)


@partial(jax.jit, static_argnums=0)
def _loss(logits: Logits, params: Params, embedding_BE: jax.Array, outcome_BM: jax.Array) -> jax.Array:
    seen = ~jnp.isnan(outcome_BM)
    each = optax.sigmoid_binary_cross_entropy(logits(params, embedding_BE), jnp.where(seen, outcome_BM, 0.5))
    return jnp.sum(jnp.where(seen, each, 0)) / jnp.maximum(seen.sum(), 1)


@partial(jax.jit, static_argnums=0)
def _advance(
    logits: Logits,
    params: Params,
    state: optax.OptState,
    embedding_BE: jax.Array,
    outcome_BM: jax.Array,
    weight_decay: float,
    learning_rate: float,
) -> tuple[Params, optax.OptState]:
    optimizer = _optimizer(weight_decay, learning_rate)

    def step(carry: tuple[Params, optax.OptState], _: None) -> tuple[tuple[Params, optax.OptState], None]:
        params, state = carry
        grads = jax.grad(partial(_loss, logits))(params, embedding_BE, outcome_BM)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    carry, _ = jax.lax.scan(step, (params, state), length=STEPS_PER_LOOK)
    return carry
