"""What is measured while a run trains is what its router is worth on the same instructions."""

import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.checkpoint import load_arrays
from satjax.config import BatchConfig
from satjax.errors import SatjaxError
from satjax.evaluation.evaluate import evaluate
from satjax.outcomes import open_outcomes
from satjax.outcomes.parquet import write_table
from satjax.processes.interruption import Interrupted
from satjax.router import Router
from satjax.train import train
from satjax.training import validation as module
from satjax.training.run_log import AUROC, LOG_LOSS, read_metrics
from satjax.training.stage_loop import StageLoop
from satjax.training.validation import BATCHES_OF_A_WIDTH, Validation, figures
from tests.runs import job_on, losses, run
from tests.tiny import ABILITY_ALONE, ABILITY_TUNED, tiny_config, tiny_table
from tests.xla import compilations

TEXT_PROFILES: dict[str, Any] = {
    "router__profile_encoder": {"kind": "text", "orders": 2},
    "router__prompt": {"layout": "capability_first", "buckets": (256, 320)},
    "router__llm__join_layer": 0,
    "batch": {"groups": 4, "instructions": 4, "accumulate": 2, "candidates": 4},
    "mesh": {"data": 2, "fsdp": 2, "tensor": 2},
    "stages": (
        {"name": "all", "steps": 4, "learning_rate": 3e-2, "trainable": ("connector/.*", "encoder/.*", "llm/.*")},
    ),
}
"""Psi learns too, six candidates are read four at a time in two passes, and the task orders of the profiles take turns."""
LOOKING = {"validation": {"every_steps": 4}, "calibration_instructions": 2000}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def curve(workdir: Path) -> dict[int, dict]:
    return {line["step"]: line for line in read_metrics(workdir / "metrics.jsonl") if LOG_LOSS in line}


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        pytest.param(ABILITY_ALONE, [4, 8, 10], id="features"),
        pytest.param(TEXT_PROFILES, [4], id="text profiles"),
        pytest.param(ABILITY_TUNED, [4, 8, 10], id="features, then tokens", marks=pytest.mark.slow),
        pytest.param({}, [4, 8, 10], id="tokens", marks=pytest.mark.slow),
    ],
)
def test_the_last_figures_are_those_of_the_router(changes, steps, home, tmp_path):
    config = tiny_config(home, **copy.deepcopy(changes), **LOOKING)
    router = Router.load(train(config, tmp_path))
    found = curve(tmp_path)
    assert list(found) == steps
    expected = evaluate(router, open_outcomes(config.data.outcomes), split="val")["correctness"]
    assert found[steps[-1]][LOG_LOSS] == pytest.approx(expected["log_loss"], rel=1e-4)
    assert found[steps[-1]][AUROC] == pytest.approx(expected["auroc_pooled"], rel=1e-3)


def test_candidates_that_training_does_not_know_are_not_looked_at(home, tmp_path):
    """A candidate with a few outcomes, the second of six, is measured when the run is over."""
    tiny_config(home)
    table = tiny_table()
    scores_MN = table.scores_MN.copy()
    scores_MN[1, np.flatnonzero(table.of_split("train"))[40:]] = np.nan
    write_table(replace(table, scores_MN=scores_MN), tmp_path / "outcomes")
    config = tiny_config(home, **ABILITY_ALONE, **LOOKING, data={"outcomes": str(tmp_path / "outcomes")})
    router = Router.load(train(config, tmp_path / "run"))
    learners = [name for i, name in enumerate(table.candidate_ids) if i != 1]
    expected = evaluate(router, open_outcomes(config.data.outcomes), split="val", candidates=learners)["correctness"]
    assert curve(tmp_path / "run")[10][LOG_LOSS] == pytest.approx(expected["log_loss"], rel=1e-4)


def test_looking_changes_nothing_but_the_metrics(home, tmp_path, capsys):
    def learned(workdir: Path) -> list[bytes]:
        config = json.loads((workdir / "router" / "config.json").read_text())
        wanted = {path: (tuple(shape), dtype) for path, (shape, dtype) in config["learned"].items()}
        return [np.asarray(value).tobytes() for value in load_arrays(workdir / "router" / "params", wanted).values()]

    train(tiny_config(home, **ABILITY_ALONE), tmp_path / "blind")
    assert not curve(tmp_path / "blind")
    train(tiny_config(home, **ABILITY_ALONE, validation={"every_steps": 3}), tmp_path / "seeing")
    assert losses(tmp_path / "seeing") == losses(tmp_path / "blind")
    assert learned(tmp_path / "seeing") == learned(tmp_path / "blind") != []
    found = curve(tmp_path / "seeing")
    assert list(found) == [3, 6, 9, 10]
    last = f"loss {losses(tmp_path / 'seeing')[-1]:.4f}, {found[10][LOG_LOSS]:.4f} in validation"
    assert f"ability: step 10 of 10, {last}" in capsys.readouterr().err.splitlines()


def test_a_run_goes_on_with_other_looks(home, tmp_path):
    job = job_on(tiny_config(home, **ABILITY_ALONE, validation={"every_steps": 5}), tmp_path)
    with pytest.raises(Interrupted, match="after step 5"):
        run(job, tmp_path, stop=lambda: len(read_metrics(tmp_path / "metrics.jsonl")) == 4)
    assert not curve(tmp_path), "whoever is to stop saves, and does not look first"
    job = job_on(tiny_config(home, **ABILITY_ALONE, validation={"every_steps": 4}), tmp_path)
    run(job, tmp_path)
    assert list(curve(tmp_path)) == [8, 10]
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == list(range(1, 11))


