"""A chunk's probabilities as a Parquet file of their own, and all of them as one."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from satjax.errors import TryAgain
from satjax.files import explain_full_disk, replacing_file
from satjax.rank_file.claim import JOB, job_of
from satjax.rank_file.plan import CANDIDATE, PROBABILITY, FilePlan, go_on, taken

GROUP = 8
"""Chunks of a row group of the output, so that these are not small."""


def write_part(
    plan: FilePlan, chunk: int, rows: pa.Table, fit: np.ndarray, best_B: np.ndarray, probability_BM: np.ndarray
) -> None:
    """Writes one chunk; `fit` bool `[B]`: whether a row holds an instruction; `best_B` int: the column of the likeliest candidate."""
    columns = {
        CANDIDATE: pa.array(np.array(plan.names, object)[best_B], pa.string(), mask=~fit),
        PROBABILITY: pa.array(probability_BM[np.arange(len(fit)), best_B], mask=~fit),
        **{name: pa.array(column, mask=~fit) for name, column in zip(plan.names, probability_BM.T, strict=True)},
        **{name: rows[name] for name in plan.kept},
    }
    with replacing_file(plan.part(chunk)) as fresh:
        pq.write_table(pa.table(columns).replace_schema_metadata({JOB: plan.job}), fresh, compression="zstd")


def join(plan: FilePlan, stop: Sequence[int]) -> None:
    """All parts as one file, which appears whole. Raises TryAgain where `stop` is filled, and where a part is not of this job."""
    joined = plan.parts / "joined"  # among the parts, where a kill leaves nothing that the end does not remove
    with explain_full_disk(plan.target):
        with pq.ParquetWriter(joined, _read_part(plan, 0).schema, compression="zstd") as writer:
            for first in range(0, plan.num_chunks, GROUP):
                go_on(stop)
                chunks = range(first, min(first + GROUP, plan.num_chunks))
                writer.write_table(pa.concat_tables([_read_part(plan, chunk) for chunk in chunks]))
        try:
            joined.replace(plan.target)
        except IsADirectoryError as error:
            raise taken(plan.target) from error


def _read_part(plan: FilePlan, chunk: int) -> pa.Table:
    path = plan.part(chunk)
    if job_of(path) != plan.job:
        raise TryAgain(f"{path} is gone, or of another job; run the same command to rank its rows again")
    with pq.ParquetFile(path) as file:
        return file.read()
