"""What a run ends with: a scale for new candidates, calibrated probabilities, and the router directory."""

import contextlib
import dataclasses
import hashlib
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from satjax.aptitude.measurement import AbilityScale
from satjax.calibration import Calibration, fit_calibration
from satjax.config import RouterConfig
from satjax.errors import SatjaxError
from satjax.export.directory import RouterFiles, write_router
from satjax.export.model_card import model_card
from satjax.features.row_batches import Batching
from satjax.files import canonical_json, locked
from satjax.models.router_model import Params, abstract_model, bind
from satjax.processes.agreement import is_first
from satjax.scoring import make_scorer
from satjax.scoring.candidates import CandidateEncoder, as_tokens
from satjax.sharding import place, replicated
from satjax.training.data import feature_reader, store_of
from satjax.training.job import Job, outcome_bytes

log = logging.getLogger("satjax")


def write_trained_router(job: Job, params: Params, target: Path) -> None:
    """Calibrates on the validation split, on all processes together; the first one writes the router directory."""
    config = job.config
    learned = whole_params(job, params)
    abilities: dict[str, np.ndarray] = {}
    if job.reader:
        calibration = calibrated(job, params)
    else:
        learned.pop("connector/ability", None)
        ability_MR = np.asarray(jax.device_put(params["connector/ability"], replicated(job.mesh)))
        ability_MR = ability_MR[job.learner_M]
        scale = AbilityScale.of(aptitude_demands(job, params), ability_MR)
        calibration = calibrated(job, params, as_tokens(jnp.asarray(ability_MR)))
        scale = scale.linked(calibration.scale, calibration.offset)
        learned |= scale.params()
        abilities = dict(zip(job.learners, ability_MR, strict=True)) | measured_abilities(job, params, scale)
    if not is_first():
        return
    remove_cut_off(target)
    if not calibration.fitted_on:
        log.warning(
            "%s: its probabilities are raw scores, good for a ranking alone: nothing was fitted to outcomes of split 'val'; fit them with "
            "`satjax calibrate`",
            target,
        )
    files = RouterFiles(
        config=lasting(job),
        norms=job.norms,
        base_sha256={part: base.sha256 for part, base in job.assembly.bases.items()},
        order_seed=config.seed,
        test=job.test,
        profiles=tuple(job.profiles.values()),
        calibration=calibration,
        learned={path: (value.shape, str(value.dtype)) for path, value in learned.items()},
        abilities={name: ability for name, ability in abilities.items() if name not in job.unprofiled},
        run=origin(job),
        training=settings(job),
    )
    write_router(target, files, learned, job.assembly.writer.tokenizer, model_card(config, files, job.train))


def remove_cut_off(target: Path) -> None:
    """Removes what exports that were killed left beside `target`: whole routers, one for each try.

    Not where another process rewrites `target`, which has such a folder; nor what was moved away to make room, whose name is longer: it may be the
    only one.
    """
    with contextlib.suppress(BlockingIOError), locked(target, wait=False):
        for left in target.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(target.name)}-[a-z0-9_]{{8}}", left.name):
                shutil.rmtree(left, ignore_errors=True)


def lasting(job: Job) -> RouterConfig:
    """The router's config with base weights by names that mean the same tomorrow, and no kernel, of which other machines have others."""
    router, bases = job.config.router, job.assembly.bases
    llm = dataclasses.replace(router.llm, weights=bases["llm"].source)
    encoder = (
        dataclasses.replace(router.encoder, weights=bases["encoder"].source) if "encoder" in bases else router.encoder
    )
    return dataclasses.replace(router, attention="auto", llm=llm, encoder=encoder)


def settings(job: Job) -> dict[str, Any]:
    """The config of the run for those who get its router: the outcomes by their name alone, without the folders of this machine that they lay in."""
    data = dataclasses.replace(job.config.data, outcomes=Path(job.config.data.outcomes).name)
    router = dataclasses.replace(lasting(job), attention=job.config.router.attention)
    return dataclasses.asdict(dataclasses.replace(job.config, data=data, router=router))


def calibrated(job: Job, params: Params, soft: jax.Array | None = None) -> Calibration:
    """Platt's map of the training candidates' scores on validation instructions; `soft` are their tokens, if they are not read off profiles."""
    held = job.validation
    if not held.items:
        return Calibration()
    store = store_of(job, params) if job.config.router.head == "none" else None
    if soft is None:
        assert job.reader is not None
        encoder = CandidateEncoder(job.assembly, params, job.reader, job.config.seed, job.mesh)
        soft = encoder.soft_tokens([job.profiles[name] for name in held.candidate_ids])
    scorer = make_scorer(job.assembly, params, Batching(job.mesh, sizes=()), store)
    score_BM = scorer.score([item.text for item in held.items], soft)
    if not np.isfinite(score_BM).all():
        raise SatjaxError(
            "the trained router's scores are not finite: lower the last stage's learning_rate or optimizer.clip_norm, and train in another --workdir"
        )
    return fit_calibration(score_BM, held.scores_MN.T)


def origin(job: Job) -> dict[str, str]:
    """What the exported router is made of, by name: digests. Beside what makes its run, that is what the export itself reads."""
    outcome_of = {name: profile.outcomes_TK.tobytes().hex() for name, profile in job.profiles.items()}
    parts = {
        "validation outcomes": outcome_bytes(job.validation),
        "profiles": canonical_json(outcome_of).encode(),
    }
    digests = {name: hashlib.sha256(value).hexdigest() for name, value in parts.items()}
    return {**job.identity, **digests}


def whole_params(job: Job, params: Params) -> dict[str, np.ndarray | jax.Array]:
    """The learned parameters on the first process's host, gathered one by one; nothing on the others."""
    whole: dict[str, np.ndarray | jax.Array] = {}
    for path in sorted(job.learned):
        value = jax.device_put(params[path], replicated(job.mesh))
        if is_first():
            whole[path] = np.asarray(value)
    return whole


def aptitude_demands(job: Job, params: Params) -> np.ndarray:
    """What the trained head says that the aptitude test's items ask for, float32 `[T, K, R + 1]`."""
    text = {item.id: item.text for item in job.table.items}
    demand_XR = demands(job, params, [text[name] for task in job.test.tasks for name in task.item_ids])
    return demand_XR.reshape(job.test.num_tasks, job.test.shots, -1)


def measured_abilities(job: Job, params: Params, scale: AbilityScale) -> dict[str, np.ndarray]:
    """Abilities float32 `[R + 1]` of the candidates that are to be measured, by all their training outcomes, not those on the aptitude test alone."""
    few = job.train.select_candidates(job.measured)
    few = few.select_items(~np.isnan(few.scores_MN).all(axis=0))
    if not few.items:
        return {}
    demand_NR = demands(job, params, [item.text for item in few.items])
    scale = dataclasses.replace(scale, demand_TKR=demand_NR[None])
    return {
        name: scale.ability(scores_N[None]) for name, scores_N in zip(few.candidate_ids, few.scores_MN, strict=True)
    }


def demands(job: Job, params: Params, texts: Sequence[str]) -> np.ndarray:
    """What the trained head says that instructions ask for, float32 `[B, R + 1]` (`satjax.models.ability_head`)."""
    graphdef, _ = abstract_model(job.assembly.model)
    everywhere = replicated(job.mesh)
    read = jax.jit(lambda params, feature_BF: bind(graphdef, params).demands(feature_BF), out_shardings=everywhere)
    return np.asarray(read(params, place(feature_reader(job, params).read(params, texts), everywhere)))
