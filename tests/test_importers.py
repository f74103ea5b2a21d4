"""Formats by name; and whatever stands in a file, an importer makes a table or says in one line why not."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.cli.outcomes import FORMATS
from satjax.errors import SatjaxError
from satjax.outcomes import OutcomeTable, import_outcomes
from satjax.outcomes.importers import IMPORTERS
from tests.damage import damage, mutated

DATA = Path(__file__).parent / "data"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["C", "a", "test"]),
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


def ends_well(form: str, path: Path) -> None:
    result = imported(form, path)
    assert isinstance(result, OutcomeTable) or "\n" not in result


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
        case "csv":
            path = folder / "log.csv"
            path.write_text("item_id,text,model_id,score,split\ni,What?,a,1,test\nj,Why?,a,0.5,\n")
            return path, [path]
        case "jsonl":
            path = folder / "log.jsonl"
            path.write_text('{"item_id": "i", "text": "What?", "model_id": "a", "score": 1, "split": "test"}\n')
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
    @settings(max_examples=examples, deadline=None, database=None)
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
    @settings(max_examples=examples, deadline=None, database=None)
    def check(file: Path, seed: int, other: object) -> None:
        if file.suffix == ".jsonl":
            lines = [json.loads(line) for line in contents[file].splitlines()]
            file.write_text("".join(json.dumps(line) + "\n" for line in mutated(lines, seed, other)))
        else:
            file.write_text(json.dumps(mutated(json.loads(contents[file]), seed, other)))
        ends_well(form, path)
        file.write_text(contents[file])

    check()


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files_end_in_a_table_or_one_line(form, tmp_path):
    fuzz_bytes(form, tmp_path, 40)


@pytest.mark.parametrize("form", ["lm-eval", "inspect", "helm", "opencompass", "jsonl"])
def test_unexpected_values_end_in_a_table_or_one_line(form, tmp_path):
    fuzz_json(form, tmp_path, 40)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_many_damaged_files(form, tmp_path):
    fuzz_bytes(form, tmp_path, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["lm-eval", "inspect", "helm", "opencompass", "jsonl"])
def test_many_unexpected_values(form, tmp_path):
    fuzz_json(form, tmp_path, 1000)