def test_a_signal_ends_a_look_and_the_step_before_it_is_saved(home, tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(module, "make_score_step", lambda *_: lambda *_: looked.append(1) or np.zeros((1, 1, 8, 6)))
    job = job_on(tiny_config(home, **ABILITY_ALONE, validation={"every_steps": 2}), tmp_path)
    with pytest.raises(Interrupted, match="after step 2"):
        run(job, tmp_path, stop=lambda: bool(looked))
    assert len(looked) == 1
    assert not curve(tmp_path)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_scores_that_are_not_finite_end_the_run_before_they_are_saved(home, tmp_path, monkeypatch):
    broken = iter([0.0, np.nan])
    scores = lambda *_: np.full((16, 6), next(broken))  # noqa: E731
    monkeypatch.setattr(Validation, "scores", scores)
    settings = {**ABILITY_ALONE, "validation": {"every_steps": 3}, "checkpoint": {"every_steps": 3, "keep": 2}}
    with pytest.raises(
        SatjaxError,
        match=r"^scores of validation instructions are not finite after step 6 of stage 'ability'; the last checkpoint, of step 3, is intact: lower",
    ):
        train(tiny_config(home, **settings), tmp_path)


def test_a_router_whose_scores_are_not_finite_is_one_line(home, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "satjax.training.finish.make_scorer",
        lambda *_: SimpleNamespace(score=lambda texts, soft: np.full((len(texts), len(soft)), np.inf)),
    )
    with pytest.raises(SatjaxError, match=r"^the trained router's scores are not finite: lower the last stage's"):
        train(tiny_config(home, **ABILITY_ALONE), tmp_path)


def test_the_time_of_a_look_is_not_that_of_a_step(home, tmp_path, monkeypatch):
    whole = StageLoop._looked

    def slow(*given):
        time.sleep(2)
        return whole(*given)

    monkeypatch.setattr(StageLoop, "_looked", slow)
    monkeypatch.setattr(Validation, "scores", lambda *_: np.zeros((16, 6)))
    train(tiny_config(home, **ABILITY_ALONE, validation={"every_steps": 5}), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert all(line["seconds"] < 2 for line in lines[5:])


def test_one_program_serves_all_looks_of_a_stage_that_reads_features(home, tmp_path):
    with compilations() as compiled:
        train(tiny_config(home, **ABILITY_ALONE, validation={"every_steps": 2}), tmp_path)
    assert compiled.count("score") == 1


@pytest.mark.parametrize(
    "changes", [{"calibration_instructions": 0}, {"calibration_instructions": 16, "validation": {"every_steps": 0}}]
)
def test_nothing_is_looked_at_where_nothing_is_held_out_or_asked_for(changes, home, tmp_path):
    train(tiny_config(home, **{**ABILITY_ALONE, "validation": {"every_steps": 3}, **changes}), tmp_path)
    assert not curve(tmp_path)


def test_scores_without_an_order_are_worth_the_mean_outcome():
    outcome_VM = np.array([[1.0, 0.0], [1.0, np.nan], [0.5, 0.5]])
    mean = np.nanmean(outcome_VM)
    entropy = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean))
    for score_VM in (np.full((3, 2), 9.0), 10 - np.nan_to_num(outcome_VM)):
        assert figures(score_VM, outcome_VM)[LOG_LOSS] == pytest.approx(entropy, rel=1e-6)
    assert figures(np.zeros((3, 2)), np.full((3, 2), np.nan)) == {}
    assert AUROC not in figures(np.arange(6.0).reshape(3, 2), np.ones((3, 2)))


def test_two_numbers_are_fitted_to_as_many_pairs_as_say_enough(monkeypatch):
    rng = np.random.default_rng(0)
    score_VM = rng.normal(size=(500, 40)) + 3
    outcome_VM = (rng.random((500, 40)) < 1 / (1 + np.exp(3 - score_VM))).astype(np.float32)
    whole = figures(score_VM, outcome_VM)
    monkeypatch.setattr(module, "PAIRS", 2_000)
    few = figures(score_VM, outcome_VM)
    assert few[AUROC] == whole[AUROC]
    assert 0 < few[LOG_LOSS] - whole[LOG_LOSS] < 0.003


@given(
    st.lists(st.sampled_from((64, 96, 128)), min_size=1, max_size=40),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 7),
    st.integers(1, 5),
)
def test_every_instruction_meets_every_candidate_in_a_width_that_holds_it(width, groups, size, at_once, num_candidates):
    candidate_M = np.arange(num_candidates) * 2
    at_once = min(at_once, num_candidates)
    data = SimpleNamespace(
        width=np.array(width), outcome=np.arange(len(width) * num_candidates).reshape(len(width), -1)
    )
    validation = object.__new__(Validation)
    validation.config = BatchConfig(groups=groups, instructions=size, candidates=at_once)
    validation.data, validation.candidate_M = data, candidate_M
    met, batches = np.zeros(data.outcome.shape, bool), dict[int, int]()
    for batch, column_C in validation._batches():
        assert batch.index.shape == (groups, size)
        assert (data.width[batch.index] <= batch.width).all()
        batches[batch.width] = batches.get(batch.width, 0) + 1
        assert batch.width in width
        assert batch.candidate.shape == (groups, at_once or num_candidates)
        assert (batch.candidate == candidate_M[column_C]).all()
        np.testing.assert_array_equal(batch.outcome, data.outcome[batch.index[:, :, None], column_C])
        met[batch.index.reshape(-1, 1), column_C] = True
    assert met.all()
    assert all(count >= BATCHES_OF_A_WIDTH for width, count in batches.items() if width < max(data.width))
