"""A file of instructions is ranked whole: in order, nothing lost or doubled, several chunks at once, by several hosts and devices."""

import signal
import time

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from satjax.config import MeshConfig
from satjax.errors import TryAgain
from satjax.rank_file import plan, rank
from satjax.router import Router
from satjax.sharding import make_mesh
from tests.ranked_files import FileRanker, instructions, write_input


def test_every_row_has_the_probabilities_of_a_single_call(ranker, tmp_path, small_chunks):
    texts = instructions(23)
    source = write_input(tmp_path / "in.parquet", texts, id=[f"row {n}" for n in range(23)])
    ranker.run(source, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == ["candidate", "probability", *ranker.router.candidates, "id"]
    assert found["id"].to_pylist() == [f"row {n}" for n in range(23)]
    expected_BM = ranker.router.probability(texts)
    probability_BM = np.stack([found[name].to_numpy() for name in ranker.router.candidates], axis=1)
    np.testing.assert_allclose(probability_BM, expected_BM, atol=1e-6)
    assert probability_BM.dtype == np.float32
    assert found["candidate"].to_pylist() == [ranker.router.candidates[m] for m in probability_BM.argmax(axis=1)]
    np.testing.assert_array_equal(found["probability"].to_numpy(), probability_BM.max(axis=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]


def test_rows_without_an_instruction_get_nulls_and_a_warning(ranker, tmp_path, small_chunks, caplog):
    texts = [b"one", None, b"  ", b"two", b"caf\xe9", None, None, None, None, None]
    binary = pa.array(texts, pa.binary())
    column = pa.Array.from_buffers(pa.string(), len(texts), binary.buffers())  # Parquet checks no text
    pq.write_table(pa.table({"instruction": column}), tmp_path / "in.parquet")
    ranker.run(tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    empty = [text not in (b"one", b"two") for text in texts]
    for name in found.column_names:
        assert [value is None for value in found[name].to_pylist()] == empty
    assert "8 rows hold no instruction" in caplog.text


def test_chunks_are_ranked_together_as_long_as_that_is_quick(ranker, tmp_path, monkeypatch):
    texts, calls = instructions(200), []
    source = write_input(tmp_path / "in.parquet", texts)
    monkeypatch.setattr(plan, "ROWS", 5)
    once = Router.score
    monkeypatch.setattr(Router, "score", lambda self, some, *a: (calls.append(len(some)), once(self, some, *a))[1])
    for seconds, most in ((1e9, 40), (0.0, 5)):
        calls.clear()
        monkeypatch.setattr(rank, "SECONDS", seconds)
        ranker.run(source, tmp_path / f"{most}.parquet")
        assert (sum(calls), max(calls)) == (200, most)
        found = pq.read_table(tmp_path / f"{most}.parquet")["probability"].to_numpy()
        np.testing.assert_allclose(found, ranker.router.probability(texts).max(axis=1), atol=1e-6)
    assert pq.ParquetFile(tmp_path / "40.parquet").num_row_groups == 5


def test_where_a_chunk_takes_long_it_is_done_before_the_next_begins(ranker, tmp_path, small_chunks, monkeypatch):
    source, busy, most = write_input(tmp_path / "in.parquet", instructions(30)), [], []

    def score(self, texts, names, on_batch):
        busy.append(None)
        most.append(len(busy))
        time.sleep(0.05)
        busy.pop()
        return np.full((len(texts), len(names)), 0.5, np.float32)

    monkeypatch.setattr(Router, "score", score)
    for seconds, together in ((0.0, 1), (1e9, 2)):
        most.clear()
        monkeypatch.setattr(rank, "SECONDS", seconds)
        ranker.run(source, tmp_path / f"{together}.parquet")
        assert (len(most), max(most)) == (6, together)


def test_a_stop_ends_between_the_batches_of_a_chunk(ranker, tmp_path):
    source, stop, heard = write_input(tmp_path / "in.parquet", instructions(500)), [], []

    def progress(done: int, total: int) -> None:
        heard.append(done)
        if done:
            stop.append(signal.SIGTERM)

    with pytest.raises(TryAgain, match="run the same command to go on"):
        ranker.run(source, tmp_path / "out.parquet", stop=stop, on_progress=progress)
    assert 0 < heard[-1] < 100
    assert not list((tmp_path / "out.parquet.parts").glob("part*"))


def test_an_interrupted_job_goes_on_with_what_is_done(ranker, tmp_path, small_chunks, monkeypatch):
    source, target = write_input(tmp_path / "in.parquet", instructions(23)), tmp_path / "out.parquet"
    stop: list[int] = []
    heard: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        heard.append((done, total))
        if done >= 10:
            stop.append(signal.SIGTERM)

    with pytest.raises(TryAgain, match="run the same command to go on"):
        ranker.run(source, target, stop=stop, on_progress=progress)
    assert not target.exists()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out.parquet.parts").glob("*.parquet")}
    assert 1 <= len(kept) < 5
    ranked: list[int] = []
    once = rank.write_part
    monkeypatch.setattr(rank, "write_part", lambda job, chunk, *a: (ranked.append(chunk), once(job, chunk, *a))[1])
    ranker.run(source, target, on_progress=lambda *a: heard.append(a))
    assert len(ranked) == 5 - len(kept)
    assert heard[-1] == (23, 23)
    whole = tmp_path / "whole.parquet"
    ranker.run(source, whole)
    assert pq.read_table(target).equals(pq.read_table(whole))


def test_hosts_share_the_chunks_and_the_first_joins_them(ranker, tmp_path, small_chunks, monkeypatch):
    source, target = write_input(tmp_path / "in.parquet", instructions(23)), tmp_path / "out.parquet"
    waited: list[str] = []
    monkeypatch.setattr("jax.process_count", lambda: 2)
    monkeypatch.setattr(rank, "wait_for_all", waited.append)
    for host in (1, 0):
        monkeypatch.setattr("jax.process_index", lambda host=host: host)
        ranker.run(source, target)
        if host:
            assert sorted(p.name for p in (tmp_path / "out.parquet.parts").glob("p*")) == [
                "part-00000001.parquet",
                "part-00000003.parquet",
            ]
    assert waited == 2 * ["every chunk is ranked", "all are one file"]
    monkeypatch.setattr("jax.process_count", lambda: 1)
    ranker.run(source, tmp_path / "whole.parquet")
    assert pq.read_table(target).equals(pq.read_table(tmp_path / "whole.parquet"))


def test_rows_are_split_over_the_devices_of_a_mesh(ranker, tmp_path, small_chunks):
    texts = instructions(23)
    source = write_input(tmp_path / "in.parquet", texts)
    spread = Router.load(ranker.directory, mesh=make_mesh(MeshConfig(data=4), jax.devices()[:4]))
    FileRanker(spread, ranker.directory).run(source, tmp_path / "out.parquet")
    best = pq.read_table(tmp_path / "out.parquet")["probability"].to_numpy()
    np.testing.assert_allclose(best, ranker.router.probability(texts).max(axis=1), atol=1e-5)
