"""Nobody ranks into the parts of another job, or of one that runs; what a kill leaves is gone on with."""

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from satjax.errors import SatjaxError, TryAgain
from satjax.files import write_text
from tests.ranked_files import instructions, write_input


def test_where_no_file_can_be_made_is_one_line(ranker, tmp_path):
    source = write_input(tmp_path / "in.parquet", ["one"])
    (tmp_path / "file").touch()
    for target in (Path("/proc/o.parquet"), tmp_path / ("o" * 300), tmp_path / ("o" * 250), tmp_path / "file" / "o"):
        assert "cannot be written" in ranker.message(source, target)
    for target in (Path("/proc/o"), tmp_path / ("o" * 250)):
        with pytest.raises(SatjaxError, match="cannot be written"):
            write_text(target, "text")


def test_parts_of_another_job_are_not_gone_on_with(ranker, tmp_path, small_chunks):
    target = tmp_path / "out.parquet"
    first = write_input(tmp_path / "in.parquet", instructions(12))
    ranker.interrupt(first, target)
    other = write_input(tmp_path / "other.parquet", instructions(12, seed=1))
    assert "parts of another input" in ranker.message(other, target)
    assert "parts of another" in ranker.message(first, target, candidates=ranker.router.candidates[:2])
    assert json.loads((tmp_path / "out.parquet.parts" / "job.json").read_text())
    ranker.run(first, target)


def test_parts_that_nobody_claims_are_ranked_again(ranker, tmp_path, small_chunks):
    target, texts = tmp_path / "out.parquet", instructions(12, seed=1)
    ranker.interrupt(write_input(tmp_path / "in.parquet", instructions(12)), target)
    (tmp_path / "out.parquet.parts" / "job.json").unlink()
    ranker.run(write_input(tmp_path / "other.parquet", texts), target)
    best = pq.read_table(target)["probability"].to_numpy()
    np.testing.assert_allclose(best, ranker.router.probability(texts).max(axis=1), atol=1e-6)


def test_the_same_command_started_twice_is_one_line(ranker, tmp_path, small_chunks):
    source, target = write_input(tmp_path / "in.parquet", instructions(12)), tmp_path / "out.parquet"
    ranker.interrupt(source, target)
    with (tmp_path / "out.parquet.parts" / "lock-0").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(TryAgain, match=r"out.parquet: another process ranks into it"):
            ranker.run(source, target)
    ranker.run(source, target)


def test_a_file_system_without_locks_is_ranked_into(ranker, tmp_path, small_chunks, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    ranker.run(write_input(tmp_path / "in.parquet", instructions(12)), tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows > 0


def test_a_kill_before_the_parts_are_removed_is_no_error(ranker, tmp_path, small_chunks, monkeypatch):
    source, target = write_input(tmp_path / "in.parquet", instructions(12)), tmp_path / "out.parquet"
    parts = tmp_path / "out.parquet.parts"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *a, **k: None)
        ranker.run(source, target)
    written = target.stat().st_mtime_ns
    other = write_input(tmp_path / "other.parquet", instructions(12, seed=1))
    assert "exists" in ranker.message(other, target)
    assert parts.is_dir()
    (parts / "part-00000000.parquet").unlink()  # the removal had begun
    (parts / "job.json").unlink()
    ranker.run(source, target)
    assert target.stat().st_mtime_ns == written
    assert not parts.exists()
    assert "exists" in ranker.message(source, target)
