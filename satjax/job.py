"""What a training run starts from: data, aptitude test, base weights and mesh, opened and checked once."""

import dataclasses
import hashlib
import json
import socket
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from satjax.agreement import check_same, from_first, is_first, wait_for_all
from satjax.aptitude import AptitudeTest, known_profiles, sample_aptitude_test
from satjax.assembly import Assembly, assemble
from satjax.batches import TrainingSet, check_batches, of_tasks, trained_candidates, training_table
from satjax.capability import AccuracyNorms, ProfileReader, accuracy_norms
from satjax.checkpoint import CHECKPOINTS, canonical_json, is_saved
from satjax.config import AptitudeConfig, TrainConfig
from satjax.errors import SatjaxError
from satjax.feature_norms import SAMPLE, feature_norms
from satjax.files import write_text
from satjax.instructions import with_buckets
from satjax.models.router_model import Params, abstract_model, initial_params
from satjax.optimizer import is_trainable, trainable_paths
from satjax.outcomes import OutcomeTable, cluster_numbers, open_outcomes, with_clusters
from satjax.scoring.candidates import profile_reader
from satjax.sharding import make_mesh, param_shardings, place, replicated
from satjax.text_features import FeatureReader, Progress, feature_store
from satjax.train_step import rows_of_a_pass
from satjax.vectors import VectorStore
from satjax.weights.pooling import check_modules

SECONDS_TO_SEE_A_FILE = 60.0

MACHINERY: dict[tuple[str, ...], tuple[str, ...]] = {
    (): ("mesh", "checkpoint"),
    ("data",): ("outcomes",),
    ("router",): ("attention",),
    ("router", "llm"): ("remat",),
    ("batch",): ("accumulate",),
}
"""Settings, by their group, that say how a run is computed, not what comes of it."""


@dataclass(frozen=True)
class Job:
    """What stays the same through a whole training run; there is no `reader` where no profile is read (`items`).

    `unprofiled` candidates have no outcome on the aptitude test: they teach the ability head, and are not in the router.
    """

    config: TrainConfig
    table: OutcomeTable
    test: AptitudeTest
    train: OutcomeTable
    unprofiled: tuple[str, ...]
    norms: AccuracyNorms
    assembly: Assembly
    reader: ProfileReader | None
    mesh: Mesh
    learned: frozenset[str]


