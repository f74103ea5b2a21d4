"""A file of instructions is ranked whole: in order, nothing lost or doubled, whatever stops it on the way."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
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
from satjax.files import write_text
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
    monkeypatch.setattr(module, "MOST", 1)


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
    plan = module.Plan(path, path.with_name("out"), "instruction", (), (), sum(groups), "job")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROWS", rows)
        chunks = [(chunk, part["instruction"].to_pylist()) for chunk, part in module._chunks(plan)]
        assert len(chunks) == plan.num_chunks
    assert chunks == [
        (i, [str(n) for n in range(i * rows, min((i + 1) * rows, sum(groups)))]) for i in range(len(chunks))
    ]


def test_rows_without_an_instruction_get_nulls_and_a_warning(router, trained, tmp_path, small_chunks, caplog):
    texts = [b"one", None, b"  ", b"two", b"caf\xe9", None, None, None, None, None]
    binary = pa.array(texts, pa.binary())
    column = pa.Array.from_buffers(pa.string(), len(texts), binary.buffers())  # Parquet checks no text
    pq.write_table(pa.table({"instruction": column}), tmp_path / "in.parquet")
    run(router, trained, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    empty = [text not in (b"one", b"two") for text in texts]
    for name in found.column_names:
        assert [value is None for value in found[name].to_pylist()] == empty
    assert "8 rows hold no instruction" in caplog.text


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_text_may_be_of_any_arrow_type(router, trained, tmp_path, small_chunks, kind):
    texts = [*instructions(6), None]
    column = pa.array(texts)
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    pq.write_table(pa.table({"instruction": column, "again": column}), tmp_path / "in.parquet")
    run(router, trained, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["again"].to_pylist() == texts
    np.testing.assert_allclose(
        found["probability"].to_numpy()[:6], router.probability(texts[:6]).max(axis=1), atol=1e-6
    )


def test_chunks_are_ranked_together_as_long_as_that_is_quick(router, trained, tmp_path, monkeypatch):
    texts, calls = instructions(200), []
    source = write_input(tmp_path / "in.parquet", texts)
    monkeypatch.setattr(module, "ROWS", 5)
    once = Router.probability
    monkeypatch.setattr(
        Router, "probability", lambda self, some, *a: (calls.append(len(some)), once(self, some, *a))[1]
    )
    for seconds, most in ((1e9, 40), (0.0, 5)):
        calls.clear()
        monkeypatch.setattr(module, "SECONDS", seconds)
        run(router, trained, source, tmp_path / f"{most}.parquet")
        assert (sum(calls), max(calls)) == (200, most)
        found = pq.read_table(tmp_path / f"{most}.parquet")["probability"].to_numpy()
        np.testing.assert_allclose(found, once(router, texts).max(axis=1), atol=1e-6)
    assert pq.ParquetFile(tmp_path / "40.parquet").num_row_groups == 5


def test_a_stop_ends_between_the_batches_of_a_chunk(router, trained, tmp_path):
    source, stop, heard = write_input(tmp_path / "in.parquet", instructions(500)), [], []

    def progress(done: int, total: int) -> None:
        heard.append(done)
        if done:
            stop.append(signal.SIGTERM)

    with pytest.raises(TryAgain, match="run the same command to go on"):
        run(router, trained, source, tmp_path / "out.parquet", stop=stop, on_progress=progress)
    assert 0 < heard[-1] < 100
    assert not list((tmp_path / "out.parquet.parts").glob("part*"))


def test_sigterm_does_not_wait_for_a_chunk(trained, tmp_path):
    source, target = write_input(tmp_path / "in.parquet", instructions(500)), tmp_path / "out.parquet"
    slowly = f"""{EXACT}
import time, satjax.scoring as scoring, satjax.text_features as features
def slowly(*arguments, batches=scoring.row_batches):
    for batch in batches(*arguments):
        yield batch
        open({str(tmp_path / "begun")!r}, "w")
        time.sleep(3)
