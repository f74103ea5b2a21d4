"""Objectives as slices of the score matrix (docs/architecture.md). Unobserved outcomes are NaN and count nowhere; all is float32."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from satjax.config import LossConfig

PAIRS_AT_ONCE = 2**22
"""Pairs that are compared at once, four float32 numbers of each: those of a whole batch of thousands of candidates would take tens of GB."""


def _masked_mean(value: Array, weight: Array) -> Array:
    return jnp.sum(value * weight) / jnp.maximum(jnp.sum(weight), 1e-9)


def _advantage(outcome_AP: Array) -> Array:
    """`w_ij = max(y_i - y_j, 0)` of the entries of each row, `[A, P, P]`; 0 for pairs that are not both observed."""
    observed = ~jnp.isnan(outcome_AP)
    outcome = jnp.where(observed, outcome_AP, 0.0)
    pair = observed[:, :, None] & observed[:, None, :]
    return jnp.where(pair, jnp.maximum(outcome[:, :, None] - outcome[:, None, :], 0.0), 0.0)


def _a_few_at_once(run: Callable[..., Any], at_once: int, *arrays: Array) -> Any:
    """`run` of each row of the arrays, in parts where there are more than `at_once`, which the backward pass computes once more."""
    if len(arrays[0]) <= at_once:
        return jax.vmap(run)(*arrays)
    checkpointed = jax.checkpoint(lambda row: run(*row), prevent_cse=False)
    return jax.lax.map(checkpointed, arrays, batch_size=at_once)


def _mean_over_rows(
    compared: Callable[[Array, Array], tuple[Array, Array]], score_AP: Array, outcome_AP: Array
) -> Array:
    """The mean by weight of what `compared` says of the pairs of each row: values and weights, whose first axis is the rows."""
    rows = max(1, PAIRS_AT_ONCE // score_AP.shape[1] ** 2)
    if len(score_AP) <= rows:
        return _masked_mean(*compared(score_AP, outcome_AP))

    def sums(score_P: Array, outcome_P: Array) -> tuple[Array, Array]:
        value, weight = compared(score_P[None], outcome_P[None])
        return jnp.sum(value * weight), jnp.sum(weight)

    total_A, weight_A = _a_few_at_once(sums, rows, score_AP, outcome_AP)
    return jnp.sum(total_A) / jnp.maximum(jnp.sum(weight_A), 1e-9)


def contrast(score_AP: Float[Array, "a p"], outcome_AP: Float[Array, "a p"]) -> Float[Array, ""]:
    """Cross-entropy of every right entry of a row against the wrong entries of the same row, averaged.

    For entry i of a row: `-log(e^s_i / (e^s_i + sum_j w_ij e^s_j))` with `w_ij = max(y_i - y_j, 0)`: for right or wrong outcomes this is the
    paper's contrast of one positive against its negatives (section 3.4); soft outcomes weigh a pair by their difference. An entry counts
    with its largest `w_ij`, so rows without a contrast add nothing.
    """
    return _mean_over_rows(_against_all, score_AP, outcome_AP)


def _against_all(score_AP: Array, outcome_AP: Array) -> tuple[Array, Array]:
    """Cross-entropy of each entry against the worse ones of its row, and the weight of that, `[A, P]`."""
    weight_AIJ = _advantage(outcome_AP)
    difference = score_AP[:, None, :] - score_AP[:, :, None]
    exponent = jnp.where(weight_AIJ > 0, difference + jnp.log(jnp.maximum(weight_AIJ, 1e-30)), -1e30)
    loss_AI = jax.nn.logsumexp(jnp.concatenate([exponent, jnp.zeros_like(score_AP)[:, :, None]], axis=-1), axis=-1)
    return loss_AI, jnp.max(weight_AIJ, axis=-1)


def over_candidates(score_BM: Float[Array, "b m"], outcome_BM: Float[Array, "b m"]) -> Float[Array, ""]:
    """The contrast that routing needs: candidates of one instruction against each other, pair by pair (rows).

    `-log sigmoid(s_i - s_j)` averaged over pairs with weight `max(y_i - y_j, 0)`: the likelihood of which one of two is right, given that one is
    (Rasch's pairwise conditional likelihood). It asks for the same scores as `pointwise`, where one positive against all negatives of the row
    would spread them too far.
    """
    return _mean_over_rows(_in_pairs, score_BM, outcome_BM)


def _in_pairs(score_AP: Array, outcome_AP: Array) -> tuple[Array, Array]:
    """How unlikely each pair of a row is to end as it did, and the weight of that, `[A, P, P]`."""
    return jax.nn.softplus(score_AP[:, None, :] - score_AP[:, :, None]), _advantage(outcome_AP)


def over_instructions(score_BM: Float[Array, "b m"], outcome_BM: Float[Array, "b m"]) -> Float[Array, ""]:
    """The paper's homogeneous in-batch contrast: instructions of one candidate against each other (columns)."""
    return contrast(score_BM.T, outcome_BM.T)


def pointwise(score_BM: Float[Array, "b m"], outcome_BM: Float[Array, "b m"]) -> Float[Array, ""]:
    """Binary cross-entropy, soft outcomes as they are, so that `sigmoid(S)` is a probability."""
    observed = ~jnp.isnan(outcome_BM)
    outcome = jnp.where(observed, outcome_BM, 0.0)
    loss_BM = jax.nn.softplus(score_BM) - outcome * score_BM
    return _masked_mean(loss_BM, observed.astype(jnp.float32))


OBJECTIVES: dict[str, Callable[[Array, Array], Array]] = {
    "over_instructions": over_instructions,
    "over_candidates": over_candidates,
    "pointwise": pointwise,
}


def total_loss(
    score_GBM: Float[Array, "g b m"], outcome_GBM: Float[Array, "g b m"], config: LossConfig
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum of the objectives, each averaged over the groups of a batch, and its parts by name; those of weight 0 are looked at only."""
    parts = {}
    _, num_instructions, num_candidates = score_GBM.shape
    groups = max(1, PAIRS_AT_ONCE // (num_instructions * num_candidates * max(num_instructions, num_candidates)))
    for name, objective in OBJECTIVES.items():
        seen_GBM = score_GBM if getattr(config, name) else jax.lax.stop_gradient(score_GBM)
        parts[name] = jnp.mean(_a_few_at_once(objective, groups, seen_GBM, outcome_GBM))
    return sum((getattr(config, name) * part for name, part in parts.items()), start=jnp.float32(0)), parts
