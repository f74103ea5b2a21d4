"""A router beside the baselines it has to beat, on the same instructions: the probabilities of each, collected to be compared."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from satjax.aptitude import AptitudeTest
from satjax.config import LLMConfig
from satjax.errors import SatjaxError, unknown_name
from satjax.evaluation.baselines import (
    BASELINES,
    Fitted,
    Instructions,
    aptitude_places,
    baseline_data,
    check_splits,
    fitted,
)
from satjax.evaluation.baselines.llm_text import llm_text
from satjax.evaluation.baselines.rerank import rerank
from satjax.evaluation.baselines.zero_shot import ZeroShot
from satjax.evaluation.comparison import RERANK, ROUTER, Method, compare
from satjax.evaluation.embed import embed
from satjax.evaluation.evaluate import Scored, scored
from satjax.evaluation.figures import Zoos
from satjax.evaluation.leakage import warn_of_leakage
from satjax.evaluation.sample import SEED, draw_items, draw_pairs, evaluated
from satjax.outcomes import OutcomeTable, Responses
from satjax.outcomes.responses import NONE
from satjax.progress import Steps, unheard
from satjax.router import Router
from satjax.sharding import as_satjax_computes
from satjax.weights.fetch import BaseModel, resolve

log = logging.getLogger("satjax")

LLM_TEXT = "llm_text"
CALIBRATION_EACH = 10
"""Validation outcomes of each candidate that `llm_text` is calibrated on: every one costs as much as a pair that is measured."""


@as_satjax_computes()
def bench(
    routers: Iterable[Router],
    table: OutcomeTable,
    *,
    encoder: BaseModel,
    zoos: Zoos | None = None,
    seeds: int = 5,
    baselines: Sequence[str] | None = None,
    candidates: Sequence[str] | None = None,
    responses: Responses | None = None,
    reranker: BaseModel | None = None,
    llm: BaseModel | None = None,
    limit: int | None = None,
    kept: Path | None = None,
    on_progress: Steps = unheard,
) -> dict[str, Any]:
    """Figures (`compare`) of a router and the baselines on the test split of a table: the validation split is what baselines were chosen on.

    `routers` are one recipe trained with different seeds, on one aptitude test, at least one; each is let go before the next is asked for, since
    each holds base weights of its own. `encoder` embeds the instructions for the baselines, which
    see all outcomes of the training split, those on aptitude items too. `rerank` is among the baselines where there are `responses`, which
    the text encoder `reranker` reads (`encoder` by default); on an instruction where one is missing it gives candidates' means. `llm_text` is
    among them where it is named, and asks `llm` (the default config's).
    With `candidates` these alone are measured; baselines are fitted on all, as the routers were trained on more than these.
    What baselines predict is kept in the directory `kept`, and read from there where they are asked the same again. With `limit` every method is measured on the same that many instructions of the split, drawn at random.
    A baseline that reads the aptitude test's items is left out, with a warning, where the table has none of them and it is not named. Raises
    SatjaxError where the routers differ in aptitude test or candidates, and, before any router scores, where the table lacks what a baseline needs.
    """
    _check_wanted(baselines, responses, table if candidates is None else table.select_candidates(candidates))
    following = iter(routers)
    first = next(following)
    test = first.aptitude_test
    num_open = int(evaluated(table, "test", test.item_ids).sum())
    if limit is not None:
        table = draw_items(table, "test", limit, test.item_ids)
    to_fit = _fittable(table, test, baselines)
    asked_llm = (llm or resolve(LLMConfig().weights)) if LLM_TEXT in (baselines or ()) else None
    warn_of_leakage(table, "test")
    of_routers = [_scored(first, 1, table, on_progress)]
    profile_of = {profile.candidate: profile for profile in first.profiles}  # with those of the table's new candidates
    del first
    of_routers += _others_scored(following, test, of_routers[0], table, on_progress)
    names = _measured(candidates, of_routers)
    known = table.select_candidates(_known_to_all(of_routers))
    table = known.select_candidates(names)
    is_held_N, is_val_N = evaluated(table, "test", test.item_ids), _is_val(table)
    instructions, val = table.select_items(is_held_N), table.select_items(is_val_N)
    of_known = {
        ROUTER: Method(np.stack([_columns(found, known.candidate_ids) for found in of_routers]), {}, None),
        **_fitted_baselines(known, is_held_N, test, encoder, to_fit, seeds, kept, on_progress),
    }
    columns = [known.candidate_ids.index(name) for name in names]
    methods = {
        name: replace(method, probability_SBM=method.probability_SBM[:, :, columns])
        for name, method in of_known.items()
    }
    if responses is not None and (baselines is None or RERANK in baselines):
        named = baselines is not None
        methods |= _reranked(reranker or encoder, responses, instructions, val, named, on_progress)
    if asked_llm is not None:
        profiles, hear = [profile_of[name] for name in names], partial(on_progress, LLM_TEXT)
        pairs = draw_pairs(val, CALIBRATION_EACH)
        methods[LLM_TEXT] = _unfitted(llm_text(asked_llm, profiles, instructions, pairs, hear))
    drawn = {} if limit is None or limit >= num_open else {"drawn": {"of": num_open, "seed": SEED}}
    about = {
        "left_out": {
            name: why for name, why in of_routers[0].left_out.items() if candidates is None or name in candidates
        },
        "new_to_the_router": [name for name in names if name in of_routers[0].met],
    }
    figures = compare(methods, table, instructions, zoos or {}, on_progress)
    return figures | about | drawn


def _known_to_all(of_routers: Sequence[Scored]) -> tuple[str, ...]:
    """The candidates that every router could score, in the order of the table."""
    return tuple(name for name in of_routers[0].candidates if all(name in found.candidates for found in of_routers))


def _measured(candidates: Sequence[str] | None, of_routers: Sequence[Scored]) -> tuple[str, ...]:
    """The candidates that are measured; raises SatjaxError where routers differ in which of them they know, or know none of those named."""
    wanted = {name for found in of_routers for name in found.candidates}
    if candidates is not None:
        wanted &= set(candidates)
    known = _known_to_all(of_routers)
    if not wanted <= set(known):
        raise SatjaxError(
            f"bench: the routers know different candidates, such as {min(wanted - set(known))!r}; add the missing profiles first"
        )
    names = known if candidates is None else tuple(name for name in candidates if name in known)
    if candidates is not None and not names:
        raise SatjaxError(f"bench: {candidates[0]!r} cannot be measured: {of_routers[0].left_out[candidates[0]]}")
    return names


def _columns(found: Scored, names: Sequence[str]) -> np.ndarray:
    return found.probability_BM[:, [found.candidates.index(name) for name in names]]


def _check_wanted(baselines: Sequence[str] | None, responses: Responses | None, table: OutcomeTable) -> None:
    """Raises SatjaxError for a name that is no baseline, and where one that reads texts lacks what it reads or is calibrated on."""
    for name in baselines or ():
        if name not in (*BASELINES, RERANK, LLM_TEXT):
            raise unknown_name("baseline", name, (*BASELINES, RERANK, LLM_TEXT))
    if RERANK in (baselines or ()) and responses is None:
        raise SatjaxError(
            "bench: rerank reads what candidates answered; the outcomes have no responses.parquet beside them"
        )
    val = table.select_items(_is_val(table))
    if RERANK in (baselines or ()) and responses is not None:
        answered_BM = (responses.places(val) != NONE) & ~np.isnan(val.scores_MN.T)
        if not answered_BM.any():
            raise SatjaxError(
                "bench: rerank is calibrated on responses to validation instructions whose outcomes are known, and responses.parquet has none; "
                "add some, or leave rerank out of the baselines"
            )
    if {RERANK, LLM_TEXT} & set(baselines or ()) and np.isnan(val.scores_MN).all():
        raise SatjaxError(
            "bench: rerank and llm_text are calibrated on the validation split, where the outcome table has no outcomes; "
            "add some, or leave these baselines out"
        )


def _is_val(table: OutcomeTable) -> np.ndarray:
    return table.of_split("val")


def _scored(router: Router, number: int, table: OutcomeTable, on_progress: Steps) -> Scored:
    # A name of its own for each: the time left of one is told by how fast that one is.
    return scored(router, table, on_progress=partial(on_progress, f"{ROUTER} {number}"))


def _others_scored(
    routers: Iterator[Router], test: AptitudeTest, first: Scored, table: OutcomeTable, on_progress: Steps
) -> list[Scored]:
    """The scores of the routers after the first; raises SatjaxError for one with another aptitude test.

    Each is let go before the next one is made, since it holds base weights of its own.
    """
    others: list[Scored] = []
    for router in routers:  # no `enumerate`, which holds what it gave last until it has the next
        if router.aptitude_test.fingerprint != test.fingerprint:
            raise SatjaxError("bench: the routers were made with different aptitude tests; compare seeds of one recipe")
        others.append(_scored(router, len(others) + 2, table, on_progress))
        del router
    return others


def _fittable(table: OutcomeTable, test: AptitudeTest, baselines: Sequence[str] | None) -> list[str]:
    """The baselines to be fitted, those that are named or all that the table suffices for; raises SatjaxError where it lacks what one needs."""
    names = [name for name in (BASELINES if baselines is None else baselines) if name in BASELINES]
    if names:
        check_splits(table)
    reading = [name for name in names if BASELINES[name].reads_aptitude]
    if not reading or len(aptitude_places(table, test)):
        return names
    lacking = "the outcome table has none of the aptitude test's items, which candidates' profiles are made of"
    if baselines is not None:
        raise SatjaxError(
            f"bench: baseline {reading[0]}: {lacking}; add them to the table, or leave {reading[0]} out of the baselines"
        )
    log.warning("baseline %s is left out: %s", " and ".join(reading), lacking)
    return [name for name in names if name not in reading]


def _fitted_baselines(
    table: OutcomeTable,
    is_held_N: np.ndarray,
    test: AptitudeTest,
    encoder: BaseModel,
    names: Sequence[str],
    seeds: int,
    kept: Path | None,
    on_progress: Steps,
) -> dict[str, Method]:
    """Every named baseline fitted on the table's training split and tuned on its validation split, `seeds` times where chance enters.

    Instructions are embedded only where one of them reads embeddings.
    """
    if not names:
        return {}
    embedding_NE = np.ones((len(table.items), 1), np.float32)
    if any(BASELINES[name].reads_text for name in names):
        texts = [item.text for item in table.items]
        embedding_NE = embed(encoder, texts, on_progress=partial(on_progress, "embeddings"))
    held = Instructions(embedding_NE[is_held_N], tuple(table.items[i].task for i in np.flatnonzero(is_held_N)))
    data = baseline_data(table, embedding_NE, test)
    fits: dict[str, list[Fitted]] = {name: [] for name in names}
    wanted = [(name, seed) for name in fits for seed in range(seeds if BASELINES[name].random else 1)]
    for done, (name, seed) in enumerate(wanted):
        on_progress("baselines", done, len(wanted))
        fits[name].append(fitted(kept, name, seed, BASELINES[name].fit, data, asked=held))
    on_progress("baselines", len(wanted), len(wanted))
    return {
        name: Method(
            np.stack([each.probability_BM for each in several]),
            several[0].chosen,
            round(sum(each.seconds for each in several) / len(several), 1),
        )
        for name, several in fits.items()
    }


def _reranked(
    encoder: BaseModel,
    responses: Responses,
    instructions: OutcomeTable,
    val: OutcomeTable,
    named: bool,
    on_progress: Steps,
) -> dict[str, Method]:
    """`rerank` by its name; where it is not `named` and cannot be measured it is left out, with a warning."""
    try:
        found = rerank(encoder, responses, instructions, val, partial(on_progress, RERANK))
    except SatjaxError as error:
        if named:
            raise
        log.warning("%s; that baseline is left out", error)
        return {}
    return {RERANK: _unfitted(found)}


def _unfitted(found: ZeroShot) -> Method:
    """Its seconds would be those of reading texts, for which a fit of another method has no counterpart."""
    return Method(found.probability_BM[None], found.chosen, None)
