"""Training: stages in turn, resumable at any step, ending with an exported router."""

import contextlib
import dataclasses
import hashlib
import json
import math
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from satjax.agreement import Stop, StopVote, check_same, is_first, wait_for_all
from satjax.aptitude import (
    AptitudeTest,
    CapabilityProfile,
    accuracy_and_count,
    cluster_tasks,
    profile_from_outcomes,
    sample_aptitude_test,
)
from satjax.assembly import Assembly, assemble
from satjax.batches import BatchPlan, TrainingSet, training_table
from satjax.calibration import Calibration, fit_calibration
from satjax.capability import AccuracyNorms, ProfileReader, accuracy_norms, hide_items
from satjax.checkpoint import Checkpoints, canonical_json
from satjax.config import StageConfig, TrainConfig
from satjax.errors import INTERRUPTED_EXIT_CODE, SatjaxError
from satjax.export import RouterFiles, write_router
from satjax.feature_norms import SAMPLE, feature_norms
from satjax.files import explain_full_disk
from satjax.measurement import AbilityScale
from satjax.model_card import model_card
from satjax.models.router_model import Params, ProfileInputs, abstract_model, bind, initial_params, no_profiles
from satjax.optimizer import make_optimizer, partition, trainable_paths
from satjax.outcomes import OutcomeTable, open_outcomes
from satjax.plots import plot_training_curve
from satjax.run_log import RunLog
from satjax.scoring import Scorer, as_tokens, profile_reader
from satjax.sharding import make_mesh, param_shardings, place, replicated
from satjax.text_features import FeatureReader, Progress, feature_store
from satjax.train_step import make_train_step, place_batch, rows_of_a_pass
from satjax.weights.lazy import place_tensor


class Interrupted(Exception):
    """SIGTERM or Ctrl-C came, to this process or another one of the run; everything up to `step` is saved."""

    exit_code = INTERRUPTED_EXIT_CODE

    def __init__(self, step: int):
        super().__init__(f"interrupted after step {step}; everything is saved: run the same command to go on")
        self.step = step


SECONDS_TO_SEE_A_FILE = 60.0


@dataclass(frozen=True)
class Job:
    """What stays the same through a whole training run; there is no `reader` where no profile is read (`items`)."""

    config: TrainConfig
    table: OutcomeTable
    test: AptitudeTest
    train: OutcomeTable
    norms: AccuracyNorms
    assembly: Assembly
    reader: ProfileReader | None
    mesh: Mesh
    learned: frozenset[str]


def train(config: TrainConfig, workdir: Path) -> Path:
    """Trains as the config says and returns the exported router's directory, `workdir/router`.

    A run that was killed or interrupted goes on from its newest checkpoint and ends with the same parameters, on whatever number of
    processes. All of a run's processes call this with the same config and the same `workdir`, on a file system that they share; the first
    one writes everything but the checkpoints' arrays.

    Raises SatjaxError for mistakes in the config or data and for a loss that is not finite; raises Interrupted, on all processes after the
    same step, when one of them got SIGTERM or SIGINT.
    """
    target = workdir / "router"
    with explain_full_disk(workdir):
        with stop_requests() as stop:
            job = prepare(config, workdir)
            run = {"config_sha256": hashlib.sha256(canonical_json(dataclasses.asdict(config)).encode()).hexdigest()}
            with Checkpoints(workdir / "checkpoints", config.checkpoint.keep) as checkpoints:
                params = run_stages(job, checkpoints, run, workdir, StopVote(stop, job.mesh))
        export(job, params, target)
        if is_first():
            plot_training_curve(workdir / "metrics.jsonl", workdir / "training_curve.png")
        wait_for_all("exported")
    return target


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that receives the number of SIGTERM or SIGINT instead of the process dying at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: whoever runs us there handles signals
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def prepare(config: TrainConfig, workdir: Path) -> Job:
    """Opens data and base weights; draws the aptitude test once and keeps it in the workdir, where nothing is made before all fits."""
    check_same("config", canonical_json(dataclasses.asdict(config)).encode())
    mesh = make_mesh(config.mesh)
    rows_of_a_pass(config.batch, mesh)
    table = open_outcomes(config.data.outcomes).without_categories(config.data.held_out_categories)
    table.select_candidates(config.data.held_out_candidates)
    if config.aptitude.clusters:
        table = cluster_tasks(table, config.aptitude.clusters, config.aptitude.seed)
    seen = [name for name in table.candidate_ids if name not in config.data.held_out_candidates]
    test_path = workdir / "aptitude_test.json"
    if test_path.is_file():
        test = AptitudeTest.read(test_path)
    else:
        aptitude = config.aptitude
        test = sample_aptitude_test(
            table.select_candidates(seen), aptitude.num_tasks, aptitude.shots, aptitude.seed, aptitude.draw
        )
    train_table = training_table(table, config.data.held_out_candidates, test.item_ids)
    norms = accuracy_norms([profile_from_outcomes(table, test, name) for name in train_table.candidate_ids])
    assembly = assemble(config.router)
    reader = profile_reader(assembly, test, norms)
    if reader is None:
        model = dataclasses.replace(assembly.model, num_candidates=len(train_table.candidates))
        assembly = dataclasses.replace(assembly, model=model)
    _, shapes = abstract_model(assembly.model)
    learned = set(shapes) - set(assembly.base_params)
    for stage in config.stages:
        learned |= set(trainable_paths(shapes, stage))
    check_same("outcomes or aptitude test", fingerprint(train_table, test))
    if is_first() and not test_path.is_file():
        test.write(test_path)
    wait_for_all("aptitude test")
    check_shared(test_path)
    return Job(config, table, test, train_table, norms, assembly, reader, mesh, frozenset(learned))


