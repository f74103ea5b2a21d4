"""Outcome tables as TFDS ArrayRecord: exact round trips without TensorFlow, and one line for damaged directories."""

import subprocess
import sys
import tempfile

import pytest
from hypothesis import given, settings

from satjax.errors import SatjaxError
from satjax.outcomes.tfds_dataset import is_tfds, read_tfds, write_tfds
from tests.test_table import assert_same, small, tables


@given(tables())
@settings(max_examples=8)
def test_round_trip_is_exact(table):
    with tempfile.TemporaryDirectory() as directory:
        write_tfds(table, directory)
        assert_same(table, read_tfds(directory))


def test_written_twice_and_nothing_left_beside_it(tmp_path, capsys):
    write_tfds(small(), tmp_path / "t")
    write_tfds(small().split("train"), tmp_path / "t")
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["satjax_outcomes"]
    assert is_tfds(tmp_path / "t")
    assert_same(small().split("train"), read_tfds(tmp_path / "t"))
    assert_same(small().split("train"), read_tfds(tmp_path / "t" / "satjax_outcomes" / "1.0.0"))


def test_tensorflow_is_not_imported_and_tfds_only_when_used(tmp_path):
    code = f"""
import sys
import satjax.outcomes
from satjax.outcomes import read_tfds, synthetic_zoo, write_tfds
assert "tensorflow_datasets" not in sys.modules
write_tfds(synthetic_zoo(num_items=20), {str(tmp_path / "t")!r})
assert len(read_tfds({str(tmp_path / "t")!r}).items) == 20
assert "tensorflow_datasets" in sys.modules
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_damaged_absent_and_foreign_directories(tmp_path):
    with pytest.raises(SatjaxError, match="there is no TFDS dataset"):
        read_tfds(tmp_path / "absent")
    with pytest.raises(SatjaxError, match="it is empty"):
        write_tfds(small().select_items([]), tmp_path / "t")
    write_tfds(small(), tmp_path / "t")
    version = tmp_path / "t" / "satjax_outcomes" / "1.0.0"
    shard = next(version.glob("*train*"))
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(SatjaxError, match="write it again") as caught:
        read_tfds(tmp_path / "t")
    assert "\n" not in str(caught.value)
    shard.unlink()
    with pytest.raises(SatjaxError, match="write it again"):
        read_tfds(tmp_path / "t")
    (version / "metadata.json").write_text("{}")
    with pytest.raises(SatjaxError, match="write it again"):
        read_tfds(tmp_path / "t")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SatjaxError, match=r"notes\.txt"):
        write_tfds(small(), tmp_path)
