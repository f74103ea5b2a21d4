"""What is measured while a run trains is what its router is worth on the same instructions."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.checkpoint import load_arrays
from satjax.config import BatchConfig
from satjax.evaluation.evaluate import evaluate
from satjax.outcomes import open_outcomes
from satjax.router import Router
from satjax.train import train
from satjax.training.batches import TrainingSet
from satjax.training.run_log import AUROC, LOG_LOSS, read_metrics
from satjax.training.validation import Validation
from tests.tiny import ABILITY_ALONE, ABILITY_TUNED, tiny_config

TEXT_PROFILES: dict[str, Any] = {
    "router__profile_encoder": {"kind": "text", "orders": 2},
    "router__prompt": {"layout": "capability_first", "buckets": (256, 320)},
    "router__llm__join_layer": 0,
    "batch__candidates": 4,
    "stages": (
        {"name": "all", "steps": 4, "learning_rate": 1e-3, "trainable": ("connector/.*", "encoder/.*", "llm/.*")},
    ),
}
"""Psi learns too, six candidates are read four at a time, and the task orders of the profiles take turns."""


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
    config = tiny_config(home, **copy.deepcopy(changes), validation={"every_steps": 4}, calibration_instructions=2000)
    router = Router.load(train(config, tmp_path))
    found = curve(tmp_path)
    assert list(found) == steps
    figures = evaluate(router, open_outcomes(config.data.outcomes), split="val")["correctness"]
    assert found[steps[-1]][LOG_LOSS] == pytest.approx(figures["log_loss"], rel=1e-4)
    assert found[steps[-1]][AUROC] == pytest.approx(figures["auroc_pooled"], rel=1e-3)


def test_looking_changes_nothing_and_may_be_changed_on_the_way(home, tmp_path, capsys):
    def learned(workdir: Path) -> list[bytes]:
        config = json.loads((workdir / "router" / "config.json").read_text())
        wanted = {path: (tuple(shape), dtype) for path, (shape, dtype) in config["learned"].items()}
        return [np.asarray(value).tobytes() for value in load_arrays(workdir / "router" / "params", wanted).values()]

    def losses(workdir: Path) -> list[float]:
        return [line["loss"] for line in read_metrics(workdir / "metrics.jsonl")]

    train(tiny_config(home, **ABILITY_ALONE), tmp_path / "blind")
    assert not curve(tmp_path / "blind")
    train(tiny_config(home, **ABILITY_ALONE, validation={"every_steps": 3}), tmp_path / "seeing")
    assert losses(tmp_path / "seeing") == losses(tmp_path / "blind")
    assert learned(tmp_path / "seeing") == learned(tmp_path / "blind") != []
    assert list(curve(tmp_path / "seeing")) == [3, 6, 9, 10]
    last = f"ability: step 10 of 10, loss {losses(tmp_path / 'seeing')[-1]:.4f}, {curve(tmp_path / 'seeing')[10][LOG_LOSS]:.4f} in validation"
    assert last in capsys.readouterr().err.splitlines()
    # The run goes on, and is over.
    train(tiny_config(home, **ABILITY_ALONE, validation={"every_steps": 5}), tmp_path / "seeing")


@pytest.mark.parametrize(
    "changes", [{"calibration_instructions": 0}, {"calibration_instructions": 16, "validation": {"every_steps": 0}}]
)
def test_nothing_is_looked_at_where_nothing_is_held_out_or_asked_for(changes, home, tmp_path):
    train(tiny_config(home, **{**ABILITY_ALONE, "validation": {"every_steps": 3}, **changes}), tmp_path)
    assert not curve(tmp_path)


def test_scores_that_overflowed_are_left_to_the_next_loss():
    data = TrainingSet(np.zeros((4, 2), np.float32), np.ones(4, int), np.eye(4, 2, dtype=np.float32), np.ones(4, bool))
    validation = object.__new__(Validation)
    validation.config, validation.mesh, validation.data = BatchConfig(instructions=4), None, data
    validation.candidate_M = np.arange(2)
    validation.score = lambda *_: np.full((1, 1, 4, 2), np.nan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("satjax.training.validation.place_batch", lambda *_: {})
        assert validation.figures({}, None, None) == {}
        validation.score = lambda *_: np.arange(8.0).reshape(1, 1, 4, 2)
        assert set(validation.figures({}, None, None)) == {LOG_LOSS, AUROC}


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
    met = np.zeros(data.outcome.shape, bool)
    for batch, column_C in validation._batches():
        assert batch.index.shape == (groups, size)
        assert (data.width[batch.index] <= batch.width).all()
        assert batch.width in width
        assert batch.candidate.shape == (groups, at_once or num_candidates)
        assert (batch.candidate == candidate_M[column_C]).all()
        np.testing.assert_array_equal(batch.outcome, data.outcome[batch.index[:, :, None], column_C])
        met[batch.index.reshape(-1, 1), column_C] = True
    assert met.all()