def fingerprint(table: OutcomeTable, test: AptitudeTest) -> bytes:
    """The same where training reads the same."""
    texts = "\n".join(f"{item.id} {item.text}" for item in table.items)
    return b"".join([texts.encode(), canonical_json(dataclasses.asdict(test)).encode(), table.scores_MN.tobytes()])


def check_shared(path: Path) -> None:
    """Raises SatjaxError where the first process's file is not seen; a network file system may take its time."""
    deadline = time.monotonic() + SECONDS_TO_SEE_A_FILE
    while not path.is_file():
        if time.monotonic() > deadline:
            raise SatjaxError(
                f"--workdir {path.parent} is not shared: process 0 wrote {path.name} there, process {jax.process_index()} "
                f"({socket.gethostname()}) does not see it; give a directory that all hosts see"
            )
        time.sleep(0.1)


def training_set(job: Job, params: Params, on_progress: Progress = lambda done, total: None) -> TrainingSet:
    """Training instructions with their outcomes: as token rows, or, where the ability head alone is trained, as features of a frozen LLM."""
    outcome_NM = np.ascontiguousarray(job.train.scores_MN.T)
    tasks = {task.name for task in job.test.tasks}
    in_domain = np.array([item.task in tasks for item in job.train.items])
    texts = [item.text for item in job.train.items]
    if job.config.router.head == "none":
        feature_NF = feature_reader(job).read(params, texts, on_progress)
        return TrainingSet(feature_NF, np.ones(len(texts), int), outcome_NM, in_domain)
    rows = job.assembly.writer.encode(texts)
    width = np.array([job.assembly.writer.bucket(length) for length in rows.length])
    return TrainingSet(rows, width, outcome_NM, in_domain)


def feature_reader(job: Job) -> FeatureReader:
    """What the ability head reads, of any instruction, on the training mesh."""
    graphdef, _ = abstract_model(job.assembly.model)
    return FeatureReader(graphdef, job.assembly.writer, feature_store(job.assembly), job.mesh)


def measured_norms(job: Job, params: Params, data: TrainingSet) -> Params:
    """`ability/mean` and `ability/spread` of the training instructions, or of a sample of them drawn by the seed."""
    feature_NF = data.text
    if not isinstance(feature_NF, np.ndarray):
        chosen = np.random.default_rng((job.config.seed, 3)).permutation(len(data))[:SAMPLE]
        feature_NF = feature_reader(job).read(params, [job.train.items[i].text for i in chosen])
    norms = feature_norms(feature_NF, job.config.router.ability_head.num_states)
    shardings = param_shardings(norms, job.mesh)
    return {path: place(np.asarray(value), shardings[path]) for path, value in norms.items()}


def place_params(job: Job) -> Params:
    """Base weights and freshly initialized parameters, laid out on the mesh."""
    _, shapes = abstract_model(job.assembly.model)
    shardings, base = param_shardings(shapes, job.mesh), job.assembly.base_params
    fresh = initial_params(job.assembly.model, job.config.seed, base)
    return {
        path: place_tensor(base[path], sharding) if path in base else place(np.asarray(fresh[path]), sharding)
        for path, sharding in shardings.items()
    }


