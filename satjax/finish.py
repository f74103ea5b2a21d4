"""What a run ends with: a scale for new candidates, calibrated probabilities, and the router directory."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from satjax.agreement import is_first
from satjax.aptitude import known_profiles
from satjax.calibration import Calibration, fit_calibration
from satjax.capability import ProfileReader
from satjax.export import RouterFiles, write_router
from satjax.job import Job, feature_reader, store_of
from satjax.measurement import AbilityScale
from satjax.model_card import model_card
from satjax.models.router_model import Params, abstract_model, bind
from satjax.scoring import Scorer, as_tokens
from satjax.sharding import place, replicated


def export(job: Job, params: Params, target: Path) -> None:
    """Calibrates on the validation split, on all processes together; the first one writes the router directory."""
    config, trained_on = job.config, job.train.candidate_ids
    learned = whole_params(job, params)
    abilities: dict[str, np.ndarray] = {}
    if job.reader:
        calibration = calibrated(job, params, job.reader, None)
    else:
        learned.pop("connector/ability", None)
        ability_MR = np.asarray(jax.device_put(params["connector/ability"], replicated(job.mesh)))
        scale = AbilityScale.of(aptitude_demands(job, params), ability_MR)
        calibration = calibrated(job, params, scale, as_tokens(jnp.asarray(ability_MR)))
        learned |= scale.linked(calibration.scale, calibration.offset).params()
        abilities = dict(zip(trained_on, ability_MR, strict=True))
    if not is_first():
        return
    files = RouterFiles(
        config=dataclasses.replace(config.router, attention="auto"),  # other machines have other kernels
        norms=job.norms,
        base_sha256={part: base.sha256 for part, base in job.assembly.bases.items()},
        order_seed=config.seed,
        test=job.test,
        profiles=known_profiles(job.table, job.test, job.table.candidate_ids),
        calibration=calibration,
        learned={path: (value.shape, str(value.dtype)) for path, value in learned.items()},
        abilities={name: ability for name, ability in abilities.items() if name not in job.unprofiled},
    )
    write_router(target, files, learned, job.assembly.writer.tokenizer, model_card(config, files, job.train))


def calibrated(job: Job, params: Params, reader: ProfileReader | AbilityScale, soft: jax.Array | None) -> Calibration:
    """Platt's map of the training candidates' scores on validation instructions; `soft` are their tokens, if they are not read off profiles."""
    config, trained_on = job.config, job.train.candidate_ids
    validation = [i for i, item in enumerate(job.table.items) if item.split == "val"]
    if not config.calibration_instructions or not validation:
        return Calibration()
    chosen = np.random.default_rng(config.seed).permutation(validation)[: config.calibration_instructions]
    held = job.table.select_candidates(trained_on).select_items(np.sort(chosen))
    scorer = Scorer(job.assembly, params, reader, config.seed, store_of(job, params), job.mesh)
    if soft is None:
        soft = scorer.soft_tokens(known_profiles(job.table, job.test, trained_on))
    return fit_calibration(scorer.score([item.text for item in held.items], soft), held.scores_MN.T)


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


def demands(job: Job, params: Params, texts: Sequence[str]) -> np.ndarray:
    """What the trained head says that instructions ask for, float32 `[B, R + 1]` (`satjax.models.ability_head`)."""
    graphdef, _ = abstract_model(job.assembly.model)
    everywhere = replicated(job.mesh)
    read = jax.jit(lambda params, feature_BF: bind(graphdef, params).demands(feature_BF), out_shardings=everywhere)
    return np.asarray(read(params, place(feature_reader(job, params).read(params, texts), everywhere)))
