"""A file of instructions is ranked whole: in order, nothing lost or doubled, whatever stops it on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from satjax import rank_file as module
from satjax.config import MeshConfig
from satjax.errors import SatjaxError, TryAgain
from satjax.pretrained import DEFAULT
from satjax.rank_file import rank_file
from satjax.router import Router
from satjax.sharding import make_mesh
from tests.processes import finish, launch
from tests.trained import Trained

EXACT = "import satjax.assembly; satjax.assembly.cpu_multiplies_bfloat16 = lambda: False"
"""Processes of their own rank as those do that the tests compare them with (`tests/conftest.py`)."""

WORDS = [
    "sort",
    "the",
    "list",
    "of",
    "prime",
    "numbers",
    "and",
    "convert",
    "it",
    "to",
    "roman",
    "numerals",
    "please",
    "now",
]


def instructions(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{n}: {' '.join(rng.choice(WORDS, rng.integers(1, 30)))}" for n in range(count)]


def write_input(path: Path, texts: list, **columns: list) -> Path:
    pq.write_table(pa.table({"instruction": pa.array(texts, pa.string()), **columns}), path, row_group_size=7)
    return path


@pytest.fixture(scope="module")
def router(trained: Trained) -> Router:
    return Router.load(trained.router)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 5)


def run(router: Router, trained: Trained, source: Path, target: Path, **options) -> None:
    rank_file(router, trained.router, source, target, **options)
    assert target.is_file() == (jax.process_index() == 0)


def test_every_row_has_the_probabilities_of_a_single_call(router, trained, tmp_path, small_chunks):
    texts = instructions(23)
    source = write_input(tmp_path / "in.parquet", texts, id=[f"row {n}" for n in range(23)])
    run(router, trained, source, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == ["candidate", "probability", *router.candidates, "id"]
    assert found["id"].to_pylist() == [f"row {n}" for n in range(23)]
    expected_BM = router.probability(texts)
    probability_BM = np.stack([found[name].to_numpy() for name in router.candidates], axis=1)
    np.testing.assert_allclose(probability_BM, expected_BM, atol=1e-6)
    assert probability_BM.dtype == np.float32
    assert found["candidate"].to_pylist() == [router.candidates[m] for m in probability_BM.argmax(axis=1)]
    np.testing.assert_array_equal(found["probability"].to_numpy(), probability_BM.max(axis=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


@given(st.lists(st.integers(0, 12), max_size=5), st.integers(1, 9))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunks_hold_every_row_once_whatever_the_row_groups(tmp_path_factory, groups, rows):
    path = tmp_path_factory.mktemp("groups") / "in.parquet"
    table = pa.table({"instruction": pa.array([f"{n}" for n in range(sum(groups))]).dictionary_encode()})
    with pq.ParquetWriter(path, table.schema) as writer:
        first = 0
        for size in groups:
            writer.write_table(table.slice(first, size))
            first += size
    plan = module.Plan(path, path.with_name("out"), "instruction", (), (), sum(groups))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", rows)
        chunks = [(chunk, part["instruction"].to_pylist()) for chunk, part in module._chunks(plan)]
        assert len(chunks) == plan.num_chunks
    assert chunks == [
        (i, [str(n) for n in range(i * rows, min((i + 1) * rows, sum(groups)))]) for i in range(len(chunks))
    ]


def test_rows_without_an_instruction_get_nulls_and_a_warning(router, trained, tmp_path, small_chunks, caplog):
    texts = ["one", None, "  ", "two", None, None, None, None, None, None]
    run(router, trained, write_input(tmp_path / "in.parquet", texts), tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    empty = [text is None or not text.strip() for text in texts]
    for name in found.column_names:
        assert [value is None for value in found[name].to_pylist()] == empty
    assert "8 rows hold no instruction" in caplog.text


def test_an_interrupted_job_goes_on_with_what_is_done(router, trained, tmp_path, small_chunks, monkeypatch):
    source, target = write_input(tmp_path / "in.parquet", instructions(23)), tmp_path / "out.parquet"
    stop: list[int] = []
    heard: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        heard.append((done, total))
        if done >= 10:
            stop.append(signal.SIGTERM)

    with pytest.raises(TryAgain, match="run the same command to go on"):
        run(router, trained, source, target, stop=stop, on_progress=progress)
    assert not target.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out.parquet.parts").glob("*.parquet")}
    assert 2 <= len(kept) < 5
    ranked: list[int] = []
    once = module._rank_chunk
    monkeypatch.setattr(
        module, "_rank_chunk", lambda r, p, chunk, rows: (ranked.append(chunk), once(r, p, chunk, rows))[1]
    )
    run(router, trained, source, target, on_progress=lambda *a: heard.append(a))
    assert len(ranked) == 5 - len(kept)
    assert heard[-1] == (23, 23)
    whole = tmp_path / "whole.parquet"
    run(router, trained, source, whole)
    assert pq.read_table(target).equals(pq.read_table(whole))


def test_hosts_share_the_chunks_and_the_first_joins_them(router, trained, tmp_path, small_chunks, monkeypatch):
    source, target = write_input(tmp_path / "in.parquet", instructions(23)), tmp_path / "out.parquet"
    waited: list[str] = []
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr(module, "wait_for_all", waited.append)
    for host in (1, 0):
        monkeypatch.setattr("jax.process_index", lambda host=host: host)
        run(router, trained, source, target)
        if host:
            assert sorted(p.name for p in (tmp_path / "out.parquet.parts").glob("p*")) == [
                "part-00000001.parquet",
                "part-00000003.parquet",
            ]
    assert waited == 2 * ["every chunk is ranked", "all are one file"]
    monkeypatch.setattr("jax.process_count", lambda: 1)
    run(router, trained, source, tmp_path / "whole.parquet")
    assert pq.read_table(target).equals(pq.read_table(tmp_path / "whole.parquet"))


def test_a_killed_job_goes_on_from_the_command_line(trained, tmp_path):
    source, target = write_input(tmp_path / "in.parquet", instructions(40)), tmp_path / "out.parquet"
    code = f"{EXACT}; import sys, satjax.rank_file as r; r.ROWS = 2; from satjax.cli import main; sys.exit(main(sys.argv[1:]))"
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


def test_rows_are_split_over_the_devices_of_a_mesh(router, trained, tmp_path, small_chunks):
    texts = instructions(23)
    source = write_input(tmp_path / "in.parquet", texts)
    spread = Router.load(trained.router, mesh=make_mesh(MeshConfig(data=4), jax.devices()[:4]))
    run(spread, trained, source, tmp_path / "out.parquet")
    best = pq.read_table(tmp_path / "out.parquet")["probability"].to_numpy()
    np.testing.assert_allclose(best, router.probability(texts).max(axis=1), atol=1e-5)


def test_two_processes_rank_one_file(trained, tmp_path):
    source, target = write_input(tmp_path / "in.parquet", instructions(40)), tmp_path / "out.parquet"
    small = f"{EXACT}\nimport satjax.rank_file as r\nr.ROWS = 3"
    files = ["rank", "--router", str(trained.router), "--input", str(source), "--output", str(target)]
    results = finish(launch(files, tmp_path / "cache", 2, dict.fromkeys((0, 1), small)))
    assert [code for code, _ in results] == [0, 0], results
    best = pq.read_table(target)["probability"].to_numpy()
    np.testing.assert_allclose(best, Router.load(trained.router).probability(instructions(40)).max(axis=1), atol=1e-5)


def message(router: Router, trained: Trained, *arguments, **options) -> str:
    with pytest.raises(SatjaxError) as caught:
        run(router, trained, *arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_one_line(router, trained, tmp_path):
    source, target = write_input(tmp_path / "in.parquet", ["one"], id=["a"]), tmp_path / "out.parquet"
    assert "no column 'text'" in message(router, trained, source, target, text="text")
    assert "not text" in message(router, trained, write_input(tmp_path / "n.parquet", ["a"], x=[1]), target, text="x")
    assert "absent" in message(router, trained, source, target, candidates=("absent",))
    assert "cannot be read as Parquet" in message(router, trained, tmp_path / "absent.parquet", target)
    (tmp_path / "text.parquet").write_text("no parquet")
    assert "cannot be read as Parquet" in message(router, trained, tmp_path / "text.parquet", target)
    twice = write_input(tmp_path / "twice.parquet", ["one"], candidate=["a"])
    assert "two columns 'candidate'" in message(router, trained, twice, target)
    assert "has no rows" in message(router, trained, write_input(tmp_path / "none.parquet", []), target)
    target.write_text("mine")
    assert "exists" in message(router, trained, source, target)
    assert target.read_text() == "mine"


def test_inputs_of_one_size_are_told_apart(tmp_path):
    texts = [[f"What is {n} percent of {i}?" for i in range(10, 30)] for n in (1, 2)]
    one, other = (write_input(tmp_path / f"{rows[0][8]}.parquet", rows) for rows in texts)
    assert one.stat().st_size == other.stat().st_size
    plan = module.Plan(one, tmp_path / "out.parquet", "instruction", (), ("a",), 20)
    for _ in range(2):
        module._claim(plan, DEFAULT)
    with pytest.raises(SatjaxError, match="parts of another input"):
        module._claim(replace(plan, source=other), DEFAULT)


def test_parts_of_another_job_are_not_gone_on_with(router, trained, tmp_path, small_chunks):
    target = tmp_path / "out.parquet"
    first = write_input(tmp_path / "in.parquet", instructions(12))
    with pytest.raises(TryAgain):
        run(router, trained, first, target, stop=[signal.SIGTERM])
    other = write_input(tmp_path / "other.parquet", instructions(12, seed=1))
    assert "parts of another input" in message(router, trained, other, target)
    assert "parts of another" in message(router, trained, first, target, candidates=router.candidates[:2])
    assert json.loads((tmp_path / "out.parquet.parts" / "job.json").read_text())
    run(router, trained, first, target)