scoring.row_batches = features.row_batches = slowly
import satjax.row_batches as sizes
sizes.TOKENS_PER_CALL = 256
"""
    files = ["rank", "--router", str(trained.router), "--input", str(source), "--output", str(target)]
    [process] = launch(files, tmp_path / "cache", preludes={0: slowly})
    deadline = time.monotonic() + 120
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    [(code, error)] = finish([process], 100)  # the chunk takes minutes
    assert (code, error.strip()) == (75, "satjax: interrupted; what is ranked is kept: run the same command to go on")


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
    assert 1 <= len(kept) < 5
    ranked: list[int] = []
    once = module._write_part
    monkeypatch.setattr(module, "_write_part", lambda plan, chunk, *a: (ranked.append(chunk), once(plan, chunk, *a))[1])
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
    code = f"{EXACT}; import sys, satjax.rank_file as r; r.ROWS = 2; r.MOST = 1; from satjax.cli import main; sys.exit(main(sys.argv[1:]))"
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
    assert message(router, trained, source, target, text="text") == (
        f"{source}: unknown column 'text': did you mean 'id', 'instruction'? --column names the column of the instructions"
    )
    assert "not text" in message(router, trained, write_input(tmp_path / "n.parquet", ["a"], x=[1]), target, text="x")
    assert "absent" in message(router, trained, source, target, candidates=("absent",))
    assert "cannot be read as Parquet" in message(router, trained, tmp_path / "absent.parquet", target)
    some = router.candidates[0]
    assert f"candidate {some!r} is named twice" in message(router, trained, source, target, candidates=(some, some))
    assert "no candidate to rank" in message(router, trained, source, target, candidates=())
    double = pa.Table.from_arrays([pa.array(["one"]), pa.array(["two"])], ["instruction", "instruction"])
    pq.write_table(double, tmp_path / "double.parquet")
    assert "two columns 'instruction'" in message(router, trained, tmp_path / "double.parquet", target)
    (tmp_path / "text.parquet").write_text("no parquet")
    assert "cannot be read as Parquet" in message(router, trained, tmp_path / "text.parquet", target)
    twice = write_input(tmp_path / "twice.parquet", ["one"], candidate=["a"])
    assert "two columns 'candidate'" in message(router, trained, twice, target)
    assert "has no rows" in message(router, trained, write_input(tmp_path / "none.parquet", []), target)
    assert not list(tmp_path.glob("out*"))
    target.write_text("mine")
    assert "exists" in message(router, trained, source, target)
    assert target.read_text() == "mine"


def test_where_no_file_can_be_made_is_one_line(router, trained, tmp_path):
    source = write_input(tmp_path / "in.parquet", ["one"])
    (tmp_path / "file").touch()
    for target in (Path("/proc/o.parquet"), tmp_path / ("o" * 300), tmp_path / ("o" * 250), tmp_path / "file" / "o"):
        assert "cannot be written" in message(router, trained, source, target)
    for target in (Path("/proc/o"), tmp_path / ("o" * 250)):
        with pytest.raises(SatjaxError, match="cannot be written"):
            write_text(target, "text")


def test_inputs_that_differ_in_order_only_are_told_apart(router, trained, tmp_path):
    texts = [f"What is {n} percent of 240?" for n in range(10, 30)]
    footers, jobs = set(), set()
    for name, rows in (("one", texts), ("same", texts), ("other", texts[::-1])):
        source = tmp_path / name
        table = pa.table({"instruction": rows})
        pq.write_table(table, source, compression="none", use_dictionary=False, write_statistics=False)
        footers.add(source.read_bytes()[-300:])
        jobs.add(module._plan(router, trained.router, source, tmp_path / "out", "instruction", None, ()).job)
    assert (len(footers), len(jobs)) == (1, 2)


def test_parts_of_another_job_are_not_gone_on_with(router, trained, tmp_path, small_chunks):
    target = tmp_path / "out.parquet"
    first = write_input(tmp_path / "in.parquet", instructions(12))
    interrupt(router, trained, first, target)
    other = write_input(tmp_path / "other.parquet", instructions(12, seed=1))
    assert "parts of another input" in message(router, trained, other, target)
    assert "parts of another" in message(router, trained, first, target, candidates=router.candidates[:2])
    assert json.loads((tmp_path / "out.parquet.parts" / "job.json").read_text())
    run(router, trained, first, target)


def interrupt(router: Router, trained: Trained, source: Path, target: Path) -> list[Path]:
    """Ranks until a chunk is done; returns the parts."""
    stop: list[int] = []
    once = module._write_part
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_write_part", lambda *a: (once(*a), stop.append(signal.SIGTERM)))
        with pytest.raises(TryAgain):
            run(router, trained, source, target, stop=stop)
    parts = sorted(target.with_name(f"{target.name}.parts").glob("part*"))
    assert parts
    return parts


def test_parts_that_nobody_claims_are_ranked_again(router, trained, tmp_path, small_chunks):
    target, texts = tmp_path / "out.parquet", instructions(12, seed=1)
    interrupt(router, trained, write_input(tmp_path / "in.parquet", instructions(12)), target)
    (tmp_path / "out.parquet.parts" / "job.json").unlink()
    run(router, trained, write_input(tmp_path / "other.parquet", texts), target)
    best = pq.read_table(target)["probability"].to_numpy()
    np.testing.assert_allclose(best, router.probability(texts).max(axis=1), atol=1e-6)


def test_a_part_that_was_changed_is_not_joined(router, trained, tmp_path, small_chunks, monkeypatch):
    source, target = write_input(tmp_path / "in.parquet", instructions(12)), tmp_path / "out.parquet"
    part = tmp_path / "out.parquet.parts" / "part-00000001.parquet"
    once = module._rank_chunks
    for damage in (part.unlink, lambda: part.write_bytes(b"torn"), lambda: shutil.copy(source, part)):
        monkeypatch.setattr(module, "_rank_chunks", lambda *a, damage=damage: (once(*a), damage()))
        with pytest.raises(TryAgain, match=r"00001.parquet is gone, or of another job"):
            run(router, trained, source, target)
        assert not target.exists()
    monkeypatch.setattr(module, "_rank_chunks", once)
    run(router, trained, source, target)


def test_the_same_command_started_twice_is_one_line(router, trained, tmp_path, small_chunks):
    source, target = write_input(tmp_path / "in.parquet", instructions(12)), tmp_path / "out.parquet"
    interrupt(router, trained, source, target)
    with (tmp_path / "out.parquet.parts" / "lock-0").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(TryAgain, match=r"out.parquet: another process ranks into it"):
            run(router, trained, source, target)
    run(router, trained, source, target)


def test_a_kill_before_the_parts_are_removed_is_no_error(router, trained, tmp_path, small_chunks, monkeypatch):
    source, target = write_input(tmp_path / "in.parquet", instructions(12)), tmp_path / "out.parquet"
    parts = tmp_path / "out.parquet.parts"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *a, **k: None)
        run(router, trained, source, target)
    written = target.stat().st_mtime_ns
    other = write_input(tmp_path / "other.parquet", instructions(12, seed=1))
    assert "exists" in message(router, trained, other, target)
    assert parts.is_dir()
    (parts / "part-00000000.parquet").unlink()  # the removal had begun
    (parts / "job.json").unlink()
    run(router, trained, source, target)
    assert target.stat().st_mtime_ns == written
    assert not parts.exists()
    assert "exists" in message(router, trained, source, target)
