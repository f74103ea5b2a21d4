"""Ability by the outcomes of single aptitude items: how a candidate joins an `items` router, with nothing trained again.

The aptitude items' demands are known, so what a candidate made of them is a logistic regression for its ability, and the training candidates
are the prior: item response theory's maximum a posteriori scoring (Bock and Mislevy 1982 compare it with its relatives).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from satjax.aptitude import CapabilityProfile
from satjax.models.router_model import Params

PREFIX = "scale/"
QUADRATURE = 21
"""Nodes of the Gauss-Hermite rule."""


@dataclass(frozen=True, eq=False)
class AbilityScale:
    """What abilities are measured by.

    `demand_TKR` float32: demands and ease of T tasks' K items, as `AbilityHead.demands` gives them. The population that a candidate is taken
    to be of is Gaussian, with `mean_R` float32 and `precision_RR` float32, its inverse covariance. `link` float32 `[2]` is the slope and the offset
    with which a score becomes the log odds of an item's outcome: a head is surer than outcomes that it was not trained on bear out, and those of a
    new candidate are such, though other candidates' outcomes on the items may have trained it.
    """

    demand_TKR: np.ndarray
    mean_R: np.ndarray
    precision_RR: np.ndarray
    link: np.ndarray

    @classmethod
    def of(cls, demand_TKR: np.ndarray, ability_MR: np.ndarray) -> "AbilityScale":
        """The scale of a test, its population being that of the training candidates' abilities; scores are taken for log odds."""
        return cls(np.asarray(demand_TKR, np.float32), *population(ability_MR), np.array([1, 0], np.float32))

    def linked(self, slope: float, offset: float) -> "AbilityScale":
        """The same with this link: Platt's map of the training candidates' scores, fitted on instructions that were not trained on."""
        return replace(self, link=np.array([slope, offset], np.float32))

    @classmethod
    def from_params(cls, params: Mapping[str, np.ndarray | jax.Array]) -> "AbilityScale":
        """What `params` gave."""
        return cls(*(np.asarray(params[PREFIX + name]) for name in ("demand", "mean", "precision", "link")))

    def params(self) -> Params:
        """As arrays by path, to be kept with a router's parameters."""
        named = {"demand": self.demand_TKR, "mean": self.mean_R, "precision": self.precision_RR, "link": self.link}
        return {PREFIX + name: jnp.asarray(value) for name, value in named.items()}

    def abilities(self, profiles: Sequence[CapabilityProfile]) -> jax.Array:
        """Abilities float32 `[M, R + 1]`, each the likeliest one given its profile and the population.

        Raises SatjaxError for a profile that holds no outcomes of single items.
        """
        outcomes = [profile.outcomes_TK for profile in profiles]
        return jnp.asarray(np.stack([self.ability(outcome_TK) for outcome_TK in outcomes]))

    def ability(self, outcome_TK: np.ndarray) -> np.ndarray:
        """The likeliest ability given outcomes float `[T, K]`, NaN = unobserved, and the population; float32 `[R + 1]`."""
        return self._likeliest(outcome_TK)[0].astype(np.float32)

    def deviation(self, outcome_TK: np.ndarray, probability: Callable[[np.ndarray], np.ndarray]) -> float:
        """Standard deviation of P(handled), a mean over the items of the test, that a candidate's ability leaves open.

        Outcomes float `[T, K]`, NaN = unobserved: none at all gives that of a candidate of whom nothing is known. The ability is taken to be
        Gaussian about the likeliest one, with the curvature there as its precision (Laplace's approximation); an item's score is then
        Gaussian too, and `probability`, the router's calibration, is integrated over it (Gauss-Hermite).
        """
        ability, precision = self._likeliest(outcome_TK)
        demand_IR = self.demand_TKR.reshape(-1, len(ability)).astype(np.float64)
        load_IR = _loads(demand_IR)
        score_I = load_IR @ ability + demand_IR[:, -1]
        spread_I = np.sqrt(np.einsum("ir,ri->i", load_IR, np.linalg.solve(precision, load_IR.T)))
        node_Q, weight_Q = np.polynomial.hermite_e.hermegauss(QUADRATURE)
        probability_IQ = probability(score_I[:, None] + spread_I[:, None] * node_Q).astype(np.float64)
        mean_I, square_I = (power_IQ @ weight_Q / weight_Q.sum() for power_IQ in (probability_IQ, probability_IQ**2))
        return float(np.mean(np.sqrt(np.maximum(square_I - mean_I**2, 0.0))))

    def _likeliest(self, outcome_TK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The likeliest ability float64 `[R + 1]`, and the curvature `[R + 1, R + 1]` of the negative log posterior there."""
        from scipy.optimize import minimize
        from scipy.special import expit

        observed = ~np.isnan(outcome_TK)
        outcome_I, demand_IR = outcome_TK[observed].astype(np.float64), self.demand_TKR[observed].astype(np.float64)
        load_IR = _loads(demand_IR)
        mean, precision = self.mean_R.astype(np.float64), self.precision_RR.astype(np.float64)
        slope, offset = self.link.astype(np.float64)
        load_IR, ease_I = slope * load_IR, slope * demand_IR[:, -1] + offset

        def loss(ability: np.ndarray) -> tuple[float, np.ndarray]:
            logit_I, off = load_IR @ ability + ease_I, ability - mean
            pull = precision @ off
            likelihood = np.sum(np.logaddexp(0, logit_I) - outcome_I * logit_I)
            return float(likelihood + off @ pull / 2), load_IR.T @ (expit(logit_I) - outcome_I) + pull

        def curvature(ability: np.ndarray) -> np.ndarray:
            share_I = expit(load_IR @ ability + ease_I)
            return (load_IR * (share_I * (1 - share_I))[:, None]).T @ load_IR + precision

        found = minimize(loss, mean, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-6})
        return found.x, curvature(found.x)


def _loads(demand_IR: np.ndarray) -> np.ndarray:
    """What an ability's entries are multiplied with: the demands, and 1 for the last entry."""
    return np.concatenate([demand_IR[:, :-1], np.ones((len(demand_IR), 1))], axis=1)


def population(ability_MR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean `[R + 1]` and precision `[R + 1, R + 1]`, float32, of the population that abilities `[M, R + 1]` are a sample of.

    A few candidates say little of a covariance: the average variance is added in every direction, so that none is ruled out.
    """
    ability = np.asarray(ability_MR, np.float64)
    mean_R, size = ability.mean(axis=0), ability.shape[1]
    covariance = (ability - mean_R).T @ (ability - mean_R) / max(len(ability) - 1, 1)
    average = float(np.trace(covariance)) / size
    precision = np.linalg.inv(covariance + (average or 1.0) * np.eye(size))
    return mean_R.astype(np.float32), precision.astype(np.float32)
