"""Objectives as slices of the score matrix (docs/architecture.md). Unobserved outcomes are NaN and count nowhere; all is float32."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from satjax.config import LossConfig

PAIRS_AT_ONCE = 2**22
"""Pairs that are compared at once, four float32 numbers of each: those of a whole batch of thousands of candidates would take tens of GB."""


def _advantage(outcome_P: Array) -> Array:
    """`w_ij = max(y_i - y_j, 0)` of the entries of a row, `[P, P]`; 0 for pairs that are not both observed."""
    observed = ~jnp.isnan(outcome_P)
    outcome = jnp.where(observed, outcome_P, 0.0)
    return jnp.where(observed[:, None] & observed, jnp.maximum(outcome[:, None] - outcome, 0.0), 0.0)


def _a_few_at_once(run: Callable[..., Any], at_once: int, *arrays: Array) -> Any:
    """`run` of each row of the arrays, in parts where there are more than `at_once`, which the backward pass computes once more."""
    if len(arrays[0]) <= at_once:
        return jax.vmap(run)(*arrays)
    checkpointed = jax.checkpoint(lambda row: run(*row), prevent_cse=False)
    return jax.lax.map(checkpointed, arrays, batch_size=at_once)


def _mean_over_groups(total_G: Array, weight_G: Array) -> Array:
    """Of each group's mean by weight; a group without any counts as 0."""
    return jnp.mean(total_G / jnp.maximum(weight_G, 1e-9))


def _mean_over_rows(
    compared: Callable[[Array, Array], tuple[Array, Array]], score_GAP: Array, outcome_GAP: Array
) -> Array:
    """The mean by weight of what `compared` says of the pairs of each group's rows: of one row, values and weights."""
    num_groups, num_rows, num_entries = score_GAP.shape

    def sums(score_P: Array, outcome_P: Array) -> tuple[Array, Array]:
        value, weight = compared(score_P, outcome_P)
        return jnp.sum(value * weight), jnp.sum(weight)

    rows = (array.reshape(num_groups * num_rows, num_entries) for array in (score_GAP, outcome_GAP))
    of_rows = _a_few_at_once(sums, max(1, PAIRS_AT_ONCE // num_entries**2), *rows)
    return _mean_over_groups(*(sum_R.reshape(num_groups, num_rows).sum(axis=1) for sum_R in of_rows))


def _against_all(score_P: Array, outcome_P: Array) -> tuple[Array, Array]:
    """Cross-entropy of each entry of a row against the worse ones, and the weight of that, `[P]`."""
    weight_IJ = _advantage(outcome_P)
    exponent_IJ = jnp.where(weight_IJ > 0, score_P - score_P[:, None] + jnp.log(jnp.maximum(weight_IJ, 1e-30)), -1e30)
    against_itself = jnp.zeros_like(score_P)[:, None]
    loss_I = jax.nn.logsumexp(jnp.concatenate([exponent_IJ, against_itself], axis=-1), axis=-1)
    return loss_I, jnp.max(weight_IJ, axis=-1)


def _in_pairs(score_P: Array, outcome_P: Array) -> tuple[Array, Array]:
    """How unlikely each pair of a row is to end as it did, and the weight of that, `[P, P]`."""
    return jax.nn.softplus(score_P - score_P[:, None]), _advantage(outcome_P)


def over_instructions(score_GBM: Float[Array, "g b m"], outcome_GBM: Float[Array, "g b m"]) -> Float[Array, ""]:
    """The paper's homogeneous in-batch contrast: instructions of one candidate against each other (columns).

    For entry i of a column: `-log(e^s_i / (e^s_i + sum_j w_ij e^s_j))` with `w_ij = max(y_i - y_j, 0)`: for right or wrong outcomes this is the
    paper's contrast of one positive against its negatives (section 3.4); soft outcomes weigh a pair by their difference. An entry counts
    with its largest `w_ij`, so columns without a contrast add nothing.
    """
    return _mean_over_rows(_against_all, jnp.swapaxes(score_GBM, 1, 2), jnp.swapaxes(outcome_GBM, 1, 2))


def over_candidates(score_GBM: Float[Array, "g b m"], outcome_GBM: Float[Array, "g b m"]) -> Float[Array, ""]:
    """The contrast that routing needs: candidates of one instruction against each other, pair by pair (rows).

    `-log sigmoid(s_i - s_j)` averaged over pairs with weight `max(y_i - y_j, 0)`: the likelihood of which one of two is right, given that one is
    (Rasch's pairwise conditional likelihood). It asks for the same scores as `pointwise`, where one positive against all negatives of the row
    would spread them too far.
    """
    return _mean_over_rows(_in_pairs, score_GBM, outcome_GBM)


def pointwise(score_GBM: Float[Array, "g b m"], outcome_GBM: Float[Array, "g b m"]) -> Float[Array, ""]:
    """Binary cross-entropy, soft outcomes as they are, so that `sigmoid(S)` is a probability."""
    observed_GBM = ~jnp.isnan(outcome_GBM)
    outcome_GBM = jnp.where(observed_GBM, outcome_GBM, 0.0)
    loss_GBM = (jax.nn.softplus(score_GBM) - outcome_GBM * score_GBM) * observed_GBM
    return _mean_over_groups(jnp.sum(loss_GBM, axis=(1, 2)), jnp.sum(observed_GBM, axis=(1, 2)))


OBJECTIVES: dict[str, Callable[[Array, Array], Array]] = {
    "over_instructions": over_instructions,
    "over_candidates": over_candidates,
    "pointwise": pointwise,
}
"""By name: the mean over the groups of a batch."""


def total_loss(
    score_GBM: Float[Array, "g b m"], outcome_GBM: Float[Array, "g b m"], config: LossConfig
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum of the objectives, and its parts by name; those of weight 0 are looked at only."""
    parts = {}
    for name, objective in OBJECTIVES.items():
        seen_GBM = score_GBM if getattr(config, name) else jax.lax.stop_gradient(score_GBM)
        parts[name] = objective(seen_GBM, outcome_GBM)
    return sum((getattr(config, name) * part for name, part in parts.items()), start=jnp.float32(0)), parts
