"""The command line as scripts use it: what it prints, its exit codes, and one clear line for every mistake."""

import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from satjax.aptitude import CapabilityProfile, profile_from_outcomes
from satjax.cli import _build_parser, main
from satjax.errors import SatjaxError
from satjax.export.directory import read_router, router_sha256
from satjax.outcomes import read_table, synthetic_zoo, write_table
from satjax.router import Router
from tests.tiny import write_tiny_config
from tests.trained import Trained


@pytest.fixture
def config_file(trained: Trained, tmp_path) -> Path:
    return write_tiny_config(tmp_path / "config.py", trained.directory)


def one_line(capsys, code: int, arguments: list[str]) -> str:
    """Runs a command that must fail with this code and one line on standard error, nothing on standard output."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("satjax: ")
    return lines[0]


VERBS = (
    "rank",
    "assess",
    "train",
    "evaluate",
    "calibrate",
    "bench",
    "profile",
    "remove",
    "import",
    "outcomes",
    "doctor",
)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([verb, "--help"])
    out = capsys.readouterr().out
    assert f"example: satjax {verb}" in out


def test_bench_takes_its_routers_in_one_flag_or_in_several():
    options = _build_parser().parse_args(
        ["bench", "--router", "a", "--router", "b", "c", "--outcomes", "x", "--out", "y"]
    )
    assert list(map(str, options.router)) == ["a", "b", "c"]


def test_help_and_version(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(re.search(rf"^    {verb}\s", out, re.MULTILINE) for verb in VERBS)
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("satjax 0.")


def test_a_python_runs_it_as_a_module():
    command = [sys.executable, "-m", "satjax", "rank", "--top", "0", "hi"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("satjax: ")
    assert "Traceback" not in ended.stderr


def test_mistakes_of_ranking_do_not_wait_for_jax():
    code = """
