"""Whose parts these are: others are kept out while a job runs, and after a kill only the same job goes on with what is there."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import pyarrow as pa
import pyarrow.parquet as pq

from satjax.errors import SatjaxError
from satjax.files import exclusive, explain_full_disk, write_text
from satjax.rank_file.plan import FilePlan, exists, taken

JOB = b"satjax.job"
"""The key of a job's digest in the metadata of its Parquet files."""


def is_done(plan: FilePlan) -> bool:
    """Whether only the parts are left to remove, as after a kill just then. Raises SatjaxError where anything else is in the target's place."""
    if not exists(plan.target):
        return False
    if not plan.parts.is_dir() or job_of(plan.target) != plan.job:
        raise taken(plan.target)
    _check_claim(plan)
    return True


@contextlib.contextmanager
def one_at_a_time(plan: FilePlan) -> Iterator[None]:
    """Keeps out the same command started twice: its processes have the numbers of these ones, those of a run on several hosts differ.

    Raises TryAgain where another process has this one's number, and SatjaxError where no file can be made.
    """
    path = plan.parts / f"lock-{jax.process_index()}"
    busy = f"{plan.target}: another process ranks into it; wait for it, or name another --output"
    with explain_full_disk(plan.target), exclusive(path, plan.parts, busy=busy, advice="name another --output"):
        yield


def claim_parts(plan: FilePlan) -> None:
    """Ties the parts to the job: others must not go on with them."""
    if exists(plan.target):  # it came while this process began
        raise taken(plan.target)
    _check_claim(plan)
    write_text(plan.parts / "job.json", _claim_of(plan))


def _check_claim(plan: FilePlan) -> None:
    with contextlib.suppress(FileNotFoundError):
        if (plan.parts / "job.json").read_bytes() != _claim_of(plan).encode():
            raise SatjaxError(
                f"{plan.parts} holds parts of another input, router or choice of candidates; remove it, or name another --output"
            )


def _claim_of(plan: FilePlan) -> str:
    return json.dumps({"sha256": plan.job})


def job_of(path: Path) -> str | None:
    """The job that a Parquet file is of; None where there is none, or it cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            return (file.schema_arrow.metadata or {}).get(JOB, b"").decode() or None
    except (OSError, ValueError, pa.ArrowException):
        return None
