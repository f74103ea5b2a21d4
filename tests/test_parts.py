"""Parts become one file only where each is there, whole and of this job."""

import shutil

import pyarrow.parquet as pq
import pytest

from satjax.calibration import Calibration
from satjax.errors import TryAgain
from satjax.rank_file import parts, rank
from tests.ranked_files import instructions, write_input


def test_a_part_that_was_changed_is_not_joined(ranker, tmp_path, small_chunks, monkeypatch):
    source, target = write_input(tmp_path / "in.parquet", instructions(12)), tmp_path / "out.parquet"
    part = tmp_path / "out.parquet.parts" / "part-00000001.parquet"
    once = rank._rank_chunks
    for damage in (part.unlink, lambda: part.write_bytes(b"torn"), lambda: shutil.copy(source, part)):
        monkeypatch.setattr(rank, "_rank_chunks", lambda *a, damage=damage: (once(*a), damage()))
        with pytest.raises(TryAgain, match=r"00001.parquet is gone, or of another job"):
            ranker.run(source, target)
        assert not target.exists()
    monkeypatch.setattr(rank, "_rank_chunks", once)
    ranker.run(source, target)


def test_several_parts_are_a_row_group(ranker, tmp_path, small_chunks):
    target = tmp_path / "out.parquet"
    ranker.run(write_input(tmp_path / "in.parquet", instructions(23)), target)
    with pq.ParquetFile(target) as file:
        assert [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)] == [10, 10, 3]


def test_the_likeliest_candidate_is_that_of_a_ranking_where_all_probabilities_are_one(ranker, tmp_path, monkeypatch):
    texts, target = instructions(12), tmp_path / "out.parquet"
    monkeypatch.setattr(ranker.router, "calibration", Calibration(offset=100.0))
    ranker.run(write_input(tmp_path / "in.parquet", [*texts, None]), target)
    table = pq.read_table(target)
    assert table["probability"].to_pylist() == [1.0] * 12 + [None]
    first = [ranker.router.rank(text)[0].candidate for text in texts]
    assert table["candidate"].to_pylist() == [*first, None]
    assert set(first) != {ranker.router.candidates[0]}


def test_a_join_that_is_cut_leaves_nothing_beside_the_target(ranker, tmp_path, small_chunks, monkeypatch):
    source, target = write_input(tmp_path / "in.parquet", instructions(12)), tmp_path / "out.parquet"

    def cut(plan, chunk, read=parts._read_part):
        if chunk == 2:
            beside.extend(path.name for path in tmp_path.iterdir())
            raise KeyboardInterrupt
        return read(plan, chunk)

    beside: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(parts, "_read_part", cut)
        with pytest.raises(KeyboardInterrupt):
            ranker.run(source, target)
    assert sorted(beside) == ["in.parquet", "out.parquet.parts"]
    ranker.run(source, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.parquet", "out.parquet"]
    assert target.stat().st_mode & 0o777 == source.stat().st_mode & 0o777
