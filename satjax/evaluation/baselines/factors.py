"""Baselines with few numbers per candidate: an MLP with a low-rank head, matrix factorization, item response theory."""

from collections.abc import Callable, Sequence
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logit

from satjax.evaluation.baselines.data import BaselineData, Fold, Instructions
from satjax.evaluation.baselines.gradient import Logits, Params, fit_logits
from satjax.evaluation.baselines.means import candidate_mean
from satjax.evaluation.baselines.tuning import Settings

STARTS = 3
"""Random starts whose probabilities are averaged."""
WEIGHT_DECAY = (1.0, 10.0)
LEARNING_RATE = (1e-3, 1e-4)
"""At the higher one few instructions are learned by heart before the first look at the validation fold."""
HIDDEN = 256
MLP_RANKS = (16,)
FACTORS = (4, 16, 64)

Start = Callable[[jax.Array, int, np.ndarray, int], Params]
"""`start(key, E, bias_M, rank)`: parameters before training. Nothing random in them belongs to a single candidate."""


def mlp(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """Logits are 16 difficulties of the instruction, from a hidden layer, times 16 abilities of each candidate."""
    return _settings(_start_mlp, _mlp, MLP_RANKS, data, scored, seed)


def matrix_factorization(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """A linear map of the embedding times a vector for each candidate, which has a bias too (EmbedLLM, 2410.02223).

    The paper's Hadamard product under a linear classifier is the same: the classifier's weights go into the vectors.
    """
    return _settings(_start_factors, _factors, FACTORS, data, scored, seed)


def item_response(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """Two-parameter logistic model `a (theta_m - b)` (Birnbaum 1968) of one ability for each candidate.

    Discrimination a > 0 and difficulty b are read off the embedding by a hidden layer, so that new instructions
    have them too (IRT-Router, arXiv 2506.01048).
    """
    return _settings(_start_item_response, _item_response, (1,), data, scored, seed)


def _settings(
    start: Start, logits: Logits, ranks: Sequence[int], data: BaselineData, scored: Fold, seed: int
) -> Settings:
    mean_M = np.clip(candidate_mean(scored.outcome_BM), 0.01, 0.99)
    width = scored.instructions.embedding_BE.shape[1]
    keys = jax.random.split(jax.random.key(seed), STARTS)
    predict = jax.jit(lambda params, embedding_BE: jax.nn.sigmoid(logits(params, embedding_BE)))
    for rank, weight_decay, learning_rate in product(ranks, WEIGHT_DECAY, LEARNING_RATE):
        starts = [start(key, width, logit(mean_M).astype(np.float32), rank) for key in keys]
        fits = [fit_logits(logits, params, scored, data.val, weight_decay, learning_rate) for params in starts]

        def function(instructions: Instructions, fits: list[tuple[Params, int]] = fits) -> np.ndarray:
            return np.mean([predict(params, instructions.embedding_BE) for params, _ in fits], axis=0)

        setting = {"rank": rank, "weight_decay": weight_decay, "learning_rate": learning_rate}
        yield {**setting, "steps": [step for _, step in fits]}, function


def _matrix(key: jax.Array, width_in: int, width_out: int) -> jax.Array:
    return jax.random.normal(key, (width_in, width_out)) * width_in**-0.5


def _spread(embedding_BE: jax.Array) -> jax.Array:
    """Unit-length rows with entries of about unit size, which initial weights and learning rate are made for."""
    return embedding_BE * embedding_BE.shape[1] ** 0.5


def _hidden(params: Params, embedding_BE: jax.Array) -> jax.Array:
    return jax.nn.gelu(_spread(embedding_BE) @ params["up"] + params["up_bias"])


def _start_mlp(key: jax.Array, width: int, bias_M: np.ndarray, rank: int) -> Params:
    up, down = jax.random.split(key)
    return {
        "up": _matrix(up, width, HIDDEN),
        "up_bias": jnp.zeros(HIDDEN),
        "down": _matrix(down, HIDDEN, rank),
        "ability": jnp.zeros((len(bias_M), rank)),
        "bias": jnp.asarray(bias_M),
    }


def _mlp(params: Params, embedding_BE: jax.Array) -> jax.Array:
    return _hidden(params, embedding_BE) @ params["down"] @ params["ability"].T + params["bias"]


def _start_factors(key: jax.Array, width: int, bias_M: np.ndarray, rank: int) -> Params:
    return {
        "map": _matrix(key, width, rank),
        "candidate": jnp.zeros((len(bias_M), rank)),
        "bias": jnp.asarray(bias_M),
    }


def _factors(params: Params, embedding_BE: jax.Array) -> jax.Array:
    return _spread(embedding_BE) @ params["map"] @ params["candidate"].T + params["bias"]


def _start_item_response(key: jax.Array, width: int, bias_M: np.ndarray, rank: int) -> Params:
    return {
        "up": _matrix(key, width, HIDDEN),
        "up_bias": jnp.zeros(HIDDEN),
        # Discrimination starts at softplus(0.54) = 1 and difficulty at 0, whatever the instruction.
        "down": jnp.zeros((HIDDEN, 2)),
        "down_bias": jnp.array([np.log(np.e - 1), 0.0], jnp.float32),
        "ability": jnp.asarray(bias_M),
    }


def _item_response(params: Params, embedding_BE: jax.Array) -> jax.Array:
    parameter_B2 = _hidden(params, embedding_BE) @ params["down"] + params["down_bias"]
    discrimination_B1, difficulty_B1 = jax.nn.softplus(parameter_B2[:, :1]), parameter_B2[:, 1:]
    return discrimination_B1 * (params["ability"] - difficulty_B1)
