"""Training: stages in turn, resumable at any step, ending with an exported router."""

import contextlib
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from satjax.aptitude import AptitudeTest
from satjax.checkpoint import CHECKPOINTS, Checkpoints, Damaged, is_saved
from satjax.config import TrainConfig
from satjax.errors import SHOWN, SatjaxError, TryAgain, some
from satjax.export.directory import read_router
from satjax.files import exclusive, explain_full_disk
from satjax.models.router_model import Params, abstract_model
from satjax.processes.agreement import Stop, StopVote, from_first, is_first, on_any, wait_for_all
from satjax.processes.faults import tried_again
from satjax.processes.interruption import Interrupted, ended_by_sigterm, stop_requests
from satjax.progress import Progress
from satjax.sharding import as_satjax_computes
from satjax.training.curve import plot_training_curve
from satjax.training.data import measured_norms, place_params, training_set, validation_set
from satjax.training.device_memory import SMALLER_LLM, explain_full_memory, smaller_step
from satjax.training.finish import origin, write_trained_router
from satjax.training.job import Job, prepare, reads_features
from satjax.training.optimizer import trainable_paths
from satjax.training.run_log import RunLog, Silent
from satjax.training.stage_loop import StageLoop, restore

log = logging.getLogger(__name__)

SECONDS_FOR_A_LOCK = 300.0
"""Longer than a share keeps that of a host which is gone: leases of NFS 4 are of 90 seconds or so."""
SECONDS_BETWEEN_TRIES = 1.0


