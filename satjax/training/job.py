"""What a training run starts from: data, aptitude test, base weights and mesh, opened and checked once."""

import copy
import dataclasses
import hashlib
import json
import logging
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from satjax.aptitude import AptitudeTest, CapabilityProfile, known_profiles, sample_aptitude_test
from satjax.aptitude.capability import AccuracyNorms, ProfileReader, accuracy_norms
from satjax.assembly import Assembly, assemble
from satjax.checkpoint import CHECKPOINTS, is_saved
from satjax.config import AptitudeConfig, TrainConfig
from satjax.config.mapping import by_key, from_mapping
from satjax.errors import SHOWN, SatjaxError
from satjax.export.directory import TRAIN_CONFIG
from satjax.files import canonical_json, write_text
from satjax.instructions import with_buckets
from satjax.models.router_model import abstract_model
from satjax.outcomes import OutcomeTable, cluster_numbers, open_outcomes, with_clusters
from satjax.outcomes.table import seldom_tried
from satjax.processes.agreement import check_same, from_first, is_first, wait_for_all
from satjax.scoring.candidates import profile_reader
from satjax.sharding import make_mesh
from satjax.training.batches import check_batches, idle_objectives, trained_candidates, training_table
from satjax.training.optimizer import check_trained, is_trainable, trainable_paths
from satjax.training.train_step import rows_of_a_pass
from satjax.weights.pooling import check_modules

log = logging.getLogger(__name__)

SECONDS_TO_SEE_A_FILE = 60.0

Settings = dict[tuple[str, ...], tuple[str, ...]]
"""Names of settings, by their group."""

PLACES: Settings = {("data",): ("outcomes",)}
"""Settings that say where something lies; what is read there is counted itself. So are base weights, by their digests."""

MACHINERY: Settings = {
    (): ("mesh", "checkpoint", "validation"),
    ("router",): ("attention",),
    ("router", "llm"): ("remat",),
    ("batch",): ("accumulate",),
}
"""Settings that say how a run is computed, not what comes of it but by rounding: it may go on on other hardware."""

NOT_COUNTED = PLACES | MACHINERY


@dataclass(frozen=True)
class Job:
    """What stays the same through a whole training run; there is no `reader` where no profile is read (`items`).

    `profiles` are those of all candidates of the table that have one, by name, in the table's order. `unprofiled` training candidates have no
    outcome on the aptitude test: they teach the ability head, and are not in the router. `identity` is what `identity_of` gives.
    """

    config: TrainConfig
    table: OutcomeTable
    test: AptitudeTest
    train: OutcomeTable
    profiles: Mapping[str, CapabilityProfile]
    unprofiled: tuple[str, ...]
    norms: AccuracyNorms
    assembly: Assembly
    reader: ProfileReader | None
    mesh: Mesh
    learned: frozenset[str]
    identity: Mapping[str, str]

    @cached_property
    def taught_M(self) -> np.ndarray:
        """Which training candidates have outcomes beside the aptitude test, bool `[M]`: the test alone measures better than it teaches."""
        beside_N = np.array([item.id not in self.test.item_ids for item in self.train.items])
        return ~np.isnan(self.train.scores_MN[:, beside_N]).all(axis=1)

    @cached_property
    def few_M(self) -> np.ndarray:
        """Which of those have too few outcomes to learn an ability from, bool `[M]`: what they teach the head is all that training makes of them."""
        few_M = self.taught_M.copy()
        few_M[few_M] = seldom_tried(self.train.scores_MN[few_M])
        return few_M & (self.reader is None)

    @cached_property
    def learner_M(self) -> np.ndarray:
        """Which training candidates the router knows as training found them, bool `[M]`: all, where profiles are read."""
        return (self.taught_M & ~self.few_M) | (self.reader is not None)

    @cached_property
    def learners(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name, known in zip(self.train.candidate_ids, self.learner_M, strict=True) if known)

    @cached_property
    def measured(self) -> tuple[str, ...]:
        """The candidates with few outcomes that are in the router: their abilities are measured by all of them, as a new candidate's by the test."""
        few = (name for name, few in zip(self.train.candidate_ids, self.few_M, strict=True) if few)
        return tuple(name for name in few if name not in self.unprofiled)

    @cached_property
    def validation(self) -> OutcomeTable:
        """What is calibrated on, and looked at while the run trains: the learners' outcomes on instructions of the split `val`, drawn by the seed; none where the config wants none."""
        found = np.flatnonzero(self.table.of_split("val"))
        chosen = np.random.default_rng(self.config.seed).permutation(found)[: self.config.calibration_instructions]
        return self.table.select_candidates(self.learners).select_items(np.sort(chosen))


