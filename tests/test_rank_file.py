"""`satjax rank --input` as processes of their own: stopped, killed and started again, and two that rank one file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from satjax.processes.interruption import APART
from satjax.rank_file.plan import ROWS
from satjax.router import Router
from tests.processes import finish, launch
from tests.ranked_files import instructions, write_input
from tests.trained import Trained

EXACT = "import satjax.assembly; satjax.assembly.cpu_multiplies_bfloat16 = lambda: False"
"""Processes of their own rank as those do that the tests compare them with (`tests/conftest.py`)."""


def ranking_slowly(trained: Trained, directory: Path, seconds: float) -> subprocess.Popen:
    """A process that ranks `in.parquet` into `out.parquet`, and waits so long between batches of a few rows; the first is ranked."""
    source, begun = write_input(directory / "in.parquet", instructions(500)), directory / "begun"
    slowly = f"""{EXACT}
import time, satjax.features.row_batches as sizes
def slowly(*arguments, batches=sizes.Batching.batches):
    for batch in batches(*arguments):
        yield batch
        open({str(begun)!r}, "w")
        time.sleep({seconds})
sizes.Batching.batches = slowly
sizes.TOKENS_PER_CALL = 256
"""
    files = ["--input", str(source), "--output", str(directory / "out.parquet")]
    [process] = launch(["rank", "--router", str(trained.router), *files], directory / "cache", preludes={0: slowly})
    deadline = time.monotonic() + 120
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def test_sigterm_does_not_wait_for_a_chunk(trained, tmp_path):
    process = ranking_slowly(trained, tmp_path, 3)
    process.send_signal(signal.SIGTERM)
    [(code, error)] = finish([process], 100)  # the chunk takes minutes
    assert (code, error.strip()) == (
        75,
        f"satjax: interrupted; every finished chunk of {ROWS} rows is kept: run the same command to go on",
    )


def test_a_second_ctrl_c_does_not_wait_for_a_batch(trained, tmp_path):
    process = ranking_slowly(trained, tmp_path, 100)
    process.send_signal(signal.SIGINT)
    time.sleep(APART + 0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    [(code, error)] = finish([process], 50)
    said = "satjax: stopping after what is under way; Ctrl-C once more stops at once\nsatjax: interrupted\n"
    assert (code, error) == (130, said)
    assert (tmp_path / "out.parquet.parts" / "job.json").is_file(), "the same command goes on"


def test_a_killed_job_goes_on_from_the_command_line(trained, tmp_path):
    source, target = write_input(tmp_path / "in.parquet", instructions(40)), tmp_path / "out.parquet"
    code = f"""{EXACT}
import sys
from satjax.cli import main
from satjax.rank_file import parts, plan, rank
plan.ROWS, rank.MOST, parts.GROUP = 2, 1, 1
sys.exit(main(sys.argv[1:]))
"""
    files = ["--router", str(trained.router), "--input", str(source), "--output", str(target)]
    command = [sys.executable, "-c", code, "rank", *files]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ)
    parts = tmp_path / "out.parquet.parts"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("part-*"))) < 3 and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert not target.exists()
    assert len(list(parts.glob("part-*"))) >= 3
    assert subprocess.run(command, check=False).returncode == 0
    assert pq.read_table(target).num_rows == 40
    assert not parts.exists()
    texts, router = instructions(40), Router.load(trained.router)
    best = pq.read_table(target)["probability"].to_numpy()
    np.testing.assert_allclose(best, router.probability(texts).max(axis=1), atol=1e-6)


def test_two_processes_rank_one_file(trained, tmp_path):
    source, target = write_input(tmp_path / "in.parquet", instructions(40)), tmp_path / "out.parquet"
    small = f"{EXACT}\nfrom satjax.rank_file import plan\nplan.ROWS = 3"
    files = ["rank", "--router", str(trained.router), "--input", str(source), "--output", str(target)]
    results = finish(launch(files, tmp_path / "cache", 2, dict.fromkeys((0, 1), small)))
    assert [code for code, _ in results] == [0, 0], results
    best = pq.read_table(target)["probability"].to_numpy()
    np.testing.assert_allclose(best, Router.load(trained.router).probability(instructions(40)).max(axis=1), atol=1e-5)
