"""What does not fit is one line before anything is written; the digest of a job is that of its content."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from satjax.rank_file.plan import check_files, make_plan
from tests.ranked_files import write_input


def test_what_does_not_fit_is_one_line(ranker, tmp_path):
    source, target = write_input(tmp_path / "in.parquet", ["one"], id=["a"]), tmp_path / "out.parquet"
    assert ranker.message(source, target, column="text") == (
        f"{source}: unknown column 'text'; there are: id, instruction. --column names the column of the instructions"
    )
    assert "not text" in ranker.message(write_input(tmp_path / "n.parquet", ["a"], x=[1]), target, column="x")
    assert "absent" in ranker.message(source, target, candidates=("absent",))
    assert "absent.parquet: there is no such file" in ranker.message(tmp_path / "absent.parquet", target)
    some = ranker.router.candidates[0]
    assert f"candidate {some!r} is named twice" in ranker.message(source, target, candidates=(some, some))
    assert "no candidate to rank" in ranker.message(source, target, candidates=())
    double = pa.Table.from_arrays([pa.array(["one"]), pa.array(["two"])], ["instruction", "instruction"])
    pq.write_table(double, tmp_path / "double.parquet")
    assert "two columns 'instruction'" in ranker.message(tmp_path / "double.parquet", target)
    (tmp_path / "text.parquet").write_text("no parquet")
    assert "cannot be read as Parquet" in ranker.message(tmp_path / "text.parquet", target)
    assert check_files(source, target, "instruction") == (("id",), 1)
    twice = write_input(tmp_path / "twice.parquet", ["one"], candidate=["a"])
    assert "two columns 'candidate'" in ranker.message(twice, target)
    assert "has no rows" in ranker.message(write_input(tmp_path / "none.parquet", []), target)
    for nameless in (Path(), Path("/")):
        assert "is a directory; name a file" in ranker.message(source, nameless)
    assert not list(tmp_path.glob("out*"))
    target.write_text("mine")
    assert "exists" in ranker.message(source, target)
    assert target.read_text() == "mine"


def test_inputs_that_differ_in_order_only_are_told_apart(ranker, tmp_path):
    texts = [f"What is {n} percent of 240?" for n in range(10, 30)]
    footers, jobs = set(), set()
    for name, rows in (("one", texts), ("same", texts), ("other", texts[::-1])):
        source = tmp_path / name
        table = pa.table({"instruction": rows})
        pq.write_table(table, source, compression="none", use_dictionary=False, write_statistics=False)
        footers.add(source.read_bytes()[-300:])
        jobs.add(make_plan(ranker.router, ranker.directory, source, tmp_path / "out", "instruction", None, ()).job)
    assert (len(footers), len(jobs)) == (1, 2)
