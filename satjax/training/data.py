"""What the steps of a run read: parameters on the mesh, instructions as token rows or as features, and how features are standardized."""

import jax
import numpy as np

from satjax.features.reader import FeatureReader, feature_store
from satjax.features.row_batches import Batching
from satjax.features.vectors import VectorStore
from satjax.models.router_model import Params, abstract_model, initial_params
from satjax.outcomes import OutcomeTable
from satjax.progress import Progress, unheard
from satjax.sharding import param_shardings, place, replicated
from satjax.training.batches import TrainingSet, of_tasks
from satjax.training.feature_norms import SAMPLE, feature_norms
from satjax.training.job import Job, reads_features


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


def training_set(job: Job, params: Params, number: int, on_progress: Progress = unheard) -> TrainingSet:
    """Training instructions of a stage with their outcomes: as token rows, or, where its LLM is frozen (`reads_features`), as features."""
    return read_set(job, params, number, job.train, on_progress)


def validation_set(job: Job, params: Params, number: int, on_progress: Progress = unheard) -> TrainingSet | None:
    """Those that the stage is looked at with, likewise; None where the config wants that at no step, or there are none."""
    if not job.config.validation.every_steps or not job.validation.items:
        return None
    return read_set(job, params, number, job.validation, on_progress)


def read_set(job: Job, params: Params, number: int, table: OutcomeTable, on_progress: Progress) -> TrainingSet:
    """A table's instructions as the stage of this number reads them, with its candidates' outcomes."""
    outcome_NM = np.ascontiguousarray(table.scores_MN.T)
    in_domain = of_tasks(table, {task.name for task in job.test.tasks})
    texts = [item.text for item in table.items]
    if reads_features(job.config, job.learned, number):
        feature_NF = feature_reader(job, params).read(params, texts, on_progress)
        return TrainingSet(feature_NF, np.ones(len(texts), int), outcome_NM, in_domain)
    rows = job.assembly.writer.encode(texts)
    width = np.array([job.assembly.writer.bucket(length) for length in rows.length])
    return TrainingSet(rows, width, outcome_NM, in_domain)


def feature_reader(job: Job, params: Params) -> FeatureReader:
    """What the ability head reads with these parameters, of any instruction, on the training mesh."""
    # A run reads its instructions once: a program for what does not fill a batch would take longer to compile than padding to compute.
    return FeatureReader(job.assembly, Batching(job.mesh, sizes=()), store_of(job, params))


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
