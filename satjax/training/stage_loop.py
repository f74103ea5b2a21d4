"""The steps of one stage, and the state that they start from."""

import dataclasses
import json
import math
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from satjax.aptitude import accuracy_and_count
from satjax.aptitude.capability import hide_items, profile_parts
from satjax.checkpoint import Checkpoints
from satjax.config import StageConfig
from satjax.errors import SatjaxError
from satjax.models.router_model import Params, ProfileInputs, abstract_model, bind, no_profiles
from satjax.processes.agreement import Stop, is_first
from satjax.processes.interruption import Interrupted
from satjax.progress import Progress, unheard
from satjax.sharding import abstract_on_mesh, on_mesh, place, replicated
from satjax.training.batches import BatchPlan, TrainingSet
from satjax.training.job import Job
from satjax.training.optimizer import make_optimizer, partition, schedule, trainable_paths
from satjax.training.run_log import RunLog, Silent
from satjax.training.train_step import make_train_step, place_batch
from satjax.training.validation import Validation, figures


class StageLoop:
    """The steps of the stage of this number; where there are instructions that are `held` out of training, they are scored every so many steps."""

    def __init__(self, job: Job, number: int, data: TrainingSet, held: TrainingSet | None = None):
        config, (graphdef, _) = job.config, abstract_model(job.assembly.model)
        stage = config.stages[number]
        self.job, self.graphdef, self.stage, self.held = job, graphdef, stage, held
        self.first = config.steps_before(number)
        self.plan = BatchPlan(
            data, config.batch, seed=config.seed, stage=number, in_domain=stage.instructions == "aptitude_tasks"
        )
        readings = [no_profiles()]
        if job.reader:
            profiles = [job.profiles[name] for name in job.train.candidate_ids]
            self.item_outcome_MTK = np.stack([profile.outcomes_TK for profile in profiles])
            readings = [job.reader.inputs(profiles, config.seed + i) for i in range(job.reader.num_orders)]
        self.inputs = [jax.tree.map(self.place, reading) for reading in readings]
        self.key = (config.seed, number)
        self.rate = np.asarray(schedule(stage, config.optimizer)(np.arange(stage.steps)))
        self.last_record = 0.0

        @partial(jax.jit, out_shardings=replicated(job.mesh))
        def embed(params: Params, inputs: ProfileInputs) -> jax.Array:
            with on_mesh(job.mesh):
                return bind(graphdef, params).embed_profiles(inputs)

        self.embed = embed

    def place(self, value: np.ndarray | jax.Array) -> jax.Array:
        """What every device reads the whole of."""
        return place(np.asarray(value), replicated(self.job.mesh))

    def inputs_of(self, step: int) -> ProfileInputs:
        """Profiles as the step reads them: task orders take turns, and some items are hidden where the config says so."""
        inputs, most = self.inputs[step % len(self.inputs)], self.job.config.batch.hidden_items
        if not most or not self.job.reader:
            return inputs
        rng = np.random.default_rng((*self.key, 2, step - self.first))
        numbers = self.job.reader.numbers(*accuracy_and_count(hide_items(self.item_outcome_MTK, most, rng)))
        accuracy_MT, certainty_MT = map(self.place, numbers)
        return dataclasses.replace(inputs, accuracy_MT=accuracy_MT, certainty_MT=certainty_MT)

    def run(
        self,
        params: Params,
        opt_state: Any,
        done: int,
        checkpoints: Checkpoints,
        log: RunLog | Silent,
        stop: Stop,
    ) -> Params:
        """Steps from `done` to the stage's end; a missing optimizer state starts fresh. `params` is empty afterwards: the caller's would be a second copy."""
        job, stage, config = self.job, self.stage, self.job.config
        trainable, frozen = partition(params, trainable_paths(params, stage))
        embeds = any(path.startswith("encoder/") for path in trainable)
        opt_state = initial_optimizer_state(job, stage, trainable) if opt_state is None else opt_state
        step_of = make_train_step(
            self.graphdef,
            make_optimizer(stage, config.optimizer),
            config.loss,
            job.mesh,
            trainable,
            opt_state,
            embeds,
            config.batch.hidden_features,
        )
        embedded = [self.place(np.zeros(())) if embeds else self._embedded(params, inputs) for inputs in self.inputs]
        params.clear()
        last = self.first + stage.steps
        validation: Validation | None = None
        look: Progress = unheard
        if self.held is not None:
            candidate_M = np.flatnonzero(job.learner_M)
            validation = Validation(self.graphdef, config.batch, job.mesh, self.held, candidate_M, embeds)
            look = log.counter("validation")

        def save(step: int) -> None:
            learned = {path: value for path, value in {**frozen, **trainable}.items() if path in job.learned}
            checkpoints.save(step, {"params": learned, "optimizer": opt_state}, dict(job.identity))
            log.save()

        self.last_record = time.monotonic()
        unread: tuple[int, dict] | None = None
        for step in range(max(done, self.first), last):
            batch = place_batch(self.plan.batch(step - self.first), config.batch, job.mesh)
            embedding = embedded[step % len(embedded)]
            trainable, opt_state, metrics = step_of(
                trainable, frozen, opt_state, batch, self.inputs_of(step), embedding
            )
            # Metrics are read one step late, so that the next step is under way while the host writes.
            if unread:
                log.write(unread[0], stage.name, self._told(*unread, checkpoints))
            unread = (step + 1, metrics)
            at_end, stopping = step + 1 == last, stop()
            saving = at_end or stopping or (step + 1) % config.checkpoint.every_steps == 0
            looking = not stopping and (at_end or (step + 1) % max(1, config.validation.every_steps) == 0)
            if saving or (validation and looking):
                told, unread = self._told(*unread, checkpoints), None
                if validation and looking:
                    # Nothing of the profiles is hidden.
                    readings = list(zip(self.inputs, embedded, strict=True))
                    score_VM = validation.scores({**frozen, **trainable}, readings, stop, look)
                    told |= self._looked(step + 1, score_VM, validation.data.outcome, checkpoints)
                    # Asked once more, since whoever was to stop while it looked is to save first.
                    stopping = stop()
                log.write(step + 1, stage.name, told)
            if saving or stopping:
                save(step + 1)
            if stopping and not (at_end and last == config.total_steps):
                checkpoints.wait()
                raise Interrupted(step + 1)
        return {**frozen, **trainable}

    def _embedded(self, params: Params, inputs: ProfileInputs) -> jax.Array:
        """psi of all profiles."""
        read = [self.embed(params, part) for part in profile_parts(inputs)]
        return read[0] if len(read) == 1 else jnp.concatenate(read)[: len(inputs.accuracy_MT)]

    def _told(self, step: int, metrics: dict[str, jax.Array], checkpoints: Checkpoints) -> dict[str, float]:
        """What is told of a step, with its rate and the time since the one before: reading its metrics waits for it to be done."""
        values = {name: float(value) for name, value in metrics.items()}
        if not all(map(math.isfinite, values.values())):
            raise self._diverged(f"the loss is not finite at step {step}", f" ({json.dumps(values)})", checkpoints)
        now = time.monotonic()
        seconds, self.last_record = now - self.last_record, now
        told = {
            "learning_rate": float(f"{self.rate[step - 1 - self.first]:.6g}"),
            "seconds": round(seconds, 6),
            "instructions_per_second": float(f"{self.plan.rows / max(seconds, 1e-9):.4g}"),
        }
        return values | told

    def _looked(
        self, step: int, score_VM: np.ndarray | None, outcome_VM: np.ndarray, checkpoints: Checkpoints
    ) -> dict[str, float]:
        """What is told of validation instructions, on the first process; nothing where they have no scores, since the run is to stop."""
        if score_VM is not None and not np.isfinite(score_VM).all():
            raise self._diverged(f"scores of validation instructions are not finite after step {step}", "", checkpoints)
        found = figures(score_VM, outcome_VM) if score_VM is not None and is_first() else {}
        self.last_record = time.monotonic()
        return found

    def _diverged(self, what: str, values: str, checkpoints: Checkpoints) -> SatjaxError:
        checkpoints.wait()
        kept = checkpoints.latest_step()
        where = "nothing was saved before it" if kept is None else f"the last checkpoint, of step {kept}, is intact"
        return SatjaxError(
            f"{what} of stage {self.stage.name!r}{values}; {where}: lower the stage's learning_rate or optimizer.clip_norm"
        )


def initial_optimizer_state(job: Job, stage: StageConfig, trainable: Params) -> Any:
    """A fresh optimizer state whose moments lie as their parameters do."""
    optimizer = make_optimizer(stage, job.config.optimizer)
    abstract = abstract_on_mesh(jax.eval_shape(optimizer.init, trainable), trainable, job.mesh)
    return jax.jit(optimizer.init, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))(trainable)


def restore(job: Job, checkpoints: Checkpoints, params: Params, done: int) -> tuple[Params, Any]:
    """Learned parameters and optimizer state after `done` steps, on the present mesh."""
    stage = job.config.stages[job.config.stage_of(done)]
    trainable, _ = partition(params, trainable_paths(params, stage))
    optimizer = make_optimizer(stage, job.config.optimizer)
    abstract = {
        "params": abstract_on_mesh({path: params[path] for path in sorted(job.learned)}, params, job.mesh),
        "optimizer": abstract_on_mesh(jax.eval_shape(optimizer.init, trainable), params, job.mesh),
    }
    state = checkpoints.restore(done, abstract)
    return {**params, **state["params"]}, state["optimizer"]
