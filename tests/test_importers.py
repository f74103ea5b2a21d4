"""Formats by name; and whatever stands in a file, an importer makes a table or says in one line why not."""

import csv
import io
import json
import random
import shutil
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.cli.outcomes import FORMATS
from satjax.errors import SatjaxError
from satjax.outcomes import OutcomeTable, import_outcomes
from satjax.outcomes.importers.registry import IMPORTERS
from satjax.outcomes.importers.upstream import zip_members
from tests.damage import STRANGE, archives, damage, hostile, mutated
from tests.memory import within

DATA = Path(__file__).parent / "data"
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["C", "a", "test", *STRANGE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_the_command_line_knows_every_format():
    assert tuple(IMPORTERS) == FORMATS


def test_options_of_other_formats_are_refused():
    with pytest.raises(SatjaxError, match="csv takes no --metric; leave it out"):
        import_outcomes("csv", ["x.csv"], metric="acc")
    with pytest.raises(SatjaxError, match="unknown format 'lm_eval': did you mean 'lm-eval'"):
        import_outcomes("lm_eval", ["x"])


def imported(form: str, path: Path) -> OutcomeTable | str:
    try:
        return import_outcomes(form, [path])
    except SatjaxError as error:
        return str(error)


SECONDS, MEGABYTES = 60.0, 400.0
"""More than any of these files needs, on a busy machine too."""


def memory_measured_anew() -> None:
    bytearray(2**28)
    with within(64):
        pass
    with pytest.raises(AssertionError), within(64):
        bytearray(2**27)


def test_memory_is_measured_anew_each_time():
    """In a process of its own: what other tests left here may be freed meanwhile, and hide what is taken."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        fresh.submit(memory_measured_anew).result()


def ends_well(form: str, path: Path, what: str = "") -> None:
    start = time.monotonic()
    with within(MEGABYTES, what):
        result = imported(form, path)
    assert isinstance(result, OutcomeTable) or "\n" not in result, what
    assert time.monotonic() - start < SECONDS, what


def real(form: str, folder: Path) -> tuple[Path, list[Path]]:
    """A copy of a small real result: what to import, and its files."""
    match form:
        case "mmlu-pro":
            record = {"question_id": 1, "question": "Which?", "options": ["a", "b"], "answer": "B", "pred": "B"}
            path = folder / "model_outputs_m_5shots.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("m.json", json.dumps([record | {"category": "biology", "src": "ori_mmlu-x"}]))
            return path, [path]
        case "routerbench":
            path = folder / "bench.csv"
            path.write_text(
                "sample_id,prompt,eval_name,m,m|model_response,m|total_cost\ns.1,\"['Q?']\",arc,1.0,x,0.1\n"
            )
            return path, [path]
        case "capit":
            path = folder / "capit.json"
            groups = {"pos": ["What?", "Why?"], "neg": ["Who?"]}
            path.write_text(json.dumps([{"model_repr": "Botany: 3 of 4.", "data_repr": groups}]))
            return path, [path]
        case "csv":
            path = folder / "log.csv"
            path.write_text("item_id,text,model_id,score,split\ni,What?,a,1,test\nj,Why?,a,0.5,\n")
            return path, [path]
        case "jsonl":
            path = folder / "log.jsonl"
            path.write_text('{"item_id": "i", "text": "What?", "model_id": "a", "score": 1, "split": "test"}\n')
            return path, [path]
        case "parquet":
            path = folder / "log.parquet"
            chat = [{"role": "user", "content": "What?"}]
            row = {"text": chat, "item_id": "i", "model_id": "a", "score": 1.0, "split": "test"}
            pq.write_table(pa.Table.from_pylist([row, row | {"model_id": "b", "score": None}]), path)
            return path, [path]
        case "lm-eval":
            shutil.copytree(DATA / "lm_eval" / "acme__garden-1", folder / "m")
        case "inspect":
            (folder / "m").mkdir()
            for path in (DATA / "inspect").glob("*_garden-choice.*"):
                shutil.copy(path, folder / "m")
        case "helm":
            shutil.copytree(DATA / "helm" / "simple_mcqa-simple_garden1", folder / "m")
        case "opencompass":
            shutil.copytree(DATA / "opencompass", folder / "m")
    return folder / "m", sorted(path for path in (folder / "m").rglob("*") if path.is_file())


def fuzz_bytes(form: str, folder: Path, examples: int) -> None:
    path, files = real(form, folder)
    ends_well(form, path)
    contents = {file: file.read_bytes() for file in files}

    @given(st.sampled_from(files), st.integers(0, 2**32))
    @settings(max_examples=examples, database=None)
    def check(file: Path, seed: int) -> None:
        file.write_bytes(damage(contents[file], seed))
        ends_well(form, path)
        file.write_bytes(contents[file])

    check()


def fuzz_json(form: str, folder: Path, examples: int) -> None:
    path, files = real(form, folder)
    files = [file for file in files if file.suffix in (".json", ".jsonl")]
    contents = {file: file.read_text(encoding="utf-8") for file in files}

    @given(st.sampled_from(files), st.integers(0, 2**32), JSON)
    @settings(max_examples=examples, database=None)
    def check(file: Path, seed: int, other: object) -> None:
        if file.suffix == ".jsonl":
            lines = [json.loads(line) for line in contents[file].splitlines()]
            file.write_text("".join(json.dumps(line) + "\n" for line in mutated(lines, seed, other)))
        else:
            file.write_text(json.dumps(mutated(json.loads(contents[file]), seed, other)))
        ends_well(form, path)
        file.write_text(contents[file])

    check()


def fuzz_cells(form: str, folder: Path, examples: int) -> None:
    path, _ = real(form, folder)
    rows = list(csv.reader(io.StringIO(path.read_text())))
    for seed in range(examples):
        chance, text = random.Random(seed), io.StringIO()
        changed = [list(row) for row in rows]
        chance.choice(changed)[chance.randrange(len(rows[0]))] = str(chance.choice(STRANGE))
        csv.writer(text).writerows(changed * chance.choice([1, 1, 2]))
        path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
        ends_well(form, path, f"seed {seed}")


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_files_end_in_a_table_or_one_line(form, tmp_path):
    path, files = real(form, tmp_path)
    for file in files:
        content = file.read_bytes()
        for what, other in hostile(content):
            file.write_bytes(other)
            ends_well(form, path, f"{file.name}: {what}")
        file.write_bytes(content)
    assert isinstance(imported(form, path), OutcomeTable)


@pytest.mark.parametrize("form", ["mmlu-pro", "inspect"])
def test_hostile_archives_end_in_a_table_or_one_line_and_write_nothing(form, tmp_path):
    _, files = real(form, tmp_path)
    archive = next(file for file in files if zipfile.is_zipfile(file))
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
    contents = (content for _, content in zip_members(archive, "an archive", lambda given: given))
    members = dict(zip(names, contents, strict=True))
    target = tmp_path / archive.name.replace("/", "_")
    for what, path in archives(members, tmp_path):
        target.write_bytes(path.read_bytes())
        path.unlink()
        before = sorted(tmp_path.parent.rglob("*"))
        ends_well(form, target, what)
        assert sorted(tmp_path.parent.rglob("*")) == before, what


@pytest.mark.parametrize("depth", [900, 50_000])
def test_how_deep_a_large_file_may_nest_is_found_out_before_it_is_unpacked(depth, tmp_path):
    path, files = real("helm", tmp_path)
    file = next(file for file in files if file.name == "scenario_state.json")
    text = '\\"' + "[" * 50_000  # in a text they nest nothing
    file.write_text(json.dumps({"text": text, "other": 1})[:-2] + "[" * depth + "]" * depth + "}")
    assert ("nested more than 1,000 deep" in str(imported("helm", path))) == (depth > 1000)


def test_a_table_that_is_nearly_empty_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("text,model_id,score\n" + "".join(f"question {n},model {n},1\n" for n in range(24_000)))
    assert imported("csv", path).startswith("24,000 candidates and 24,000 items make more than 536,870,912 pairs")


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files_end_in_a_table_or_one_line(form, tmp_path):
    fuzz_bytes(form, tmp_path, 40)


@pytest.mark.parametrize("form", ["lm-eval", "inspect", "helm", "opencompass", "capit", "jsonl"])
def test_unexpected_values_end_in_a_table_or_one_line(form, tmp_path):
    fuzz_json(form, tmp_path, 40)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_many_damaged_files(form, tmp_path):
    fuzz_bytes(form, tmp_path, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["lm-eval", "inspect", "helm", "opencompass", "capit", "jsonl"])
def test_many_unexpected_values(form, tmp_path):
    fuzz_json(form, tmp_path, 1000)


@pytest.mark.parametrize("form", ["csv", "routerbench"])
def test_strange_cells_end_in_a_table_or_one_line(form, tmp_path):
    fuzz_cells(form, tmp_path, 40)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "routerbench"])
def test_many_strange_cells(form, tmp_path):
    fuzz_cells(form, tmp_path, 5000)
