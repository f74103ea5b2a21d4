"""Training: stages in turn, resumable at any step, ending with an exported router."""

import contextlib
import errno
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from satjax.agreement import Stop, StopVote, from_first, is_first, wait_for_all
from satjax.aptitude import AptitudeTest
from satjax.checkpoint import CHECKPOINTS, Checkpoints, Damaged, is_saved
from satjax.config import TrainConfig
from satjax.errors import SatjaxError, TryAgain
from satjax.export import read_router
from satjax.faults import tried_again
from satjax.files import explain_full_disk, open_locked
from satjax.finish import export, origin
from satjax.interruption import Interrupted, ended_by_sigterm, stop_requests
from satjax.job import (
    Job,
    identity,
    measured_norms,
    place_params,
    prepare,
    reads_features,
    training_set,
)
from satjax.models.router_model import Params, abstract_model
from satjax.optimizer import trainable_paths
from satjax.plots import plot_training_curve
from satjax.run_log import RunLog
from satjax.stage_loop import StageLoop, restore
from satjax.text_features import Progress

log = logging.getLogger(__name__)


def train(config: TrainConfig, workdir: Path, test: AptitudeTest | None = None) -> Path:
    """Trains as the config says and returns the exported router's directory, `workdir/router`.

    A run that was killed or interrupted goes on from its newest checkpoint and ends with the same parameters, on whatever number of
    processes. All of a run's processes call this with the same config and the same `workdir`, on a file system that they share; the first
    one writes everything but the checkpoints' arrays. `test` takes the place of the aptitude test that the config would draw.

    Where that run was over before and its router is there, it stays as it is: candidates may have been added to it, or its calibration fitted
    again. A router of another run, or of outcomes that have changed since, is written anew.

    Raises SatjaxError for mistakes in the config or data and for a loss that is not finite, TryAgain where another run is in that `workdir`,
    and for a fault of device, network or storage once a step was done; raises Interrupted, on all processes after the same step, when one of them
    got SIGTERM or SIGINT.
    """
    target, has_worked = workdir / "router", False
    with tried_again(lambda: has_worked), explain_full_disk(workdir), alone(workdir):
        has_worked = is_saved(workdir / CHECKPOINTS)
        with ended_by_sigterm():  # and by Ctrl-C: there is nothing to save yet
            job = prepare(config, workdir, test)
        with stop_requests() as stop, Checkpoints(workdir / CHECKPOINTS, config.checkpoint.keep) as checkpoints:
            over = (checkpoints.latest_step() or 0) == config.total_steps
            params = run_stages(job, checkpoints, identity(job), workdir, StopVote(stop, job.mesh))
        has_worked = True
        if over and _holds_router(target, job):
            log.info("%s is kept: its run was over; remove it to have it written again", target)
        else:
            export(job, params, target)
        if is_first():
            plot_training_curve(workdir / "metrics.jsonl", workdir / "training_curve.png")
        wait_for_all("exported")
    return target


def _holds_router(directory: Path, job: Job) -> bool:
    """Whether the first process finds a whole router there that this run made, on all processes."""
    found = False
    if is_first():
        with contextlib.suppress(SatjaxError):
            before, now = read_router(directory).run, origin(job)
            found = before == now
            if not found:
                others = ", ".join(what for what in now if before.get(what) != now[what])
                log.warning("%s is written anew: it is no router of this run's %s", directory, others)
    return bool(from_first(np.array(found)))


@contextlib.contextmanager
def alone(workdir: Path) -> Iterator[None]:
    """Keeps out another run in this workdir, which would clear away the checkpoint that this one is saving, as what is left of a dead run.

    Each process of a run locks a file of its own, by its number, and removes it at the end; the lock ends with the process. A workdir that
    stayed empty goes as it came. Raises TryAgain where another process has this one's number, and SatjaxError where no file can be made.
    """
    path, made = workdir / f".lock-{jax.process_index()}", not workdir.exists()
    with _locked(path):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
                if made:
                    workdir.rmdir()