@as_satjax_computes()
def train(config: TrainConfig, workdir: Path, test: AptitudeTest | None = None) -> Path:
    """Trains as the config says and returns the exported router's directory, `workdir/router`.

    A run that was killed or interrupted goes on from its newest checkpoint and ends with the same parameters, on whatever number of
    processes: bit for bit on the same CPU, else up to rounding. All of a run's processes call this with the same config and the same `workdir`,
    on a file system that they share; the first one writes everything but the checkpoints' arrays. `test` takes the place of the aptitude test
    that the config would draw.

    Where that run was over before and its router is there, it stays as it is: candidates may have been added to it, or its calibration fitted
    again. A router of another run, or of outcomes that have changed since, is written anew.

    Raises SatjaxError for mistakes in the config or data and for a loss that is not finite, TryAgain where another run is in that `workdir`,
    and for a fault of device, network or storage once a step was done; raises Interrupted, on all processes after the same step, when one of them
    got SIGTERM, SIGHUP or SIGINT.
    """
    target, has_worked = workdir / "router", False
    with tried_again(lambda: has_worked), explain_full_disk(workdir), alone(workdir):
        has_worked = is_saved(workdir / CHECKPOINTS)
        with ended_by_sigterm():  # and by Ctrl-C: there is nothing to save yet
            job = prepare(config, workdir, test)
        with stop_requests() as stop, Checkpoints(workdir / CHECKPOINTS, config.checkpoint.keep) as checkpoints:
            over = (checkpoints.latest_step() or 0) == config.total_steps
            params = run_stages(job, checkpoints, workdir, StopVote(stop, job.mesh))
        has_worked = True
        if over and _holds_router(target, job):
            log.info("%s is kept: its run was over; remove it to have it written again", target)
        else:
            write_trained_router(job, params, target)
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

    Each process of a run locks a file of its own, by its number, and removes it at the end; the lock ends with the process. Where its host is lost a
    share may keep it for minutes (NFS 4: until the lease is over), so it is waited for. A workdir that stayed empty goes as it came. Raises TryAgain
    where another process still has this one's number then, and SatjaxError where no file can be made.
    """
    path, made = workdir / f".lock-{jax.process_index()}", not workdir.exists()
    with contextlib.ExitStack() as held:
        with ended_by_sigterm():
            _take(path, workdir, held)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
                if made:
                    workdir.rmdir()


def _take(path: Path, workdir: Path, held: contextlib.ExitStack) -> None:
    """Locks the file at this path until `held` ends, all processes of the run together: none goes ahead into what the others would be late for."""
    busy = f"{workdir}: another process trains there; wait for it, or use another --workdir; where its host is gone, remove {path}"
    began, is_free, said = time.monotonic(), False, False
    while True:
        try:
            if not is_free:
                held.enter_context(exclusive(path, workdir, busy=busy, advice="use another --workdir"))
                is_free = True
        except TryAgain as error:
            if str(error) != busy:  # a signal that came meanwhile
                raise
        if not on_any(not is_free):
            return
        if not is_free and time.monotonic() - began >= SECONDS_FOR_A_LOCK:
            raise TryAgain(busy)
        if not is_free and not said:
            said = True
            minutes = f"{SECONDS_FOR_A_LOCK / 60:.0f} min"
            holder = f"another process that trains in {workdir}, or for its lock to end where its host is gone"
            print(f"satjax: waiting up to {minutes} for {holder}", file=sys.stderr, flush=True)
        time.sleep(SECONDS_BETWEEN_TRIES)


def run_stages(job: Job, checkpoints: Checkpoints, workdir: Path, stop: Stop) -> Params:
    """All stages from the newest checkpoint on; returns the parameters after the last step."""
    config = job.config
    _, shapes = abstract_model(job.assembly.model)
    with explain_full_memory("what the LLM is made of", SMALLER_LLM):
        params = place_params(job)
    done, params, opt_state = newest(job, checkpoints, params, workdir)
    trained = set().union(*(trainable_paths(shapes, stage) for stage in config.stages))
    with (
        RunLog(workdir, first_step=done, total_steps=config.total_steps) if is_first() else Silent(done) as log,
        tried_again(lambda: log.step > 0),
    ):
        log.say(
            f"{len(job.train.items)} training instructions x {len(job.train.candidates)} candidates, "
            f"{sum(math.prod(shapes[path].shape) for path in trained):,} trained parameters, mesh {dict(job.mesh.shape)}"
            + (f", going on after step {done}" if done else "")
        )
        if job.unprofiled:
            log.say(f"not in the router, for want of outcomes on the aptitude test: {named(job, job.unprofiled)}")
        if job.measured:
            log.say(f"few outcomes, so measured like a new candidate: {named(job, job.measured)}")
        reading = interruptible(log.counter("reading instructions"), stop, done)
        looking = interruptible(log.counter("reading validation instructions"), stop, done)
        data, held = None, None
        while done < config.total_steps:
            number = config.stage_of(done + 1)
            if data is None or data.has_features != reads_features(config, job.learned, number):
                with explain_full_memory("reading the instructions", SMALLER_LLM):
                    data = training_set(job, params, number, reading)
                    held = validation_set(job, params, number, looking)
            if config.router.ability_head.rank and not done:
                params |= measured_norms(job, params, data)
            loop = StageLoop(job, number, data, held)
            # Handed over, so that nothing here keeps what the first step replaces.
            handed, opt_state = [opt_state if done > loop.first else None], None
            with explain_full_memory(f"a step of stage {loop.stage.name!r}", smaller_step(config.batch)):
                params = loop.run(params, handed.pop(), done, checkpoints, log, stop)
            done = config.steps_before(number + 1)
    return params


def named(job: Job, candidates: Sequence[str]) -> str:
    """Training candidates with their numbers of outcomes, for people."""
    count_M = (~np.isnan(job.train.select_candidates(candidates).scores_MN)).sum(axis=1)
    return some([f"{name} ({count:,})" for name, count in zip(candidates, count_M, strict=True)], SHOWN)


def newest(job: Job, checkpoints: Checkpoints, params: Params, workdir: Path) -> tuple[int, Params, Any]:
    """Steps done, parameters and optimizer state at the newest checkpoint that can be read; `params` as they are where there is none yet.

    Newer ones are removed then: the run makes them again. Where none can be read nothing is removed: that may be for something they all share.
    """
    damaged: dict[int, Damaged] = {}
    for step in checkpoints.steps():
        try:
            before = checkpoints.run_of(step)
            if other := next((what for what, now in job.identity.items() if before.get(what) != now), None):
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


def interruptible(on_progress: Progress, stop: Stop, done: int) -> Progress:
    """Progress of something that goes before the steps, and that keeps what it has made by itself."""

    def count(ready: int, total: int) -> None:
        on_progress(ready, total)
        if stop():
            raise Interrupted(done)

    return count