def prepare(config: TrainConfig, workdir: Path, test: AptitudeTest | None = None) -> Job:
    """Opens data and base weights; draws the aptitude test, unless one is given, and keeps it in the workdir, where nothing is made before all fits.

    A test that is in the workdir, and the clusters that its tasks are, hold for the checkpoints beside them; without any they are what is left of a
    run that may have had another config.
    """
    check_same("config", canonical_json(dataclasses.asdict(config)).encode())
    mesh = make_mesh(config.mesh)
    rows_of_a_pass(config.batch, mesh)
    table = open_outcomes(config.data.outcomes).without_categories(config.data.held_out_categories)
    seen = trained_candidates(table, config.data.held_out_candidates)
    check_same("set of outcomes", fingerprint(table, seen))
    test_path, clusters_path = workdir / "aptitude_test.json", workdir / "clusters.json"
    kept = bool(from_first(np.array(test_path.is_file() and is_saved(workdir / CHECKPOINTS))))
    if kept:
        check_shared(test_path)
    number_N = (
        clusters_of(table, config.aptitude, clusters_path if kept else None) if config.aptitude.clusters else None
    )
    if number_N is not None:
        table = with_clusters(table, number_N)
    if test is None:
        aptitude = config.aptitude
        test = (
            AptitudeTest.read(test_path)
            if kept
            else sample_aptitude_test(
                table.select_candidates(seen), aptitude.num_tasks, aptitude.shots, aptitude.seed, aptitude.draw
            )
        )
    if strangers := test.item_ids - set(table.split("train").item_ids):
        raise SatjaxError(
            f"{workdir} holds a run of other outcomes; use another --workdir, or remove it to start over"
            if kept
            else f"{len(strangers)} of the {len(test.item_ids)} aptitude items, such as {min(strangers)!r}, are no training items of these "
            "outcomes; draw the aptitude test from them"
        )
    reads_no_profile = config.router.profile_encoder.kind == "items"
    train_table = training_table(table, config.data.held_out_candidates, test.item_ids, with_aptitude=reads_no_profile)
    check_batches(train_table, {task.name for task in test.tasks}, config.batch, config.stages)
    profiles = known_profiles(table, test, train_table.candidate_ids)
    unprofiled = check_profiled(config, train_table.candidate_ids, [profile.candidate for profile in profiles])
    norms = accuracy_norms(profiles)
    assembly = assemble(config.router)
    if "encoder" in assembly.bases and not kept:
        check_modules(assembly.bases["encoder"].directory)
    check_same("set of base weights", base_digests(assembly))
    reader = profile_reader(assembly, test, norms)
    if reader is None:
        model = dataclasses.replace(assembly.model, num_candidates=len(train_table.candidates))
        assembly = dataclasses.replace(assembly, model=model)
    _, shapes = abstract_model(assembly.model)
    learned = set(shapes) - set(assembly.base_params)
    for stage in config.stages:
        learned |= set(trainable_paths(shapes, stage))
    # In bfloat16 a step of a usual learning rate is rounded away: what is trained is float32, whatever dtype the rest has.
    base = {path: t.astype(np.float32) if path in learned else t for path, t in assembly.base_params.items()}
    # Only where the LLM is read and not trained, and lies on one device.
    narrow = assembly.narrow and mesh.size == 1 and reads_features(config, learned, len(config.stages) - 1)
    writer = with_buckets(assembly.writer, config.batch.widths) if config.batch.widths else assembly.writer
    assembly = dataclasses.replace(assembly, base_params=base, narrow=narrow, writer=writer).fixed(set(base) - learned)
    check_same("aptitude test", test.fingerprint.encode())
    if config.calibration_instructions:
        check_same("set of validation outcomes", validation_fingerprint(table, train_table.candidate_ids))
    if is_first() and not kept:
        if number_N is not None:
            write_text(clusters_path, json.dumps(number_N.tolist()) + "\n")
        test.write(test_path)
    wait_for_all("aptitude test")
    check_shared(test_path)
    return Job(config, table, test, train_table, unprofiled, norms, assembly, reader, mesh, frozenset(learned))


def clusters_of(table: OutcomeTable, config: AptitudeConfig, path: Path | None) -> np.ndarray:
    """The clusters of the training items that a run began with, at `path`, or new ones where it keeps none of as many items.

    The first process's on all, whatever the others see there: a machine of another kind finds others.
    """
    number_N = np.zeros(sum(item.split == "train" for item in table.items), np.int32)
    if is_first():
        kept_N = None if path is None else _kept_clusters(path, len(number_N))
        number_N = cluster_numbers(table, config.clusters, config.seed) if kept_N is None else kept_N
    return from_first(number_N)


def _kept_clusters(path: Path, num_items: int) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        number_N = np.array(json.loads(path.read_text(encoding="utf-8")), np.int32)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise SatjaxError(
            f"{path} holds no clusters ({error}); use another --workdir, or remove {path.parent} to start over"
        ) from error
    return number_N if number_N.shape == (num_items,) else None


def check_profiled(config: TrainConfig, trained_on: Sequence[str], profiled: Sequence[str]) -> tuple[str, ...]:
    """The training candidates that have no outcome on the aptitude test; raises SatjaxError where a router of this config cannot train on them."""
    unprofiled = tuple(name for name in trained_on if name not in profiled)
    if not profiled or (unprofiled and config.router.profile_encoder.kind != "items"):
        names = ", ".join(unprofiled[:3]) + (", …" if len(unprofiled) > 3 else "")
        raise SatjaxError(
            f"{len(unprofiled)} of {len(trained_on)} training candidates have no outcome on the aptitude test ({names}), so that nothing says what "
            "they are able to; leave them out with data.held_out_candidates, or set router.profile_encoder.kind = 'items', which learns abilities "
            "from all outcomes"
        )
    return unprofiled


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


def fingerprint(table: OutcomeTable, trained_on: Sequence[str], test: AptitudeTest | None = None) -> bytes:
    """The same where training reads the same: the training split, whose outcomes on the aptitude test are the profiles; without one, before it is drawn."""
    train = table.split("train").select_candidates(trained_on)
    texts = "\n".join([*train.candidate_ids, *(f"{item.id} {item.task} {item.text}" for item in train.items)])
    drawn = "" if test is None else canonical_json(dataclasses.asdict(test))
    return b"".join([texts.encode(), drawn.encode(), train.scores_MN.tobytes()])