class Workdir:
    """What a run keeps beside its checkpoints: its config as it began, the aptitude test, and the clusters that its tasks are. It is made by all
    processes together.

    Where the run `goes_on` they hold for the checkpoints; without any they are what is left of a run that may have had another config.
    """

    def __init__(self, path: Path):
        self.path, self.test, self.clusters = path, path / "aptitude_test.json", path / "clusters.json"
        self.config = path / TRAIN_CONFIG
        self.goes_on = bool(from_first(np.array(self.test.is_file() and is_saved(path / CHECKPOINTS))))
        if self.goes_on:
            check_shared(self.test)

    def digest_of(self, config: TrainConfig) -> str:
        """That of the settings that make the run, as they were kept: one that is new to satjax since then, and at its default, changes nothing.

        The first process's on all. Raises SatjaxError that names the settings that have changed.
        """
        counted = settings_without(NOT_COUNTED, dataclasses.asdict(config))
        if is_first() and self.goes_on and self.config.is_file():
            counted = self._unchanged(counted)
        digest = hashlib.sha256(canonical_json(counted).encode()).digest()
        return from_first(np.frombuffer(digest, np.uint8)).tobytes().hex()

    def _unchanged(self, now: dict[str, Any]) -> dict[str, Any]:
        """The kept settings that count, as they are in the file, which are `now` what they were."""
        try:
            kept = json.loads(self.config.read_text(encoding="utf-8"))
            before = settings_without(
                NOT_COUNTED, dataclasses.asdict(from_mapping(TrainConfig, kept, self.config.name))
            )
        except (SatjaxError, AttributeError, ValueError, TypeError, RecursionError) as error:
            raise SatjaxError(
                f"{self.config} is no config of this satjax ({error}); use another --workdir, or remove {self.path} to start over"
            ) from error
        # As JSON has them, which knows no tuples.
        old, new = (by_key(json.loads(canonical_json(settings)), "config") for settings in (before, now))
        changed = [
            f"{key} = {old.get(key, 'nothing')} ({new.get(key, 'nothing')} now)"
            for key in {**new, **old}
            if old.get(key) != new.get(key)
        ]
        if changed:
            more = f", … ({len(changed)} in all)" if len(changed) > SHOWN else ""
            raise SatjaxError(
                f"{self.path} holds a run of another config; use another --workdir, or remove it to start over: it has "
                f"{', '.join(changed[:SHOWN])}{more}"
            )
        return settings_without(NOT_COUNTED, kept)

    def keep(self, config: TrainConfig, test: AptitudeTest, number_N: np.ndarray | None) -> None:
        """Writes a new run's config, test and clusters, on the first process; raises SatjaxError where another one does not see them."""
        if is_first() and not self.goes_on:
            write_text(self.config, canonical_json(dataclasses.asdict(config)) + "\n")
            if number_N is not None:
                write_text(self.clusters, json.dumps(number_N.tolist()) + "\n")
            test.write(self.test)
        wait_for_all("aptitude test")
        check_shared(self.test)


def prepare(config: TrainConfig, workdir: Path, test: AptitudeTest | None = None) -> Job:
    """Opens data and base weights; draws the aptitude test, unless one is given, and keeps it in the workdir, where nothing is made before all fits."""
    check_same("config", canonical_json(settings_without(PLACES, dataclasses.asdict(config))).encode())
    mesh = make_mesh(config.mesh)
    rows_of_a_pass(config.batch, mesh)
    table = open_outcomes(config.data.outcomes).without_categories(config.data.held_out_categories)
    seen = trained_candidates(table, config.data.held_out_candidates)
    check_same("set of outcomes", fingerprint(table, seen))
    kept = Workdir(workdir)
    config_sha256 = kept.digest_of(config)
    number_N = None
    if config.aptitude.clusters:
        number_N = clusters_of(table, config.aptitude, kept.clusters if kept.goes_on else None)
        table = with_clusters(table, number_N)
    test = test or aptitude_test(table, seen, config.aptitude, kept)
    check_same("aptitude test", test.fingerprint.encode())
    check_known(test, table, kept)
    reads_no_profile = config.router.profile_encoder.kind == "items"
    train = training_table(table, config.data.held_out_candidates, test.item_ids, with_aptitude=reads_no_profile)
    tasks = {task.name for task in test.tasks}
    check_batches(train, tasks, config.batch, config.stages)
    say_idle(idle_objectives(train, tasks, config))
    profiles = {profile.candidate: profile for profile in known_profiles(table, test, table.candidate_ids)}
    profiled = [name for name in train.candidate_ids if name in profiles]
    unprofiled = check_profiled(config, train.candidate_ids, profiled)
    norms = accuracy_norms([profiles[name] for name in profiled])
    assembly = assemble(config.router)
    if "encoder" in assembly.bases and not kept.goes_on:
        check_modules(assembly.bases["encoder"].directory)
    check_same("set of base weights", base_digests(assembly))
    reader = profile_reader(assembly, test, norms)
    assembly, learned = for_training(config, assembly, mesh, len(train.candidates) if reader is None else 0)
    identity = identity_of(config_sha256, fingerprint(table, train.candidate_ids, test), assembly)
    job = Job(config, table, test, train, profiles, unprofiled, norms, assembly, reader, mesh, learned, identity)
    check_same("set of validation outcomes", outcome_bytes(job.validation))
    kept.keep(config, test, number_N)
    return job


