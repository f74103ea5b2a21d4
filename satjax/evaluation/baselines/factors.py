"""Baselines with few numbers per candidate: an MLP with a low-rank head, matrix factorization, item response theory."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from satjax.evaluation.baselines.data import BaselineData, Fold, Instructions
from satjax.evaluation.baselines.gradient import Logits, Params, Training, fit_logits
from satjax.evaluation.baselines.means import candidate_mean
from satjax.evaluation.baselines.tuning import Settings

STARTS = 3
"""Random starts whose probabilities are averaged."""
GRID = (
    Training(10.0, 1e-3),
    Training(10.0, 1e-2),
    Training(30.0, 3e-3),
    *(Training(decay, 3e-3, dropout) for decay, dropout in product((1.0, 10.0, 30.0), (0.5, 0.7))),
    Training(10.0, 3e-3, 0.8),
)
FEW_INSTRUCTIONS = 2000
SLOWER = (Training(10.0, 1e-4), Training(10.0, 3e-4), Training(10.0, 3e-4, 0.5))
"""Few instructions are learned by heart before the first look at the validation fold: below `FEW_INSTRUCTIONS` these are tried, too."""
HIDDEN = 256
OWN = ("ability", "candidate", "bias")
"""Parameters with a row for each candidate, in which all logits are linear. The other parameters are shared."""

Start = Callable[[jax.Array, int, np.ndarray, int], Params]
"""`start(key, E, bias_M, rank)`: parameters before training. Nothing random in them belongs to a single candidate."""


@dataclass(frozen=True)
class LowRank:
    """Families whose `logits` are linear in few numbers of each candidate, fitted at each of the `ranks`."""

    start: Start
    logits: Logits
    ranks: tuple[int, ...]

    def seen(self, data: BaselineData, scored: Fold, seed: int) -> Settings:
        """All parameters are learned from the outcomes of `scored`."""
        for setting, fits in self._fits(data, scored, seed):
            yield setting, partial(_predict, self.logits, fits)

    def unseen(self, data: BaselineData, scored: Fold, seed: int) -> Settings:
        """For candidates known by few outcomes: what is shared is learned from the training outcomes of those of `data`.

        Every candidate of `scored`, those of `data` too, goes by its outcomes there alone: what these choose holds for the others.
        """
        for setting, fits in self._fits(data, data.train, seed):
            yield setting, partial(_predict, self.logits, [_placed(self.logits, params, scored) for params in fits])

    def _fits(self, data: BaselineData, scored: Fold, seed: int) -> Iterator[tuple[dict[str, Any], list[Params]]]:
        """Every setting, with the parameters that were fitted under it from each of the starts."""
        mean_M = np.clip(candidate_mean(scored.outcome_BM), 0.01, 0.99)
        width = scored.instructions.embedding_BE.shape[1]
        keys = jax.random.split(jax.random.key(seed), STARTS)
        grid = GRID if len(scored.outcome_BM) >= FEW_INSTRUCTIONS else GRID + SLOWER
        for rank, training in product(self.ranks, grid):
            starts = [self.start(key, width, logit(mean_M).astype(np.float32), rank) for key in keys]
            fits = [
                fit_logits(self.logits, params, scored, data.val, training, key)
                for params, key in zip(starts, keys, strict=True)
            ]
            yield (
                {"rank": rank, **asdict(training), "steps": [step for _, step in fits]},
                [params for params, _ in fits],
            )


def _predict(logits: Logits, fits: list[Params], instructions: Instructions) -> np.ndarray:
    return np.mean([jax.nn.sigmoid(_logits(logits, params, instructions)) for params in fits], axis=0)


@partial(jax.jit, static_argnums=0)
def _jitted(logits: Logits, params: Params, embedding_BE: jax.Array) -> jax.Array:
    return logits(params, embedding_BE)


def _logits(logits: Logits, params: Params, instructions: Instructions) -> np.ndarray:
    return np.asarray(_jitted(logits, params, jnp.asarray(instructions.embedding_BE)))


def _placed(logits: Logits, params: Params, scored: Fold) -> Params:
    """The same shared parameters, with rows of `OWN` for the candidates of `scored`, each found from its own outcomes there.

    They are the likeliest ones where the fitted candidates' rows are a sample of a normal distribution, of which the new
    ones are drawn too. Training on the few outcomes along with the rest would not do: it stops when the known
    candidates are best predicted, after few steps, in which a new one's parameters go nowhere near theirs.
    """
    own = {name: value for name, value in params.items() if name in OWN}
    mean = {name: value.mean(axis=0, keepdims=True) for name, value in own.items()}
    # A draw of that distribution is the mean plus each of these rows, times a standard normal number of its own.
    step = {name: (value - mean[name]) / max(len(value) - 1, 1) ** 0.5 for name, value in own.items()}
    moved = {name: mean[name] + value for name, value in step.items()}
    offset_B1 = _logits(logits, {**params, **mean}, scored.instructions).astype(np.float64)
    slope_BM = _logits(logits, {**params, **moved}, scored.instructions) - offset_B1
    weight_NM = np.stack([_likeliest(slope_BM, offset_B1[:, 0], outcome_B) for outcome_B in scored.outcome_BM.T])
    return {
        **params,
        **{name: mean[name] + jnp.asarray(weight_NM, value.dtype) @ value for name, value in step.items()},
    }


def _likeliest(slope_BM: np.ndarray, offset_B: np.ndarray, outcome_B: np.ndarray) -> np.ndarray:
    """Weights `[M]` of a logistic model with these offsets, each standard normal beforehand; 0 where nothing is observed."""
    seen_B = ~np.isnan(outcome_B)
    slope_BM, offset_B, outcome_B = slope_BM[seen_B], offset_B[seen_B], outcome_B[seen_B].astype(np.float64)

    def surprise(weight_M: np.ndarray) -> tuple[float, np.ndarray]:
        logit_B = offset_B + slope_BM @ weight_M
        loss = np.logaddexp(0, logit_B).sum() - outcome_B @ logit_B + weight_M @ weight_M / 2
        return loss, slope_BM.T @ (expit(logit_B) - outcome_B) + weight_M

    return minimize(surprise, np.zeros(slope_BM.shape[1]), jac=True, method="L-BFGS-B").x


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


mlp = LowRank(_start_mlp, _mlp, (16,))
"""Logits are 16 difficulties of the instruction, from a hidden layer, times 16 abilities of each candidate."""
matrix_factorization = LowRank(_start_factors, _factors, (16, 64))
"""A linear map of the embedding times a vector for each candidate, which has a bias too (EmbedLLM, 2410.02223).

The paper's Hadamard product under a linear classifier is the same: the classifier's weights go into the vectors.
"""
item_response = LowRank(_start_item_response, _item_response, (1,))
"""Two-parameter logistic model `a (theta_m - b)` (Birnbaum 1968) of one ability for each candidate.

Discrimination a > 0 and difficulty b are read off the embedding by a hidden layer, so that new instructions have them too (IRT-Router,
arXiv 2506.01048).
"""
