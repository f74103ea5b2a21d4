"""Methods compared: every method's probabilities on one split, with figures, intervals, and how far the router is above it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from satjax import metrics
from satjax.evaluation.cost_figures import quality_against_cost, strong_against_weak
from satjax.evaluation.figures import (
    Correctness,
    Zoos,
    correctness_differences,
    correctness_of,
    correctness_over_seeds,
    measured_zoos,
    routing_of,
)
from satjax.evaluation.intervals import paired_interval
from satjax.evaluation.zoos import warn_of_zoos_left_out
from satjax.outcomes import OutcomeTable
from satjax.progress import Steps, unheard

ROUTER = "router"
SEEN = "router (trained on them)"
ONE_NEW = "router (one family new)"
"""Each fold's router among all candidates: its own as it trained on them, one family measured; means over the folds."""
APART = (SEEN, ONE_NEW)
"""What is no rival of the others: more is known to it."""
RERANK = "rerank"


@dataclass(frozen=True)
class Method:
    """One method's probabilities on the evaluated split, float `[S, B, M]` for S fits, and how they came about.

    `differ_in` says what the fits differ in, as a plural: seeds, or what is left out in turn. `fit_seconds` is None where nothing is fitted, or nobody
    measured it.
    """

    probability_SBM: np.ndarray
    chosen: Mapping[str, Any]
    fit_seconds: float | None
    differ_in: str = "seeds"


def compare(
    methods: Mapping[str, Method],
    table: OutcomeTable,
    held: OutcomeTable,
    zoos: Zoos,
    on_progress: Steps = unheard,
) -> dict[str, Any]:
    """JSON-ready figures of every method on `held`, the evaluated items of one split of the table; its other splits tell the best single
    candidates, and what a call will cost.

    `seeds` counts the fits of a method, and `differ_in` says what these differ in where it is not their seeds. Correctness: the mean over seeds, their standard deviation, and the first seed's 95 % interval over instructions, set about the mean. Routing: as
    `satjax evaluate` gives it, outcomes averaged over seeds. Where the router is among the methods, how far it is above the method in routing
    (`router_gain`), and its figures of correctness less the method's (`router_less_it`), have paired intervals. Quality against cost (`cost`) and the sparing of a strong candidate (`pair`)
    stand beside these, once for what the methods are compared with and once for each method that calls only what it chooses (all but
    `rerank`), where `cost_figures` finds what they need.
    """
    warn_of_zoos_left_out(zoos, table.candidate_ids)
    (split,) = {item.split for item in held.items}
    outcome_BM, of_zoos = held.scores_MN.T, measured_zoos(zoos, table, held)
    routed = {
        name: {zoo: measured.routed(method.probability_SBM) for zoo, measured in of_zoos.items()}
        for name, method in methods.items()
    }
    figures, correctness = {}, dict[str, Correctness]()
    for done, (name, method) in enumerate(methods.items()):
        on_progress("intervals", done, len(methods))
        correctness[name] = correctness_of(method.probability_SBM, outcome_BM)
        of_zoo = {
            zoo: routing_of(measured, method.probability_SBM, routed[name][zoo]) for zoo, measured in of_zoos.items()
        }
        if ROUTER in methods and name != ROUTER:
            for zoo, found in of_zoo.items():
                ours, theirs = (routed[one][zoo].mean(axis=0) for one in (ROUTER, name))
                found["router_gain"] = asdict(paired_interval(ours, theirs))
        figures[name] = {
            "seeds": len(method.probability_SBM),
            "differ_in": method.differ_in,
            "fit_seconds": method.fit_seconds,
            "chosen": dict(method.chosen),
            "correctness": correctness_over_seeds(correctness[name]),
            "reliability": _reliability(method.probability_SBM[0], outcome_BM),
            "routing": of_zoo,
        }
    if ROUTER in methods:
        for name in methods.keys() - {ROUTER}:
            figures[name]["router_less_it"] = correctness_differences(correctness[ROUTER], correctness[name])
    on_progress("intervals", len(methods), len(methods))
    # A re-ranker pays for every candidate's call before it chooses: no price of the chosen one is what it costs.
    probabilities = {name: method.probability_SBM for name, method in methods.items() if name != RERANK}
    cost_MN = held.cost_usd_MN
    compared = {
        "cost": None if cost_MN is None else quality_against_cost(probabilities, table, split, outcome_BM, cost_MN.T),
        "pair": strong_against_weak(probabilities, table, split, outcome_BM),
    }
    references = {}
    for key, both in compared.items():
        if both is not None:
            references[key], of_methods = both
            for name, of_method in of_methods.items():
                figures[name][key] = of_method
    return {
        "split": split,
        "instructions": len(outcome_BM),
        "candidates": list(table.candidate_ids),
        "synthetic": any(item.source == "synthetic" for item in table.items),
        **references,
        "methods": figures,
    }


def _reliability(probability_BM: np.ndarray, outcome_BM: np.ndarray) -> dict[str, list[float]]:
    found = metrics.reliability(probability_BM, outcome_BM)
    return {
        "low": found.low_K.tolist(),
        "high": found.high_K.tolist(),
        "probability": found.probability_K.tolist(),
        "outcome": found.outcome_K.tolist(),
        "count": found.count_K.tolist(),
    }