def validation_fingerprint(table: OutcomeTable, trained_on: Sequence[str]) -> bytes:
    """The same where calibration, which all hosts compute together, reads the same (`satjax.finish.validation`)."""
    held = table.select_items(np.flatnonzero([item.split == "val" for item in table.items])).select_candidates(
        trained_on
    )
    return "\n".join([*held.candidate_ids, *(item.text for item in held.items)]).encode() + held.scores_MN.tobytes()


def base_digests(assembly: Assembly) -> bytes:
    """The same where the base weights are: of a name on a hub or on a host's own disk, hosts may have different ones."""
    return canonical_json({part: base.sha256 for part, base in assembly.bases.items()}).encode()


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


def reads_features(config: TrainConfig, learned: Collection[str], number: int) -> bool:
    """Whether the steps of a stage read features, made once: where the ability head scores alone, and no stage until then trains its LLM.

    `learned` are paths of parameters, all those that a stage trains among them.
    """
    stages, llm = config.stages[: number + 1], [path for path in learned if path.startswith("llm/")]
    return config.router.head == "none" and not any(is_trainable(path, stage) for path in llm for stage in stages)


def training_set(
    job: Job, params: Params, number: int, on_progress: Progress = lambda done, total: None
) -> TrainingSet:
    """Training instructions of a stage with their outcomes: as token rows, or, where its LLM is frozen (`reads_features`), as features."""
    outcome_NM = np.ascontiguousarray(job.train.scores_MN.T)
    in_domain = of_tasks(job.train, {task.name for task in job.test.tasks})
    texts = [item.text for item in job.train.items]
    if reads_features(job.config, job.learned, number):
        feature_NF = feature_reader(job, params).read(params, texts, on_progress)
        return TrainingSet(feature_NF, np.ones(len(texts), int), outcome_NM, in_domain)
    rows = job.assembly.writer.encode(texts)
    width = np.array([job.assembly.writer.bucket(length) for length in rows.length])
    return TrainingSet(rows, width, outcome_NM, in_domain)


def feature_reader(job: Job, params: Params) -> FeatureReader:
    """What the ability head reads with these parameters, of any instruction, on the training mesh."""
    graphdef, _ = abstract_model(job.assembly.model)
    # A run reads its instructions once: a program for what does not fill a batch would take longer to compile than padding to compute.
    return FeatureReader(graphdef, job.assembly.writer, store_of(job, params), job.mesh, sizes=())


def store_of(job: Job, params: Params) -> VectorStore:
    """Where features of these parameters are kept; of those that training made, one at a time is whole in memory."""
    tuned = ((path, params[path]) for path in sorted(job.learned) if path.startswith("llm/"))
    whole = ((path, np.asarray(jax.device_put(value, replicated(job.mesh)))) for path, value in tuned)
    return feature_store(job.assembly, whole)


def measured_norms(job: Job, params: Params, data: TrainingSet) -> Params:
    """`ability/mean` and `ability/spread` of the training instructions, or of a sample of them drawn by the seed."""
    feature_NF = data.text
    if not isinstance(feature_NF, np.ndarray):
        chosen = np.random.default_rng((job.config.seed, 3)).permutation(len(data))[:SAMPLE]
        feature_NF = feature_reader(job, params).read(params, [job.train.items[i].text for i in chosen])
    norms = feature_norms(feature_NF, job.config.router.ability_head.num_states)
    shardings = param_shardings(norms, job.mesh)
    return {path: place(np.asarray(value), shardings[path]) for path, value in norms.items()}


def place_params(job: Job) -> Params:
    """Base weights and freshly initialized parameters, laid out on the mesh."""
    _, shapes = abstract_model(job.assembly.model)
    shardings, base = param_shardings(shapes, job.mesh), job.assembly.base_params
    fresh = initial_params(job.assembly.model, job.config.seed, base)
    return {
        path: job.assembly.placed(path, shapes[path].shape, sharding)
        if path in base
        else place(np.asarray(fresh[path]), sharding)
        for path, sharding in shardings.items()
    }