def run_stages(job: Job, checkpoints: Checkpoints, run: dict[str, Any], workdir: Path, stop: Stop) -> Params:
    """All stages from the newest checkpoint on; returns the parameters after the last step."""
    config = job.config
    graphdef, shapes = abstract_model(job.assembly.model)
    params = place_params(job)
    done = checkpoints.latest_step() or 0
    opt_state = None
    if done:
        if checkpoints.run_of(done)["config_sha256"] != run["config_sha256"]:
            raise SatjaxError(
                f"{workdir} holds a run of another config; use another --workdir, or remove it to start over"
            )
        params, opt_state = restore(job, checkpoints, params, done)
    with RunLog(workdir, first_step=done, total_steps=config.total_steps, enabled=is_first()) as log:
        data = training_set(job, params, interruptible(log.counter("reading instructions"), stop, done))
        if config.router.ability_head.rank and not done:
            params |= measured_norms(job, params, data)
        log.say(
            f"{len(data)} training instructions x {data.outcome.shape[1]} candidates, "
            f"{sum(math.prod(shapes[p].shape) for p in job.learned):,} trained parameters, mesh {dict(job.mesh.shape)}"
            + (f", going on after step {done}" if done else "")
        )
        first = 0
        for number, stage in enumerate(config.stages):
            if done < first + stage.steps:
                loop = StageLoop(job, graphdef, number, stage, first, data)
                params = loop.run(params, opt_state if done > first else None, done, checkpoints, run, log, stop)
                done = first + stage.steps
            first += stage.steps
    return params


def interruptible(on_progress: Progress, stop: Stop, done: int) -> Progress:
    """Progress of something that goes before the steps, and that keeps what it has made by itself."""

    def count(ready: int, total: int) -> None:
        on_progress(ready, total)
        if stop():
            raise Interrupted(done)

    return count


def abstract_on_mesh(tree: Any, like: dict[str, jax.Array], mesh: Mesh) -> Any:
    """Shapes of an optimizer state or parameters with the sharding of the parameter each leaf belongs to."""

    def leaf(path: tuple, value: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        names = [key.key for key in path if isinstance(key, jax.tree_util.DictKey) and key.key in like]
        sharding = like[names[-1]].sharding if names else replicated(mesh)
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def initial_optimizer_state(job: Job, stage: StageConfig, trainable: Params) -> Any:
    """A fresh optimizer state whose moments lie as their parameters do."""
    optimizer = make_optimizer(stage, job.config.optimizer)
    abstract = abstract_on_mesh(jax.eval_shape(optimizer.init, trainable), trainable, job.mesh)
    return jax.jit(optimizer.init, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract))(trainable)


def restore(job: Job, checkpoints: Checkpoints, params: Params, done: int) -> tuple[Params, Any]:
    """Learned parameters and optimizer state after `done` steps, on the present mesh."""
    first = 0
    for stage in job.config.stages:
        if done <= first + stage.steps:
            break
        first += stage.steps
    trainable, _ = partition(params, trainable_paths(params, stage))
    optimizer = make_optimizer(stage, job.config.optimizer)
    abstract = {
        "params": abstract_on_mesh({path: params[path] for path in sorted(job.learned)}, params, job.mesh),
        "optimizer": abstract_on_mesh(jax.eval_shape(optimizer.init, trainable), params, job.mesh),
    }
    state = checkpoints.restore(done, abstract)
    return {**params, **state["params"]}, state["optimizer"]


class StageLoop:
    """The steps of one stage."""

    def __init__(
        self, job: Job, graphdef: nnx.GraphDef, number: int, stage: StageConfig, first: int, data: TrainingSet
    ):
        self.job, self.graphdef, self.stage, self.first = job, graphdef, stage, first
        config = job.config
        self.plan = BatchPlan(
            data, config.batch, seed=config.seed, stage=number, in_domain=stage.instructions == "aptitude_tasks"
        )
        profiles = [profile_from_outcomes(job.table, job.test, name) for name in job.train.candidate_ids]
        outcomes = [profile.item_outcome_TK for profile in profiles if profile.item_outcome_TK is not None]
        self.item_outcome_MTK = np.stack(outcomes)
        readings = [no_profiles()]
        if job.reader:
            readings = [job.reader.inputs(profiles, config.seed + i) for i in range(job.reader.num_orders)]
        self.inputs = [jax.tree.map(self.place, reading) for reading in readings]
        self.key = (config.seed, number)

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
        run: dict,
        log: RunLog,
        stop: Stop,
    ) -> Params:
        """Steps from `done` to the stage's end; a missing optimizer state starts fresh."""
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
        )
        embed = jax.jit(lambda params, inputs: bind(self.graphdef, params).embed_profiles(inputs))
        embedded = [self.place(np.zeros(())) if embeds else embed(params, inputs) for inputs in self.inputs]
        last = self.first + stage.steps

        def save(step: int) -> None:
            learned = {path: value for path, value in {**frozen, **trainable}.items() if path in job.learned}
            checkpoints.save(step, {"params": learned, "optimizer": opt_state}, run)

        unread: tuple[int, dict] | None = None
        for step in range(max(done, self.first), last):
            batch = place_batch(self.plan.batch(step - self.first), config.batch, job.mesh)
            embedding = embedded[step % len(embedded)]
            trainable, opt_state, metrics = step_of(
                trainable, frozen, opt_state, batch, self.inputs_of(step), embedding
            )
            # Metrics are read one step late, so that the next step is under way while the host writes.
            if unread:
                self._record(*unread, log, checkpoints)
            unread = (step + 1, metrics)
            at_end, stopping = step + 1 == last, stop()
            if at_end or stopping or (step + 1) % config.checkpoint.every_steps == 0:
                self._record(*unread, log, checkpoints)
                unread = None
                save(step + 1)
            if stopping and not (at_end and last == config.total_steps):
                checkpoints.wait()
                raise Interrupted(step + 1)
        return {**frozen, **trainable}

    def _record(self, step: int, metrics: dict[str, jax.Array], log: RunLog, checkpoints: Checkpoints) -> None:
        values = {name: float(value) for name, value in metrics.items()}
        if not all(map(math.isfinite, values.values())):
            checkpoints.wait()
            kept = checkpoints.latest_step()
            where = "nothing was saved before it" if kept is None else f"the last checkpoint, of step {kept}, is intact"
            raise SatjaxError(
                f"the loss is not finite at step {step} of stage {self.stage.name!r} ({json.dumps(values)}); {where}: "
                "lower the stage's learning_rate or optimizer.clip_norm"
            )
        log.write(step, self.stage.name, values)


