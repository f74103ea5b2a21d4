"""Files of other tools are read within bounds, whatever they claim of their sizes."""

import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from satjax.errors import SatjaxError
from satjax.outcomes.importers import upstream
from satjax.outcomes.importers.columns import import_parquet
from satjax.outcomes.importers.mmlu_pro import import_mmlu_pro
from tests.memory import within
from tests.test_importers import imported
from tests.test_mmlu_pro import write


@pytest.mark.parametrize(
    ("member", "content", "said"),
    [
        ("m.json", b"[" + b"{}," * 2**22 + b"{}]", "a piece of more than 268,435,456 bytes or 8,388,608 values"),
        ("m.json", bytes(2**28 + 1), "unpacks to 268,435,457 bytes, more than any real result"),
    ],
)
def test_an_archive_that_unpacks_to_much_more_is_refused_before_it_does(tmp_path, member, content, said):
    path = tmp_path / "model_outputs_m_5shots.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(member, content)
    del content
    with within(100):
        assert said in imported("mmlu-pro", path)


def test_a_row_without_end_is_not_waited_for(tmp_path):
    path = tmp_path / "log.csv"
    with path.open("wb") as file:
        file.truncate(2**30)
    with within(400):
        assert "a row of more than 33,554,432 characters" in imported("csv", path)


def test_zip_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(upstream, "LARGEST", 1000)
    path = write(tmp_path, "bomb", " " * 100_000)
    with pytest.raises(SatjaxError, match="unpacks to 100,000 bytes"):
        import_mmlu_pro([path])
    # The same with a directory entry that claims to be small.
    data = path.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(SatjaxError, match=r"unpacks to|cannot be read"):
        import_mmlu_pro([path])


@pytest.mark.parametrize("nested", [False, True])
def test_texts_that_a_small_parquet_file_says_many_times_do_not_fill_the_memory(tmp_path, nested):
    text = pa.DictionaryArray.from_arrays(np.zeros(600, np.int32), pa.array(["x" * 1_000_000]))
    names = pa.DictionaryArray.from_arrays(np.zeros(600, np.int32), pa.array(["a"]))
    lists = pa.ListArray.from_arrays(np.arange(601, dtype=np.int32), text)
    pq.write_table(
        pa.table({"text": lists if nested else text, "model_id": names, "score": np.ones(600)}), tmp_path / "a.parquet"
    )
    assert (tmp_path / "a.parquet").stat().st_size < 2_000_000
    with within(300):
        if nested:
            with pytest.raises(SatjaxError, match="row 1: text is a list"):
                import_parquet([tmp_path / "a.parquet"])
        else:
            assert len(import_parquet([tmp_path / "a.parquet"]).items) == 1