def _locked(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open_locked(path, wait=False)
    except BlockingIOError as error:
        raise TryAgain(
            f"{path.parent}: another process trains there; wait for it, or use another --workdir; where its host is gone, remove {path}"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SatjaxError(f"{path.parent} cannot be written ({error.strerror}); use another --workdir") from error


def run_stages(job: Job, checkpoints: Checkpoints, run: dict[str, Any], workdir: Path, stop: Stop) -> Params:
    """All stages from the newest checkpoint on; returns the parameters after the last step."""
    config = job.config
    graphdef, shapes = abstract_model(job.assembly.model)
    with explain_full_memory("what the LLM is made of", SMALLER_LLM):
        params = place_params(job)
    done, params, opt_state = newest(job, checkpoints, params, run, workdir)
    trained = set().union(*(trainable_paths(shapes, stage) for stage in config.stages))
    with (
        RunLog(workdir, first_step=done, total_steps=config.total_steps, enabled=is_first()) as log,
        tried_again(lambda: log.step > 0),
    ):
        log.say(
            f"{len(job.train.items)} training instructions x {len(job.train.candidates)} candidates, "
            f"{sum(math.prod(shapes[path].shape) for path in trained):,} trained parameters, mesh {dict(job.mesh.shape)}"
            + (f", {len(job.unprofiled)} candidates without aptitude outcomes only teach" if job.unprofiled else "")
            + (f", going on after step {done}" if done else "")
        )
        reading = interruptible(log.counter("reading instructions"), stop, done)
        first, data = 0, None
        for number, stage in enumerate(config.stages):
            if done < first + stage.steps:
                if data is None or data.has_features != reads_features(config, job.learned, number):
                    with explain_full_memory("reading the instructions", SMALLER_LLM):
                        data = training_set(job, params, number, reading)
                if config.router.ability_head.rank and not done:
                    params |= measured_norms(job, params, data)
                loop = StageLoop(job, graphdef, number, stage, first, data)
                # Handed over, so that nothing here keeps what the first step replaces.
                handed, opt_state = [opt_state if done > first else None], None
                with explain_full_memory(f"a step of stage {stage.name!r}", SMALLER_STEP):
                    params = loop.run(params, handed.pop(), done, checkpoints, run, log, stop)
                done = first + stage.steps
            first += stage.steps
    return params


def newest(
    job: Job, checkpoints: Checkpoints, params: Params, run: dict[str, Any], workdir: Path
) -> tuple[int, Params, Any]:
    """Steps done, parameters and optimizer state at the newest checkpoint that can be read; `params` as they are where there is none yet.

    Newer ones are removed then: the run makes them again. Where none can be read nothing is removed: that may be for something they all share.
    """
    damaged: dict[int, Damaged] = {}
    for step in checkpoints.steps():
        try:
            before = checkpoints.run_of(step)
            if other := next((what for what in run if before.get(what) != run[what]), None):
                one = "other" if other.endswith("s") else "another"
                raise SatjaxError(
                    f"{workdir} holds a run of {one} {other}; use another --workdir, or remove it to start over"
                )
            with explain_full_memory("what was trained", SMALLER_LLM):
                restored = restore(job, checkpoints, params, step)
        except Damaged as error:
            damaged[step] = error
            continue
        for newer, found in damaged.items():
            if is_first():
                log.warning("%s; it is removed, and the run goes on from %s", found, checkpoints.directory / str(step))
            checkpoints.remove(newer)
        return step, *restored
    if damaged:
        all_found = ", ".join(map(str, damaged.values()))
        raise SatjaxError(f"{all_found}; remove {checkpoints.directory} to start over, or use another --workdir")
    return 0, params, None


SMALLER_LLM = "take a smaller LLM, set router.param_dtype to 'bfloat16', or take more devices with mesh.fsdp"
SMALLER_STEP = (
    "raise config batch.accumulate, lower batch.groups, batch.instructions or batch.candidates, set router.llm.remat to 'full', "
    "or take more devices with mesh.fsdp"
)
OTHER_KERNEL = "set router.attention to 'xla', whose kernels take less of a TPU's vector memory"


def lacks_vector_memory(message: str) -> bool:
    """Whether it is that of a TPU's cores (vmem) that an error speaks of, which holds what a kernel works on: not parameters, nor activations."""
    return re.search(r"memory space vmem|vmem limit|vmem capacity", message) is not None


@contextmanager
def explain_full_memory(what: str, advice: str) -> Iterator[None]:
    """What does not fit its device is the config's to mend, as `advice` says, or by another kernel."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        advice = OTHER_KERNEL if lacks_vector_memory(str(error)) else advice
        raise SatjaxError(f"{what} does not fit in memory ({str(error).splitlines()[0]}): {advice}") from None


def interruptible(on_progress: Progress, stop: Stop, done: int) -> Progress:
    """Progress of something that goes before the steps, and that keeps what it has made by itself."""

    def count(ready: int, total: int) -> None:
        on_progress(ready, total)
        if stop():
            raise Interrupted(done)

    return count
