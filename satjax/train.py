"""Training: stages in turn, resumable at any step, ending with an exported router."""

import contextlib
import dataclasses
import hashlib
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from satjax.agreement import Stop, StopVote, from_first, is_first, wait_for_all
from satjax.aptitude import AptitudeTest
from satjax.checkpoint import CHECKPOINTS, Checkpoints, canonical_json
from satjax.config import TrainConfig
from satjax.errors import SatjaxError
from satjax.export import read_router
from satjax.files import explain_full_disk
from satjax.finish import export
from satjax.interruption import Interrupted, stop_requests
from satjax.job import (
    Job,
    base_digests,
    fingerprint,
    measured_norms,
    place_params,
    prepare,
    reads_features,
    training_set,
)
from satjax.models.router_model import Params, abstract_model
from satjax.plots import plot_training_curve
from satjax.run_log import RunLog
from satjax.stage_loop import StageLoop, restore
from satjax.text_features import Progress

log = logging.getLogger(__name__)

MACHINERY: dict[tuple[str, ...], tuple[str, ...]] = {
    (): ("mesh", "checkpoint"),
    ("data",): ("outcomes",),
    ("router",): ("attention",),
    ("router", "llm"): ("remat",),
    ("batch",): ("accumulate",),
}
"""Settings, by their group, that say how a run is computed, not what comes of it."""


def train(config: TrainConfig, workdir: Path, test: AptitudeTest | None = None) -> Path:
    """Trains as the config says and returns the exported router's directory, `workdir/router`.

    A run that was killed or interrupted goes on from its newest checkpoint and ends with the same parameters, on whatever number of
    processes. All of a run's processes call this with the same config and the same `workdir`, on a file system that they share; the first
    one writes everything but the checkpoints' arrays. `test` takes the place of the aptitude test that the config would draw.

    Where that run was over before, the router that is there stays as it is: candidates may have been added to it, or its calibration fitted again.

    Raises SatjaxError for mistakes in the config or data and for a loss that is not finite; raises Interrupted, on all processes after the
    same step, when one of them got SIGTERM or SIGINT.
    """
    target = workdir / "router"
    with explain_full_disk(workdir):
        with stop_requests() as stop:
            job = prepare(config, workdir, test)
            with Checkpoints(workdir / CHECKPOINTS, config.checkpoint.keep) as checkpoints:
                over = (checkpoints.latest_step() or 0) == config.total_steps
                params = run_stages(job, checkpoints, identity(job), workdir, StopVote(stop, job.mesh))
        if over and _holds_router(target):
            log.info("%s is kept: its run was over; remove it to have it written again", target)
        else:
            export(job, params, target)
        if is_first():
            plot_training_curve(workdir / "metrics.jsonl", workdir / "training_curve.png")
        wait_for_all("exported")
    return target


def _holds_router(directory: Path) -> bool:
    """Whether the first process finds a whole router there, on all processes."""
    found = False
    if is_first():
        with contextlib.suppress(SatjaxError):
            read_router(directory)
            found = True
    return bool(from_first(np.array(found)))


def identity(job: Job) -> dict[str, str]:
    """What a run has to have in common with its checkpoints to go on with them, by name: digests.

    Left out of the config is what changes no result but by rounding (the machines, memory, when checkpoints are saved), so that a run may go on
    on other hardware; and the place of the outcomes, what is read there being counted itself.
    """
    config = dataclasses.asdict(job.config)
    for group, names in MACHINERY.items():
        parent = config
        for key in group:
            parent = parent[key]
        for name in names:
            del parent[name]
    parts = {
        "config": canonical_json(config).encode(),
        "outcomes": fingerprint(job.table, job.train.candidate_ids, job.test),
        "base weights": base_digests(job.assembly),
    }
    return {name: hashlib.sha256(value).hexdigest() for name, value in parts.items()}


def run_stages(job: Job, checkpoints: Checkpoints, run: dict[str, Any], workdir: Path, stop: Stop) -> Params:
    """All stages from the newest checkpoint on; returns the parameters after the last step."""
    config = job.config
    graphdef, shapes = abstract_model(job.assembly.model)
    params = place_params(job)
    done = checkpoints.latest_step() or 0
    opt_state = None
    if done:
        before = checkpoints.run_of(done)
        if other := next((what for what in run if before.get(what) != run[what]), None):
            one = "other" if other.endswith("s") else "another"
            raise SatjaxError(
                f"{workdir} holds a run of {one} {other}; use another --workdir, or remove it to start over"
            )
        params, opt_state = restore(job, checkpoints, params, done)
    with RunLog(workdir, first_step=done, total_steps=config.total_steps, enabled=is_first()) as log:
        log.say(
            f"{len(job.train.items)} training instructions x {len(job.train.candidates)} candidates, "
            f"{sum(math.prod(shapes[p].shape) for p in job.learned):,} trained parameters, mesh {dict(job.mesh.shape)}"
            + (f", {len(job.unprofiled)} candidates without aptitude outcomes only teach" if job.unprofiled else "")
            + (f", going on after step {done}" if done else "")
        )
        reading = interruptible(log.counter("reading instructions"), stop, done)
        first, data = 0, None
        for number, stage in enumerate(config.stages):
            if done < first + stage.steps:
                if data is None or data.has_features != reads_features(config, job.learned, number):
                    data = training_set(job, params, number, reading)
                if config.router.ability_head.rank and not done:
                    params |= measured_norms(job, params, data)
                loop = StageLoop(job, graphdef, number, stage, first, data)
                with explain_full_memory(stage.name):
                    params = loop.run(params, opt_state if done > first else None, done, checkpoints, run, log, stop)
                done = first + stage.steps
            first += stage.steps
    return params


@contextmanager
def explain_full_memory(stage: str) -> Iterator[None]:
    """A step that does not fit its device is the config's to mend."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise SatjaxError(
            f"a step of stage {stage!r} does not fit in memory ({str(error).splitlines()[0]}): raise config batch.accumulate, lower "
            "batch.groups, batch.instructions or batch.candidates, set router.llm.remat to 'full', or take more devices with mesh.fsdp"
        ) from None


def interruptible(on_progress: Progress, stop: Stop, done: int) -> Progress:
    """Progress of something that goes before the steps, and that keeps what it has made by itself."""

    def count(ready: int, total: int) -> None:
        on_progress(ready, total)
        if stop():
            raise Interrupted(done)

    return count