import sys
from satjax.cli import main
for arguments in ([], ["x", "--column", "x"], ["x", "--top", "0"], [" "], ["x", "--candidates", ","], ["--input", "x"], ["x", "--input", "x", "--output", "y"]):
    assert main(["rank", *arguments]) == 2, arguments
    assert "jax" not in sys.modules, arguments
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_rank_as_json(trained, capsys):
    texts = ["What is 17 percent of 240?", "Reverse the word 'lantern'."]
    assert main(["rank", *texts, "--router", str(trained.router), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    router = Router.load(trained.router)
    assert [entry["instruction"] for entry in listed] == texts
    for entry in listed:
        expected = router.rank(entry["instruction"])
        assert [place["candidate"] for place in entry["ranking"]] == [place.candidate for place in expected]
        assert all(place.keys() == {"candidate", "probability"} for place in entry["ranking"])
        np.testing.assert_allclose(
            [place["probability"] for place in entry["ranking"]], [p.probability for p in expected], atol=1e-6
        )


def test_json_for_a_terminal_of_few_characters_has_escapes(trained, monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, "ascii"))
    assert main(["rank", "Übersetze: 猫", "--router", str(trained.router), "--json"]) == 0
    assert json.loads(content.getvalue())[0]["instruction"] == "Übersetze: 猫"


def test_rank_some_as_a_table(trained, capsys):
    names = read_table(trained.outcomes).candidate_ids
    chosen = f"{names[0]}, {names[2]},{names[3]}"
    assert main(["rank", "Sort 3, 1, 2.", "--router", str(trained.router), "--candidates", chosen, "--top", "2"]) == 0
    out = capsys.readouterr().out
    assert sum(name in out for name in (names[0], names[2], names[3])) == 2
    assert "(1 more candidates)" in out
    assert not any(name in out for name in (names[1], names[4], names[5]))


def test_from_outcomes_to_a_new_candidate(config_file, trained, capsys, tmp_path):
    """Train, evaluate, profile and rank as the README says, each with what the one before it wrote."""
    workdir, router = tmp_path / "run", tmp_path / "run" / "router"
    held = read_table(trained.outcomes).candidate_ids[5]
    flags = [f"--config.data.held_out_candidates={(held,)!r}", "--config.stages[1].steps=3"]
    assert main(["train", "--config", str(config_file), *flags, "--workdir", str(workdir)]) == 0
    out = capsys.readouterr().out
    assert out == f"router: {router}\ncurve:  {workdir / 'training_curve.png'}\n"
    assert (workdir / "training_curve.png").read_bytes().startswith(b"\x89PNG")
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 7

    report = tmp_path / "report"
    outcomes = ["--outcomes", str(trained.outcomes)]
    assert main(["evaluate", "--router", str(router), *outcomes, "--split", "val", "--out", str(report)]) == 0
    assert f"report: {report / 'report.json'}" in capsys.readouterr().out
    figures = json.loads((report / "report.json").read_text())
    assert figures["split"] == "val"
    assert figures["routing"]["all"].keys() >= {"router", "best_single", "random", "oracle", "n"}

    profile = tmp_path / "new.json"
    assert main(["profile", *outcomes, "--router", str(router), "--candidate", held, "--out", str(profile)]) == 0
    assert capsys.readouterr().out == f"profile: {profile} (24 of 24 aptitude items observed)\n"
    loaded = Router.load(router)
    loaded.remove(held)
    assert main(["calibrate", "--router", str(router), *outcomes, "--method", "isotonic", "--out", str(router)]) == 0
    calibrated = router_sha256(router)
    assert main(["train", "--config", str(config_file), *flags, "--workdir", str(workdir)]) == 0
    assert router_sha256(router) == calibrated, "a run that was over writes over what came after it"
    (router / "calibration.json").write_text("{}")
    assert main(["train", "--config", str(config_file), *flags, "--workdir", str(workdir)]) == 0
    assert read_router(router).config, "a damaged router is not written anew"
    capsys.readouterr()
    loaded.add(profile)
    assert held in [entry.candidate for entry in loaded.rank("Sort 3, 1, 2.")]


def test_tables_are_described_and_merged(capsys, tmp_path):
    whole = synthetic_zoo(num_items=300, num_candidates=4)
    names = whole.candidate_ids
    for name, part in (("one", names[:2]), ("two", names[2:])):
        write_table(whole.select_candidates(part), tmp_path / name)
    parts = [str(tmp_path / name) for name in ("one", "two")]
    assert main(["outcomes", "merge", *parts, "--out", str(tmp_path / "both")]) == 0
    assert "(4 candidates, 300 items)" in capsys.readouterr().out
    assert main(["outcomes", "describe", str(tmp_path / "both"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {entry["id"] for entry in figures["candidates"]} == set(names)
    assert main(["outcomes", "describe", str(tmp_path / "both")]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in names)
    assert "300 (" in out
    assert "missing: no release date" in out
    write_table(dataclasses.replace(whole, scores_MN=1 - whole.scores_MN), tmp_path / "other")
    clash = ["outcomes", "merge", *parts, str(tmp_path / "other"), "--out", str(tmp_path / "none")]
    assert "differ" in one_line(capsys, 2, clash)
    assert not (tmp_path / "none").exists()


def test_the_router_of_the_package_ranks_unless_another_is_named(capsys):
    assert main(["rank", "Is 91 a prime?", "--top", "1", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["ranking"][0]["candidate"] in Router.load().candidates


def test_what_else_is_known_of_an_error_stands_before_it(capsys, monkeypatch):
    def fails(options):
        error = SatjaxError("a device failed")
        error.details = "Traceback …\n"
        raise error

    monkeypatch.setattr("satjax.cli._doctor", fails)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "Traceback …\nsatjax: a device failed\n"


def test_a_protocol_writes_its_report_and_says_it(config_file, capsys, tmp_path):
    arguments = ["protocol", "coverage", "--config", str(config_file), "--workdir", str(tmp_path / "folds")]
    assert main(arguments) == 0
    figures = json.loads((tmp_path / "folds" / "report-coverage.json").read_text())
    assert figures["protocol"] == "coverage"
    assert figures["made"]["config_file"] == str(config_file)
    assert len(figures["made"]["config_sha256"]) == len(figures["made"]["outcomes"]["sha256"]) == 64
    out = capsys.readouterr().out
    assert out.startswith(f"{figures['best_candidate']} is right on")
    page = tmp_path / "folds" / "report-coverage.html"
    assert out.endswith(f"report: {tmp_path / 'folds' / 'report-coverage.json'}\npage:   {page}\n")
    assert figures["best_candidate"] in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("protocol", ["onboarding", "release-stream", "coverage"])
def test_zoos_are_refused_where_no_zoo_is_measured(protocol, config_file, capsys, tmp_path):
    arguments = ["protocol", protocol, "--config", str(config_file), "--workdir", str(tmp_path / "folds")]
    zoos = Path(__file__).parents[1] / "configs" / "zoos.toml"
    assert f"--zoos: {protocol} measures no zoos" in one_line(capsys, 2, [*arguments, "--zoos", str(zoos)])


def test_coverage_refuses_what_the_config_holds_out(config_file, capsys, tmp_path):
    arguments = ["protocol", "coverage", "--config", str(config_file), "--workdir", str(tmp_path / "folds")]
    said = one_line(capsys, 2, [*arguments, "--config.data.held_out_candidates=('synthetic-abacus',)"])
    assert "coverage: config data.held_out_candidates holds out 'synthetic-abacus'" in said


def test_a_protocol_that_the_table_does_not_allow_is_one_line(config_file, capsys, tmp_path):
    arguments = ["protocol", "release-stream", "--config", str(config_file), "--workdir", str(tmp_path / "folds")]
    assert "has no release_date in models.parquet" in one_line(capsys, 2, arguments)
    assert not (tmp_path / "folds").exists()


@pytest.mark.parametrize(
    ("form", "pattern", "candidates", "items"),
    [("mmlu-pro", "model_outputs_*.zip", 2, 1400), ("routerbench", "routerbench_*.csv", 11, 90)],
)
def test_import(shared_data, capsys, tmp_path, form, pattern, candidates, items):
    sources = sorted(map(str, (shared_data / "raw").glob(pattern)))
    assert main(["import", form, *sources, "--out", str(tmp_path / "out")]) == 0
    assert f"{candidates} candidates" in capsys.readouterr().out
    table = read_table(tmp_path / "out")
    assert len(table.candidates) == candidates
    assert len(table.items) > items
    assert (tmp_path / "out" / "responses.parquet").exists() == (form == "routerbench")


def test_import_with_options(capsys, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("prompt,llm,right\nWhat?,a,1\nWhat?,b,0.5\n")
    names = "text=prompt,candidate=llm,score=right"
    assert main(["import", "csv", str(log), "--columns", names, "--out", str(tmp_path / "out")]) == 0
    assert "2 candidates, 1 items" in capsys.readouterr().out
    assert read_table(tmp_path / "out").scores_MN.tolist() == [[1], [0.5]]
    runs = str(Path(__file__).parent / "data" / "lm_eval")
    assert main(["import", "lm-eval", runs, "--out", str(tmp_path / "out")]) == 0
    assert read_table(tmp_path / "out").candidate_ids == ("acme/garden-1", "acme/garden-2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: VERB"),
        (["rnak"], "invalid choice: 'rnak'"),
        (["evalaute"], "; did you mean 'evaluate'?"),
        (["rank", "--router", "x"], "nothing to rank; give instructions, or --input"),
        (["protocol", "onboarding", "--workdir", "x"], "required: --config"),
        (["protocol", "luck"], "invalid choice: 'luck'"),
        (["rank", "text", "--router", "x", "--fast"], "unknown argument '--fast' (see `satjax rank --help`)"),
        (
            ["rank", "text", "--top", "3", "more", "--router", "x"],
            "unknown argument 'more'; give all instructions in a row, with no flag between them (see",
        ),
        (["outcomes", "describe", "x", "more"], "unknown argument 'more' (see `satjax outcomes --help`)"),
        (["rank", "text", "--router", "x", "--top", "0"], "--top 0: ask for at least 1 candidate"),
        (["rank", "text", "--column", "x"], "--column goes with --input: name a file of instructions, or leave it out"),
        (["rank", "text", "--num-processes", "2"], "--num-processes goes with --input"),
        (["rank", "--input", "in", "--output", "o", "--top", "0"], "--input takes no instructions, --top or --json"),
        (["rank", "--router", "x", "--input", "in.parquet", "--output", "o"], "in.parquet: there is no such file"),
        (["rank", "text", "--router", "x", "--top", "many"], "invalid int value: 'many'"),
        (["rank", "fine", "  ", "--router", "x"], "an instruction is empty; give every instruction as non-empty text"),
        (["rank", "text", "--router", "nowhere"], "nowhere is no router: it has no config.json"),
        (["rank", "text", "--router", "Large"], "or the name of one that comes with satjax: default, large"),
        (["train", "--config", "nowhere.py", "--workdir", "x"], "nowhere.py: there is no such file"),
        *(
            ([*verb, flag, "gs://bucket/x"], "gs://bucket/x is a URL, and satjax reads and writes files: name a path")
            for verb, flag in (
                (["train", "--config", "configs/smoke.py"], "--workdir"),
                (["protocol", "onboarding", "--config", "configs/smoke.py"], "--workdir"),
                (["preflight", "--config", "configs/smoke.py", "--topology", "v5e:2x2"], "--out"),
                (["convert", "--router", "x"], "--out"),
                (["evaluate", "--router", "x", "--outcomes", "synthetic"], "--out"),
                (["calibrate", "--router", "x", "--outcomes", "synthetic"], "--out"),
                (["bench", "--router", "x", "--outcomes", "synthetic"], "--out"),
                (["import", "csv", "nowhere.csv"], "--out"),
                (["outcomes", "merge", "synthetic"], "--out"),
                (["profile", "--outcomes", "synthetic", "--candidate", "c"], "--out"),
                (["assess", "--base-url", "http://h/v1", "--model", "m", "--outcomes", "synthetic"], "--out"),
                (["assess", "--base-url", "http://h/v1", "--model", "m", "--outcomes", "synthetic"], "--out-router"),
                (["rank", "--input", "in.parquet"], "--output"),
            )
        ),
        (["import", "csv", "nowhere.csv", "--out", "x"], "nowhere.csv cannot be read: there is no such file"),
        (["rank", "text", "--router", "x", "--candidates", ","], "--candidates names nobody"),
        (["rank", "--input", "in", "--output", "o", "--candidates", ","], "--candidates names nobody"),
        (["rank", "--input", "in.parquet"], "--input and --output go together"),
        (["rank", "a", "--input", "in.parquet", "--output", "o"], "--input takes no instructions"),
        (["train", "--config", "configs/smoke.py", "--workdir", "x", "--seed=1"], "unknown argument '--seed=1'"),
        (
            ["evaluate", "--router", "x", "--outcomes", "nowhere", "--out", "y"],
            "nowhere: there is no such directory; give one that holds items.parquet",
        ),
        (["evaluate", "--router", "x", "--outcomes", "y", "--split", "all", "--out", "z"], "invalid choice: 'all'"),
        (
            ["evaluate", "--router", "x", "--outcomes", "synthetic", "--zoos", "no.toml", "--out", "z"],
            "no.toml cannot be",
        ),
        (["bench", "--router", "x", "--outcomes", "nowhere", "--out", "y"], "nowhere: there is no such directory"),
        (
            ["bench", "--router", "x", "--outcomes", "synthetic", "--seeds", "0", "--out", "y"],
            "at least 1 fit is needed",
        ),
        (
            ["bench", "--router", "x", "--outcomes", "synthetic", "--reranker", "e", "--out", "y"],
            "--reranker reads what candidates answered; synthetic has no responses.parquet",
        ),
        (
            ["bench", "--outcomes", "synthetic", "--reranker", "e", "--baselines", "mlp", "--out", "y"],
            "--reranker reads for rerank, which is not among --baselines",
        ),
        (["import", "llmrec", "x", "--out", "y"], "invalid choice: 'llmrec'"),
        (["import", "csv", "x", "--metric", "acc", "--out", "y"], "csv takes no --metric; leave it out"),
        (["import", "mmlu-pro", "x", "--out", "y"], "results are expected as model_outputs_NAME_5shots.zip"),
        (["import", "routerbench", "nowhere.csv", "--out", "y"], "nowhere.csv cannot be read"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(root / "configs")
    assert message in one_line(capsys, 2, arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["configs"]


@pytest.mark.parametrize("flag", ["--candidates", "--baselines"])
@pytest.mark.parametrize(
    ("given", "words"), [("", "names nobody; give names"), (",", "names nobody"), ("a, a", "names 'a' twice")]
)
def test_empty_and_repeated_names_are_one_line(flag, given, words, capsys, tmp_path):
    """A shell variable that is empty would otherwise stand for everybody."""
    verbs = ("evaluate", "bench") if flag == "--candidates" else ("bench",)
    for verb in verbs:
        arguments = [verb, "--router", "x", "--outcomes", "synthetic", flag, given, "--out", str(tmp_path / "out")]
        assert f"{flag} {words}" in one_line(capsys, 2, arguments)


def test_unknown_candidates_come_with_near_names_before_the_router_is_loaded(trained, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(Router, "load", lambda *_, **__: pytest.fail("it takes seconds"))
    pq.write_table(pa.table({"instruction": ["text"]}), tmp_path / "in.parquet")
    files = ["--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out.parquet")]
    for ranked in (["text"], files):
        flags = ["--router", str(trained.router), "--candidates", "synthetic-abacus,synthetic-abacu"]
        line = one_line(capsys, 2, ["rank", *ranked, *flags])
        assert "unknown candidate 'synthetic-abacu': did you mean 'synthetic-abacus'" in line
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_names_without_commas_are_told_of_them(trained, capsys):
    router = ["--router", str(trained.router)]
    line = one_line(capsys, 2, ["rank", "text", *router, "--candidates", "synthetic-abacus", "synthetic-bard"])
    assert "unknown argument 'synthetic-bard'; --candidates takes its names with commas between them: A,B" in line
    flags = ["--outcomes", "synthetic", "--out", "x", "--baselines", "forest", "mlp"]
    assert "unknown argument 'mlp'; --baselines takes" in one_line(capsys, 2, ["bench", *flags])
    assert "commas" not in one_line(capsys, 2, ["bench", *flags[:4], "mlp"])


class Started(Exception):
    """A verb came as far as to read the router, or to train."""


@pytest.mark.parametrize(
    "arguments",
    [
        ["rank", "text"],
        ["rank", "--input", "in.parquet", "--output", "out.parquet"],
        ["evaluate", "--outcomes", "synthetic", "--out", "x"],
        ["calibrate", "--outcomes", "synthetic", "--out", "x"],
        ["bench", "--outcomes", "synthetic", "--out", "x"],
        ["protocol", "onboarding", "--workdir", "x", "--config"],
        ["serve", "--zoo", "zoo.toml", "--port", "0"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_verbs_that_compile_keep_what_they_compile(arguments, config_file, tmp_path, monkeypatch):
    def start(*_, **__):
        raise Started

    kept = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("satjax.cache.compiled.use_compilation_cache", lambda workdir=None: kept.append(workdir))
    monkeypatch.setattr(Router, "load", start)
    monkeypatch.setattr("satjax.evaluation.protocols.onboarding.onboarding", start)
    shutil.copy(Path(__file__).parents[1] / "configs" / "serve_zoo.toml", "zoo.toml")
    monkeypatch.setenv("GATEWAY_API_KEY", "gateway-key-0123456789")
    pq.write_table(pa.table({"instruction": ["Sort."]}), "in.parquet")
    with pytest.raises(Started):
        main([*arguments, str(config_file)] if arguments[0] == "protocol" else arguments)
    assert kept == [None]


def scores_of(values: list[float]) -> pa.Table:
    names = pa.array(["synthetic-abacus"] * len(values)), pa.array([f"synthetic/{n}" for n in range(len(values))])
    return pa.table({"model_id": names[0], "item_id": names[1], "score": pa.array(values, pa.float32())})


BAD_TABLES = {
    "missing": (lambda path: path.unlink(), "outcomes.parquet: this file is missing"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-200]), "truncated or no Parquet file"),
    "schema": (lambda path: pq.write_table(scores_of([1]).drop(["score"]), path), "score is missing; required are"),
    "range": (lambda path: pq.write_table(scores_of([1, 0, 1.5]), path), "score 1.5 .* is outside [0, 1]; rescale"),
}


@pytest.mark.parametrize("fault", BAD_TABLES)
def test_a_bad_table_stops_training_before_anything_is_made(fault, config_file, trained, capsys, tmp_path):
    spoil, message = BAD_TABLES[fault]
    outcomes = Path(shutil.copytree(trained.outcomes, tmp_path / "outcomes"))
    spoil(outcomes / "outcomes.parquet")
    flags = ["--config", str(config_file), f"--config.data.outcomes={outcomes}", "--workdir", str(tmp_path / "run")]
    line = one_line(capsys, 2, ["train", *flags])
    assert all(part in line for part in message.split(" .* "))
    assert str(outcomes / "outcomes.parquet") in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.batch.instruction=4", "unknown config key 'config.batch.instruction': did you mean"),
        ("--config.batch.instructions=6", "6 instructions has 6 rows, which data x fsdp = 8 of the mesh do not divide"),
        ("--config.mesh.fsdp=3", "does not fill 8 devices; mend one of the sizes, such as --config.mesh.fsdp=4"),
        ("--config.router.head=maybe", "choose one of 'yes', 'yes_no', 'linear'"),
        ("--config.data.held_out_candidates=('nobody',)", "'nobody'"),
        ("--config.aptitude.shots=500", "train with --config.aptitude.num_tasks="),
    ],
)
def test_a_config_that_cannot_work_makes_nothing(flag, message, config_file, capsys, tmp_path):
    line = one_line(capsys, 2, ["train", "--config", str(config_file), flag, "--workdir", str(tmp_path / "run")])
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_profile_of_another_test_is_refused(trained, tmp_path):
    router, table = Router.load(trained.router), read_table(trained.outcomes)
    other = replace(router.aptitude_test, tasks=router.aptitude_test.tasks[:-1])
    out = tmp_path / "profile.json"
    profile_from_outcomes(table, other, table.candidate_ids[0]).write(out)
    with pytest.raises(SatjaxError, match="belongs to aptitude test"):
        router.add(out)


def ranked(router: Path, capsys) -> set[str]:
    capsys.readouterr()
    assert main(["rank", "sort the list", "--router", str(router), "--json"]) == 0
    return {entry["candidate"] for entry in json.loads(capsys.readouterr().out)[0]["ranking"]}


def test_a_profile_of_outcomes_goes_into_a_router_and_out_of_it_again(trained, capsys, tmp_path):
    table = read_table(trained.outcomes)
    known = table.candidate_ids[0]
    renamed = tuple(replace(each, id="mine") if each.id == known else each for each in table.candidates)
    write_table(replace(table, candidates=renamed), tmp_path / "outcomes")
    router, out = tmp_path / "router", tmp_path / "mine.json"
    command = ["profile", "--outcomes", str(tmp_path / "outcomes"), "--router", str(trained.router), "--out", str(out)]
    assert main([*command, "--candidate", "mine", "--out-router", str(router)]) == 0
    assert "mine" in ranked(router, capsys)
    profile = CapabilityProfile.read(out)
    assert profile.assessment["by"] == "outcomes"
    assert (profile.assessment["items"], profile.assessment["of"]) == (profile.count_T.sum(), 24)
    assert main([*command, "--router", str(router), "--candidate", "mine", "--add"]) == 0, "again: it is replaced"
    capsys.readouterr()
    line = one_line(capsys, 2, [*command, "--candidate", table.candidate_ids[1], "--out-router", str(router)])
    assert "from its training; name this one otherwise" in line
    assert main(["remove", "mine", "--router", str(router)]) == 0
    assert ranked(router, capsys) == set(Router.load(trained.router).candidates)
    assert "unknown candidate 'mine'" in one_line(capsys, 2, ["remove", "mine", "--router", str(router)])
    line = one_line(capsys, 2, ["remove", "mine", "--router", "default"])
    assert "stays as it is; candidates are taken out of the copies that --out-router has made" in line


def test_a_profile_of_nobody_is_one_line(trained, capsys, tmp_path):
    flags = ["--outcomes", str(trained.outcomes), "--router", str(trained.router)]
    line = one_line(capsys, 2, ["profile", *flags, "--candidate", "nobody", "--out", str(tmp_path / "p.json")])
    assert "nobody" in line
    assert not list(tmp_path.iterdir())


def test_a_profile_for_the_default_router_from_a_table_of_another_says_so(capsys, tmp_path):
    flags = ["--outcomes", "synthetic", "--candidate", "synthetic-abacus", "--out", str(tmp_path / "p.json")]
    line = one_line(capsys, 2, ["profile", *flags])
    assert "synthetic holds none of the 1000 aptitude items of the default router; name yours with --router" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["calibration.json", "aptitude_test.json", "config.json"])
@pytest.mark.parametrize("change", ["missing", "altered"])
def test_a_damaged_router_is_one_line(name, change, trained, capsys, tmp_path):
    router = trained.copy(tmp_path / "router")
    if change == "missing":
        (router / name).unlink()
    else:
        (router / name).write_text(json.dumps({**json.loads((router / name).read_text()), "more": 1}))
    line = one_line(capsys, 2, ["rank", "text", "--router", str(router)])
    assert name in line


def full_disk_after(free_calls: int):
    """A disk that has room for the first saves only, as `shutil.disk_usage` sees it."""
    calls = iter(range(10**6))
    return lambda path: shutil._ntuple_diskusage(2**40, 2**40, 2**40 if next(calls) < free_calls else 0)


def test_a_full_disk_while_saving_keeps_the_checkpoint_before(config_file, capsys, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    arguments = ["train", "--config", str(config_file), "--workdir", str(workdir)]
    monkeypatch.setattr("satjax.files.shutil.disk_usage", full_disk_after(1))
    assert main(arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"satjax: no disk space left while saving {workdir.absolute()}")
    assert "run the same command" in said[-1]
    assert "Traceback" not in "\n".join(said)
    assert not (workdir / "router").exists()
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"3"}
    monkeypatch.undo()
    assert main(arguments) == 0
    assert "going on after step 3" in capsys.readouterr().err
    assert (workdir / "router" / "config.json").is_file()


def test_ctrl_c_is_no_traceback(monkeypatch, capsys, trained):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Router, "load", interrupted)
    assert main(["rank", "text", "--router", str(trained.router)]) == 130
    assert capsys.readouterr().err == "satjax: interrupted\n"


def test_bytes_that_are_no_text_are_refused(trained, capsys):
    text = os.fsdecode(b"caf\xe9")
    line = one_line(capsys, 2, ["rank", text, "--router", str(trained.router)])
    assert "instruction 1 of 1 is not valid Unicode" in line
