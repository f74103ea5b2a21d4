"""A synthetic zoo whose calls cost something: the stronger a candidate, the dearer."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from satjax.evaluation.comparison import Method, compare
from satjax.evaluation.cost import QualityCostCurve, choices_at_prices, curve_of
from satjax.outcomes import OutcomeTable, synthetic_zoo


def costly_zoo(num_items: int = 400, num_candidates: int = 5) -> OutcomeTable:
    """Mean costs span two orders of magnitude in the order of mean outcomes; single calls vary by half around them."""
    table = synthetic_zoo(seed=5, num_items=num_items, num_candidates=num_candidates)
    rank_M = np.argsort(np.argsort(np.nanmean(table.scores_MN, axis=1)))
    expected_M = 1e-4 * 100 ** (rank_M / (num_candidates - 1))
    factor_MN = np.random.default_rng(0).uniform(0.5, 1.5, table.scores_MN.shape)
    return replace(table, cost_usd_MN=(expected_M[:, None] * factor_MN).astype(np.float32))


def quality_cost_curve(*arguments: Any) -> QualityCostCurve | None:
    """The curve of what `choices_at_prices` chooses, given the same; None where that is nothing."""
    choices = choices_at_prices(*arguments)
    return None if choices is None else curve_of(choices)


@cache
def costly_figures() -> dict[str, Any]:
    """Two methods on that zoo: the router sees something of the outcomes, the noise nothing."""
    table = costly_zoo()
    test = table.split("test")
    outcome, noise = test.scores_MN.T, np.random.default_rng(0).random((2, *test.scores_MN.T.shape))
    methods = {"router": Method(0.4 * outcome + 0.6 * noise, {}, None), "noise": Method(noise[:1], {}, 0.0)}
    return compare(methods, table, test, {})