def all_profiles(job: Job) -> tuple[CapabilityProfile, ...]:
    """Profiles of every candidate of the table that has outcomes on the aptitude test, held-out ones too."""
    profiles = []
    for name in job.table.candidate_ids:
        with contextlib.suppress(SatjaxError):
            profiles.append(profile_from_outcomes(job.table, job.test, name))
    return tuple(profiles)


def ability_scale(job: Job, params: Params, ability_MR: np.ndarray) -> AbilityScale:
    """The scale that the trained head makes of the aptitude test, and of the training candidates' abilities."""
    text = {item.id: item.text for item in job.table.items}
    texts = [text[name] for task in job.test.tasks for name in task.item_ids]
    graphdef, _ = abstract_model(job.assembly.model)
    everywhere = replicated(job.mesh)
    demand = jax.jit(lambda params, feature_BF: bind(graphdef, params).demands(feature_BF), out_shardings=everywhere)
    demand_XR = np.asarray(demand(params, place(feature_reader(job).read(params, texts), everywhere)))
    return AbilityScale.of(demand_XR.reshape(job.test.num_tasks, job.test.shots, -1), ability_MR)


def whole_params(job: Job, params: Params) -> dict[str, np.ndarray | jax.Array]:
    """The learned parameters on the first process's host, gathered one by one; nothing on the others."""
    whole: dict[str, np.ndarray | jax.Array] = {}
    for path in sorted(job.learned):
        value = jax.device_put(params[path], replicated(job.mesh))
        if is_first():
            whole[path] = np.asarray(value)
    return whole


def export(job: Job, params: Params, target: Path) -> None:
    """Calibrates on the validation split, on all processes together; the first one writes the router directory."""
    config, trained_on = job.config, job.train.candidate_ids
    learned = whole_params(job, params)
    reader: ProfileReader | AbilityScale
    abilities: dict[str, np.ndarray] = {}
    if job.reader:
        reader = job.reader
    else:
        learned.pop("connector/ability", None)
        ability_MR = np.asarray(jax.device_put(params["connector/ability"], replicated(job.mesh)))
        reader = ability_scale(job, params, ability_MR)
        learned |= reader.params()
        abilities = dict(zip(trained_on, ability_MR, strict=True))
    calibration = Calibration()
    validation = [i for i, item in enumerate(job.table.items) if item.split == "val"]
    if config.calibration_instructions and validation:
        chosen = np.random.default_rng(config.seed).permutation(validation)[: config.calibration_instructions]
        held = job.table.select_candidates(trained_on).select_items(np.sort(chosen))
        scorer = Scorer(job.assembly, params, reader, config.seed, feature_store(job.assembly), job.mesh)
        if abilities:
            soft = as_tokens(jnp.asarray(ability_MR))
        else:
            soft = scorer.soft_tokens([profile_from_outcomes(job.table, job.test, name) for name in trained_on])
        calibration = fit_calibration(scorer.score([item.text for item in held.items], soft), held.scores_MN.T)
    if not is_first():
        return
    files = RouterFiles(
        config=config.router,
        norms=job.norms,
        base_sha256={part: base.sha256 for part, base in job.assembly.bases.items()},
        order_seed=config.seed,
        test=job.test,
        profiles=all_profiles(job),
        calibration=calibration,
        abilities=abilities,
    )
    write_router(target, files, learned, job.assembly.writer.tokenizer, model_card(config, files, job.train))