def say_idle(objectives: Mapping[str, str]) -> None:
    """Warns of objectives that teach nothing, by the stage in which they do not."""
    for name, stage in objectives.items() if is_first() else ():
        of = "instruction" if name == "over_candidates" else "candidate"
        log.warning(
            "config loss.%s compares nothing in stage %r: no batch has two different outcomes of one %s",
            name,
            stage,
            of,
        )


def for_training(
    config: TrainConfig, assembly: Assembly, mesh: Mesh, num_candidates: int
) -> tuple[Assembly, frozenset[str]]:
    """The assembly as its stages read and train it, and the paths of what is not as in the base weights at the end.

    `num_candidates` is that of the abilities that are learned, where no profile is read.
    """
    model = dataclasses.replace(assembly.model, num_candidates=num_candidates) if num_candidates else assembly.model
    _, shapes = abstract_model(model)
    learned = set(shapes) - set(assembly.base_params)
    for stage in config.stages:
        learned |= set(trainable_paths(shapes, stage))
    check_trained(shapes, config.stages)
    # In bfloat16 a step of a usual learning rate is rounded away: what is trained is float32, whatever dtype the rest has.
    base = {path: assembly.published[path] if path in learned else t for path, t in assembly.base_params.items()}
    # Only where the LLM is read and not trained, and lies on one device.
    narrow = assembly.narrow and mesh.size == 1 and reads_features(config, learned, len(config.stages) - 1)
    writer = with_buckets(assembly.writer, config.batch.widths) if config.batch.widths else assembly.writer
    trained = dataclasses.replace(assembly, model=model, base_params=base, narrow=narrow, writer=writer)
    return trained.fixed(set(base) - learned), frozenset(learned)


def clusters_of(table: OutcomeTable, config: AptitudeConfig, path: Path | None) -> np.ndarray:
    """The clusters of the training items that a run began with, at `path`, or new ones where it keeps none of as many items.

    The first process's on all, whatever the others see there: a machine of another kind finds others.
    """
    number_N = np.zeros(np.count_nonzero(table.of_split("train")), np.int32)
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


def aptitude_test(table: OutcomeTable, seen: Sequence[str], config: AptitudeConfig, kept: Workdir) -> AptitudeTest:
    """The test that the run began with, or one that is drawn from the outcomes of the candidates that training sees."""
    if kept.goes_on:
        return AptitudeTest.read(kept.test)
    return sample_aptitude_test(table.select_candidates(seen), config.num_tasks, config.shots, config.seed, config.draw)


def check_known(test: AptitudeTest, table: OutcomeTable, kept: Workdir) -> None:
    """Raises SatjaxError where items of the test are no training items of the table."""
    if strangers := test.item_ids - set(table.split("train").item_ids):
        raise SatjaxError(
            f"{kept.path} holds a run of other outcomes; use another --workdir, or remove it to start over"
            if kept.goes_on
            else f"{len(strangers)} of the {len(test.item_ids)} aptitude items, such as {min(strangers)!r}, are no training items of these "
            "outcomes; draw the aptitude test from them"
        )


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


def settings_without(left_out: Settings, config: Mapping[str, Any]) -> dict[str, Any]:
    """A config, as nested settings, without those that are left out, and without the paths of base weights in a directory."""
    counted = copy.deepcopy(dict(config))
    for group, names in left_out.items():
        parent = counted
        for key in group:
            parent = parent.get(key, {})
        for name in names:
            parent.pop(name, None)
    for part in ("llm", "encoder"):
        base = counted.get("router", {}).get(part, {})
        if str(base.get("weights", "")).startswith("dir:"):
            base["weights"] = "dir:"
    return counted


def identity_of(config_sha256: str, outcomes: bytes, assembly: Assembly) -> dict[str, str]:
    """What a run has to have in common with its checkpoints to go on with them, by name: digests. `outcomes` is their `fingerprint`."""
    parts = {
        "outcomes": outcomes,
        "base weights": base_digests(assembly),
    }
    return {"config": config_sha256, **{name: hashlib.sha256(value).hexdigest() for name, value in parts.items()}}


def fingerprint(table: OutcomeTable, trained_on: Sequence[str], test: AptitudeTest | None = None) -> bytes:
    """The same where training reads the same: the training split, whose outcomes on the aptitude test are the profiles; without one, before it is drawn."""
    train = table.split("train").select_candidates(trained_on)
    texts = "\n".join([*train.candidate_ids, *(f"{item.id} {item.task} {item.text}" for item in train.items)])
    drawn = "" if test is None else canonical_json(test.content)
    return b"".join([texts.encode(), drawn.encode(), train.scores_MN.tobytes()])


def outcome_bytes(table: OutcomeTable) -> bytes:
    """The same where the candidates' outcomes on the same texts are, whatever the items are called."""
    return "\n".join([*table.candidate_ids, *(item.text for item in table.items)]).encode() + table.scores_MN.tobytes()


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
