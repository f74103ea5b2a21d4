"""What the steps of a stage are given, and what is recorded of them."""

import dataclasses
import json
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from satjax.aptitude import accuracy_and_count
from satjax.aptitude.capability import hide_items, profile_parts
from satjax.errors import SatjaxError
from satjax.models.router_model import ProfileInputs
from satjax.processes.interruption import Interrupted
from satjax.training.data import place_params, training_set
from satjax.training.job import Job
from satjax.training.optimizer import schedule
from satjax.training.run_log import Silent, read_metrics
from satjax.training.stage_loop import StageLoop
from tests.runs import ONE, job_on, losses, run
from tests.tiny import papers_config, tiny_config


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def test_a_loss_that_is_not_finite_stops_the_run(home, tmp_path):
    config = tiny_config(home)
    wild = dataclasses.replace(config.stages[1], learning_rate=1e30, warmup_steps=0)
    config = dataclasses.replace(config, stages=(config.stages[0], wild))
    with pytest.raises(SatjaxError, match=r"not finite at step \d+ of stage 'all'.*step \d+, is intact.*learning_rate"):
        run(job_on(config, tmp_path, ONE), tmp_path)
    assert np.isfinite(losses(tmp_path)).all()


def loop_of(job: Job, params: dict, number: int) -> StageLoop:
    return StageLoop(job, number, training_set(job, params, number))


def read_by_the_steps(loop: StageLoop, params: dict, done: int = 0) -> list[tuple[ProfileInputs, jax.Array]]:
    """Profiles and their embedding as each step of a stage is given them, from `done` on; nothing is trained."""
    read = []

    def step(trainable, frozen, opt_state, batch, inputs, embedding):
        read.append((inputs, embedding))
        return trainable, opt_state, {"loss": 0.0}

    checkpoints = SimpleNamespace(save=lambda *_: None, wait=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("satjax.training.stage_loop.make_train_step", lambda *_: step)
        loop.run(dict(params), None, done, checkpoints, Silent(done), lambda: False)
    return read


@pytest.fixture(scope="module")
def paper(home, tmp_path_factory):
    """The paper's recipe, and its parameters before the first step."""
    job = job_on(papers_config(home, seed=7), tmp_path_factory.mktemp("paper"))
    return job, place_params(job)


def test_a_stage_reads_its_own_instructions_by_its_own_key(paper):
    job, params = paper
    first, second = (loop_of(job, params, number) for number in (0, 1))
    assert (first.plan.key, second.plan.key) == ((7, 0), (7, 1))
    asked, train = {task.name for task in job.test.tasks}, job.train.items
    assert first.plan.eligible.tolist() == [i for i, item in enumerate(train) if item.task in asked]
    assert len(second.plan.eligible) == len(train) > len(first.plan.eligible)


def test_orders_of_the_tasks_take_turns_with_their_embeddings(paper, monkeypatch):
    job, params = paper
    loop = loop_of(job, params, 0)
    one, other = loop.inputs
    assert not np.array_equal(one.token, other.token)
    monkeypatch.setattr(loop, "_embedded", lambda params, inputs: inputs)
    for done in (0, 1):
        read = read_by_the_steps(loop, params, done)
        assert [inputs is one for inputs, _ in read] == [True, False][done:]
        assert all(embedding is inputs for inputs, embedding in read)


def test_texts_of_many_profiles_are_read_a_few_at_a_time(paper, monkeypatch):
    job, params = paper
    loop = loop_of(job, params, 0)
    at_once = np.asarray(loop._embedded(params, loop.inputs[0]))
    monkeypatch.setattr("satjax.aptitude.capability.PROFILES", 4)
    assert len(profile_parts(loop.inputs[0])) > 1
    np.testing.assert_allclose(loop._embedded(params, loop.inputs[0]), at_once, atol=1e-5)


def test_hidden_items_follow_the_step_alone(home, tmp_path):
    """What a step reads are the profiles without them, surer of nothing than what is left; a stage that goes on reads the same."""
    job = job_on(tiny_config(home, batch={"instructions": 8, "hidden_items": 0.9}), tmp_path)
    params = place_params(job)
    whole, again = (
        [inputs for inputs, _ in read_by_the_steps(loop_of(job, params, 1), params, done)] for done in (4, 7)
    )
    assert (len(whole), len(again)) == (6, 3)
    norms, outcome_MTK = job.norms, np.stack([job.profiles[name].outcomes_TK for name in job.train.candidate_ids])
    for step, inputs in enumerate(whole):
        rng = np.random.default_rng((job.config.seed, 1, 2, step))
        accuracy_MT, count_MT = accuracy_and_count(hide_items(outcome_MTK, 0.9, rng))
        known_MT = np.where(count_MT, (accuracy_MT - np.array(norms.mean)) / np.array(norms.spread), 0)
        np.testing.assert_allclose(inputs.accuracy_MT, known_MT, atol=1e-5)
        np.testing.assert_allclose(inputs.certainty_MT, count_MT / job.test.shots)
        assert 0 < count_MT.mean() < job.test.shots
    for one, other in zip(whole[3:], again, strict=True):
        np.testing.assert_array_equal(one.accuracy_MT, other.accuracy_MT)
        np.testing.assert_array_equal(one.certainty_MT, other.certainty_MT)


def test_metrics_name_every_objective(home, tmp_path):
    with pytest.raises(Interrupted):
        run(job_on(tiny_config(home), tmp_path, ONE), tmp_path, stop=lambda: True)
    (line,) = (json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert line.keys() == {
        "step",
        "stage",
        "loss",
        "gradient_norm",
        "over_candidates",
        "over_instructions",
        "pointwise",
        "learning_rate",
        "seconds",
        "instructions_per_second",
    }
    assert line["loss"] == pytest.approx(line["over_candidates"] + line["pointwise"], rel=1e-5)


def test_a_step_is_logged_with_its_rate_and_the_time_that_it_took(home, tmp_path):
    config = tiny_config(home)
    began = time.monotonic()
    run(job_on(config, tmp_path, ONE), tmp_path)
    lines, took = read_metrics(tmp_path / "metrics.jsonl"), time.monotonic() - began
    rates = [float(schedule(s, config.optimizer)(i)) for s in config.stages for i in range(s.steps)]
    assert [line["learning_rate"] for line in lines] == pytest.approx(rates, rel=1e-5)
    assert len(set(rates)) > 4
    assert 0 < sum(line["seconds"] for line in lines) < took
    for line in lines:
        per_step = config.batch.groups * config.batch.instructions
        assert line["seconds"] * line["instructions_per_second"] == pytest.approx(per_step, rel=1e-2)
