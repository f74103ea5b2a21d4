"""A training run in process, of the config of `tests.tiny`: its job on a mesh, its losses, and its parameters."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from satjax.checkpoint import Checkpoints
from satjax.config import MeshConfig, TrainConfig
from satjax.processes.agreement import Stop
from satjax.sharding import make_mesh
from satjax.train import run_stages
from satjax.training.job import Job, prepare
from satjax.training.run_log import read_metrics

ONE = MeshConfig(1, 1, 1)


def job_on(config: TrainConfig, workdir: Path, mesh: MeshConfig | None = None) -> Job:
    """What a run in this workdir starts from, on so many of the simulated devices."""
    job = prepare(config, workdir)
    if mesh is None:
        return job
    size = mesh.data * mesh.fsdp * mesh.tensor
    return dataclasses.replace(job, mesh=make_mesh(mesh, jax.devices()[:size]))


def run(job: Job, workdir: Path, stop: Stop = lambda: False) -> dict[str, np.ndarray]:
    """The parameters after all stages, or after what is left of them."""
    with Checkpoints(workdir / "checkpoints", job.config.checkpoint.keep) as checkpoints:
        params = run_stages(job, checkpoints, workdir, stop)
    return {path: np.asarray(value) for path, value in params.items()}


def losses(workdir: Path) -> list[float]:
    """The loss of each step that is recorded."""
    return [line["loss"] for line in read_metrics(workdir / "metrics.jsonl")]


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The largest between two sets of the same parameters."""
    assert a.keys() == b.keys()
    return max(float(np.abs(a[path] - b[path]).max()) for path in a)
