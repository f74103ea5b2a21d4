"""Training in process: what each stage moves, resuming, meshes, and the paper's recipe end to end."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from satjax.aptitude import AptitudeTest, profile_from_outcomes
from satjax.calibration import Calibration
from satjax.config import BatchConfig, MeshConfig, TrainConfig
from satjax.errors import SatjaxError, TryAgain
from satjax.export.directory import RouterFiles, _seal, read_router, rewrite_router
from satjax.features.reader import FeatureReader
from satjax.features.row_batches import Batching
from satjax.files import exclusive
from satjax.models.narrow import PACKED
from satjax.models.router_model import abstract_model, bind, no_profiles
from satjax.outcomes import merge_tables
from satjax.outcomes.parquet import write_table
from satjax.processes.interruption import Interrupted
from satjax.router import Router
from satjax.sharding import make_mesh
from satjax.train import alone, train
from satjax.training.data import place_params, store_of, training_set
from satjax.training.device_memory import smaller_step
from satjax.training.finish import demands, lasting, write_trained_router
from satjax.training.job import Job, prepare
from satjax.training.stage_loop import StageLoop
from tests.damage import damage_checkpoint
from tests.runs import ONE, difference, job_on, losses, run
from tests.tiny import ABILITY_ALONE, ABILITY_OF_TASKS, ABILITY_TUNED, papers_config, tiny_config, tiny_table


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="module")
def one_device(home, tmp_path_factory):
    """Loss curve and final parameters of one device."""
    workdir = tmp_path_factory.mktemp("one")
    params = run(job_on(tiny_config(home), workdir, ONE), workdir)
    return losses(workdir), params


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2), (1, 4, 2)], ids=str)
def test_eight_devices_give_the_curve_of_one(shape, home, one_device, tmp_path):
    params = run(job_on(tiny_config(home), tmp_path, MeshConfig(*shape)), tmp_path)
    np.testing.assert_allclose(losses(tmp_path), one_device[0], rtol=1e-4)
    assert len(losses(tmp_path)) == 10
    assert difference(params, one_device[1]) < 1e-3


@pytest.mark.parametrize(
    ("before", "after"), [(MeshConfig(2, 2, 2), ONE), (ONE, MeshConfig(1, 4, 2))], ids=["8-to-1", "1-to-8"]
)
def test_a_checkpoint_restores_on_another_mesh(before, after, home, one_device, tmp_path):
    with pytest.raises(Interrupted, match="after step 1; everything is saved"):
        run(job_on(tiny_config(home), tmp_path, before), tmp_path, stop=lambda: True)
    params = run(job_on(tiny_config(home), tmp_path, after), tmp_path)
    np.testing.assert_allclose(losses(tmp_path), one_device[0], rtol=1e-4)
    assert difference(params, one_device[1]) < 1e-3


def test_each_stage_trains_what_it_says(home, one_device, tmp_path):
    config = tiny_config(home)
    adapters = "llm/.*/lora_[ab]"
    connector = dataclasses.replace(
        config.stages[0], trainable=(*config.stages[0].trainable, adapters), scales=((adapters, 0.0),)
    )
    job = job_on(dataclasses.replace(config, stages=(connector,)), tmp_path, ONE)
    start = {path: np.asarray(value) for path, value in place_params(job).items()}
    after_first, after_both = run(job, tmp_path), one_device[1]

    def moved(a, b):
        return {path for path in a if not np.array_equal(a[path], b[path])}

    assert {path.split("/")[0] for path in moved(start, after_first)} == {"connector"}
    second = moved(after_first, after_both)
    assert all(path.startswith("connector/") or "/lora_" in path for path in second)
    assert any("/lora_a" in path for path in second)
    assert not moved({p: v for p, v in start.items() if p.startswith("llm/lower")}, after_both)


@pytest.mark.parametrize("more", [{}, {**ABILITY_ALONE, "batch": {"hidden_features": 0.5}}])
def test_accumulation_changes_nothing_but_memory(home, tmp_path, more):
    results = []
    for passes in (1, 2):
        workdir = tmp_path / str(passes)
        batch = {"groups": 2, "instructions": 8, "accumulate": passes, **more.get("batch", {})}
        config = tiny_config(home, **more | {"batch": batch})
        results.append((run(job_on(config, workdir, ONE), workdir), losses(workdir)))
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-4)
    assert difference(results[0][0], results[1][0]) < 1e-3


def test_small_steps_count_where_base_weights_are_bfloat16(home, tmp_path):
    config = tiny_config(home, router__param_dtype="bfloat16")
    trainable = (*config.stages[1].trainable, "llm/upper/mlp/up/kernel")
    stage = dataclasses.replace(config.stages[0], name="mlp", steps=2, learning_rate=1e-5, trainable=trainable)
    job = job_on(dataclasses.replace(config, stages=(stage,)), tmp_path, ONE)
    before = {path: np.asarray(value) for path, value in place_params(job).items()}
    assert {p for p in before if before[p].dtype == np.float32 and p.startswith("llm/") and "lora" not in p} == {
        "llm/upper/mlp/up/kernel"
    }
    with pytest.raises(Interrupted):
        run(job, tmp_path, stop=lambda: True)
    after = run(job, tmp_path)["llm/upper/mlp/up/kernel"]
    assert 1e-6 < np.abs(after - before["llm/upper/mlp/up/kernel"]).max() < 1e-4


def test_a_damaged_checkpoint_is_made_again_from_the_one_before(home, tmp_path, caplog):
    job = job_on(tiny_config(home), tmp_path, ONE)
    whole, checkpoints = run(job, tmp_path), tmp_path / "checkpoints"
    before, last = sorted(int(path.name) for path in checkpoints.iterdir())
    damage_checkpoint(checkpoints / str(last), "index")
    again = run(job, tmp_path)
    assert re.search(
        rf"checkpoint {checkpoints}/{last} is damaged.* goes on from {checkpoints}/{before}$", caplog.text, re.M
    )
    assert difference(whole, again) == 0
    assert len(list((tmp_path / "tensorboard").iterdir())) > 3, "what is logged is stored at every checkpoint"
    assert difference(whole, run(job, tmp_path)) == 0, "it is whole now"
    for step in (before, last):
        damage_checkpoint(checkpoints / str(step), "run")
    with pytest.raises(
        SatjaxError, match=rf"/{last} is damaged.*/{before} is damaged.*; remove {checkpoints} to start"
    ):
        run(job, tmp_path)
    assert sorted(int(path.name) for path in checkpoints.iterdir()) == [before, last], "there may be another reason"


def test_a_step_that_does_not_fit_in_memory_is_one_line(home, tmp_path, monkeypatch):
    def full(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 43890420928 bytes.\nmore")

    monkeypatch.setattr("satjax.train.StageLoop.run", full)
    with pytest.raises(
        SatjaxError, match=r"stage 'connector' does not fit in memory .*43890420928 bytes.*instructions"
    ):
        train(tiny_config(home), tmp_path)
    monkeypatch.setattr("satjax.train.training_set", full)
    with pytest.raises(SatjaxError, match=r"^reading the instructions does not fit in memory .*take a smaller LLM"):
        train(tiny_config(home), tmp_path)
    monkeypatch.setattr("satjax.train.place_params", full)
    with pytest.raises(SatjaxError, match=r"^what the LLM is made of does not fit in memory .*mesh.fsdp"):
        train(tiny_config(home), tmp_path)


@pytest.mark.parametrize(("groups", "accumulate", "more"), [(1, 1, False), (4, 4, False), (4, 1, True), (4, 2, True)])
def test_more_passes_are_only_advised_where_there_are_groups_for_them(groups, accumulate, more):
    advice = smaller_step(BatchConfig(groups=groups, accumulate=accumulate))
    assert ("accumulate, which has to divide batch.groups" in advice) == more
    assert "lower batch.instructions" in advice


def test_a_device_or_a_share_that_fails_is_tried_again_once_a_step_was_done(home, tmp_path, monkeypatch):
    """What fails in the first step does so in every one, as a bug does; exit code 75 is for what goes on."""
    config, steps = tiny_config(home), []

    def halted(loop, params, opt_state, done, checkpoints, log, stop):
        for step in steps:
            log.write(step, "connector", {"loss": 1.0})
        raise jax.errors.JaxRuntimeError("INTERNAL: Core halted unexpectedly")

    monkeypatch.setattr(StageLoop, "run", halted)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Core halted"):
        train(config, tmp_path)
    steps.append(1)
    with pytest.raises(TryAgain, match="Core halted"):
        train(config, tmp_path)

    def gone(*given):
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    with monkeypatch.context() as patch:
        patch.setattr("satjax.train.place_params", gone)
        with pytest.raises(OSError, match="Transport endpoint"):
            train(config, tmp_path)
        patch.setattr("satjax.train.is_saved", lambda directory: True)
        with pytest.raises(TryAgain, match="Transport endpoint"):
            train(config, tmp_path)
    monkeypatch.setattr("satjax.train.run_stages", lambda *given: {})
    monkeypatch.setattr("satjax.train.write_trained_router", gone)
    with pytest.raises(TryAgain, match="Transport endpoint"):
        train(config, tmp_path)


def test_a_signal_before_there_is_anything_to_save_ends_the_run_at_once(home, tmp_path, monkeypatch):
    for number, ends_with in ((signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TryAgain)):

        def interrupted(*_, number=number):
            os.kill(os.getpid(), number)
            time.sleep(10)

        monkeypatch.setattr("satjax.train.prepare", interrupted)
        before = signal.getsignal(number)
        with pytest.raises(ends_with):
            train(tiny_config(home), tmp_path / "run")
        assert signal.getsignal(number) is before
        assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_divide_the_mesh_is_refused(home, tmp_path):
    with pytest.raises(SatjaxError, match=r"6 instructions.*8"):
        run(job_on(tiny_config(home, batch={"instructions": 6}), tmp_path), tmp_path)


def test_a_router_names_the_very_weights_that_it_was_trained_on(home, tmp_path):
    job = job_on(tiny_config(home), tmp_path)
    here = job.assembly.bases
    assert lasting(job) == job.config.router, "a directory is its own name"
    llm = dataclasses.replace(here["llm"], source="hub:org/name@0123")
    job = dataclasses.replace(job, assembly=dataclasses.replace(job.assembly, bases={**here, "llm": llm}))
    assert lasting(job).llm.weights == "hub:org/name@0123"
    assert lasting(job).encoder.weights == here["encoder"].source


def test_the_papers_recipe_end_to_end(home, tmp_path, monkeypatch):
    """Text profiles through a trained psi, capability first, one positive in a group, head "yes", full fine-tuning."""
    monkeypatch.setattr(
        "satjax.training.finish.store_of", None
    )  # nobody reads features: nothing of the LLM is gathered for their name
    config = papers_config(home, router__prompt__buckets=(320,))
    stages = tuple(dataclasses.replace(stage, steps=1) for stage in config.stages)
    router = Router.load(train(dataclasses.replace(config, stages=stages), tmp_path))
    learned = read_router(tmp_path / "router").learned
    assert {path.split("/")[0] for path in learned} == {"connector", "encoder", "llm"}
    assert any(path.startswith("encoder/layers") for path in learned)
    scores = router.score(["What is 2 + 2?", "Sort the list 3, 1, 2."])
    assert scores.shape == (2, 6)
    assert np.isfinite(scores).all()


def test_a_run_with_hidden_items_ends_the_same_when_it_was_interrupted(home, one_device, tmp_path):
    config = tiny_config(home, batch={"instructions": 8, "hidden_items": 0.9})
    whole = run(job_on(config, tmp_path / "whole", ONE), tmp_path / "whole")
    assert losses(tmp_path / "whole") != one_device[0]
    with pytest.raises(Interrupted):
        run(job_on(config, tmp_path / "broken", ONE), tmp_path / "broken", stop=lambda: True)
    again = run(job_on(config, tmp_path / "broken", ONE), tmp_path / "broken")
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
    assert difference(whole, again) == 0


@pytest.mark.parametrize("changes", [ABILITY_ALONE, ABILITY_TUNED], ids=["features", "token rows"])
def test_hidden_features_follow_the_step_alone(home, tmp_path, changes):
    plain, config = (tiny_config(home, **changes, batch__hidden_features=share) for share in (0.0, 0.5))
    run(job_on(plain, tmp_path / "plain", ONE), tmp_path / "plain")
    whole = run(job_on(config, tmp_path / "whole", ONE), tmp_path / "whole")
    seen, unhidden = losses(tmp_path / "whole"), losses(tmp_path / "plain")
    assert all(a != b for a, b in zip(seen[1:], unhidden[1:], strict=True))
    with pytest.raises(Interrupted):
        run(job_on(config, tmp_path / "broken", ONE), tmp_path / "broken", stop=lambda: True)
    again = run(job_on(config, tmp_path / "broken", MeshConfig(2, 1, 1)), tmp_path / "broken")
    np.testing.assert_allclose(losses(tmp_path / "broken"), seen, rtol=1e-4)
    assert difference(whole, again) < 1e-3


HEAD = {"rank": 2, "hidden": 8, "mean_layers": (2,)}


def test_the_ability_head_trains_beside_the_answer_and_survives_the_export(home, tmp_path):
    config = tiny_config(home, router__ability_head=HEAD)
    stages = tuple(
        dataclasses.replace(s, steps=2, trainable=(*s.trainable, "ability/(read|demand|ability)/.*"))
        for s in config.stages
    )
    resumes_and_exports(dataclasses.replace(config, stages=stages), tmp_path)


@pytest.mark.parametrize("changes", [ABILITY_ALONE, ABILITY_OF_TASKS], ids=["items", "tasks"])
def test_the_ability_head_trains_alone_and_survives_the_export(home, tmp_path, changes):
    job, params = resumes_and_exports(tiny_config(home, **changes), tmp_path)
    assert not any(path.startswith("llm/lower") for path in params)
    assert params["llm/upper/mlp/up/kernel"].shape[0] == 2
    features = training_set(job, params, 0).text
    assert features.shape == (len(job.train.items), 96)
    np.testing.assert_allclose(params["ability/mean"].reshape(-1), features.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(params["ability/spread"].reshape(-1), features.std(axis=0), atol=1e-5)


def test_an_llm_that_is_only_read_multiplies_bfloat16_where_the_cpu_does(home, tmp_path, monkeypatch):
    config = tiny_config(home, **ABILITY_ALONE)
    exact = training_set(job := job_on(config, tmp_path / "exact", ONE), place_params(job), 0).text
    monkeypatch.setattr("satjax.assembly.cpu_multiplies_bfloat16", lambda: True)
    assert not prepare(config, tmp_path / "mesh").assembly.narrow, "packed kernels lie on one device"
    monkeypatch.setattr("satjax.training.job.make_mesh", lambda _: make_mesh(ONE, jax.devices()[:1]))
    assert not prepare(tiny_config(home), tmp_path / "trained").assembly.narrow, "what is trained is not rounded"
    wide = dataclasses.replace(config, router=dataclasses.replace(config.router, compute_dtype="float32"))
    assert not prepare(wide, tmp_path / "wide").assembly.narrow

    job, params = resumes_and_exports(config, tmp_path)
    assert params["llm/upper/mlp/up/kernel"].dtype == PACKED
    features = training_set(job, params, 0).text
    np.testing.assert_allclose(params["ability/mean"].reshape(-1), features.mean(axis=0), atol=1e-5)
    assert 1e-5 < np.linalg.norm(features - exact) / np.linalg.norm(exact) < 2e-2
    texts = [item.text for item in job.train.items[:3]]
    kept, plain = Router.load(tmp_path / "router", keep_features=True), Router.load(tmp_path / "router", exact=True)
    assert kept._scorer.params["llm/upper/mlp/up/kernel"].dtype == PACKED
    assert plain._scorer.params["llm/upper/mlp/up/kernel"].dtype == np.float32
    assert 0 < np.abs(kept.score(texts) - plain.score(texts)).max() < 0.1


def fully_tuned(changes: dict) -> dict:
    """The second stage trains all of the LLM, without adapters."""
    first, second = changes["stages"]
    trainable = (*second["trainable"][:-1], "llm/.*")
    return {**changes, "router__llm__lora_rank": 0, "stages": (first, {**second, "trainable": trainable})}


@pytest.mark.parametrize("changes", [ABILITY_TUNED, fully_tuned(ABILITY_TUNED)], ids=["adapters", "all of it"])
def test_the_llm_that_the_ability_head_reads_trains_and_survives_the_export(home, tmp_path, changes):
    config = tiny_config(home, **changes)
    job, params = resumes_and_exports(config, tmp_path)
    assert training_set(job, params, 0).has_features
    assert not training_set(job, params, 1).has_features
    untuned = place_params(job)
    moved = {path for path, value in params.items() if not np.array_equal(value, untuned[path])}
    assert {path for path in moved if path.startswith("llm/")}
    texts = [item.text for item in job.table.items[:5]]
    expected = scores_of(job, params, texts)
    found = Router.load(tmp_path / "router").score(texts, job.train.candidate_ids)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    untuned |= {path: value for path, value in params.items() if path.startswith(("ability/", "connector/"))}
    assert np.abs(scores_of(job, untuned, texts) - expected).max() > 1e-2


def test_an_llm_that_learns_under_the_ability_head_goes_on_within_its_stage_on_a_mesh(home, tmp_path):
    config = tiny_config(home, **ABILITY_TUNED)
    one, several = job_on(config, tmp_path / "one", ONE), job_on(config, tmp_path / "several", MeshConfig(1, 2, 2))
    whole = run(one, tmp_path / "one")
    with pytest.raises(Interrupted):
        run(several, tmp_path / "several", stop=lambda: len(losses(tmp_path / "several")) > 5)
    assert 5 < len(losses(tmp_path / "several")) < 10
    resumed = run(several, tmp_path / "several")
    np.testing.assert_allclose(losses(tmp_path / "several"), losses(tmp_path / "one"), rtol=1e-4)
    assert difference(resumed, whole) < 1e-3


def test_training_has_widths_of_its_own_and_ranking_those_of_the_prompt(home, tmp_path):
    config = tiny_config(home, **ABILITY_TUNED, batch={"instructions": 8, "widths": (320,)})
    job = prepare(config, tmp_path)
    params = place_params(job)
    assert set(training_set(job, params, 1).width) == {320}
    write_trained_router(job, params, tmp_path / "router")
    assert read_router(tmp_path / "router").config.prompt.buckets == (256, 320)


def scores_of(job: Job, params: dict, texts: list[str]) -> np.ndarray:
    rows = job.assembly.writer.encode(texts)
    graphdef, _ = abstract_model(job.assembly.model)
    model = bind(graphdef, {path: jnp.asarray(value) for path, value in params.items()})
    soft_BMKD = jnp.repeat(model.soft_tokens(jnp.zeros((0, 0)), no_profiles())[None], len(texts), axis=0)
    return np.asarray(model.score(jnp.asarray(rows.token), jnp.asarray(rows.length), soft_BMKD))


def test_features_are_kept_for_the_llm_that_made_them(home, tmp_path):
    config = tiny_config(home, **ABILITY_TUNED)
    job, params = resumes_and_exports(config, tmp_path)
    untuned = place_params(job)
    frozen = prepare(tiny_config(home, **ABILITY_ALONE), tmp_path / "frozen")
    assert store_of(job, untuned).directory == store_of(frozen, place_params(frozen)).directory
    assert store_of(job, params).directory != store_of(job, untuned).directory
    kept = Router.load(tmp_path / "router", keep_features=True)._scorer.features.store
    assert kept.directory == store_of(job, params).directory


def test_a_candidate_that_training_never_saw_is_measured(home, tmp_path, monkeypatch):
    # What a few steps teach is not worth a calibration.
    monkeypatch.setattr("satjax.training.finish.fit_calibration", lambda *_: Calibration(0.5, -0.4, 16))
    config = tiny_config(home, **ABILITY_ALONE)
    held = prepare(config, tmp_path / "names").table.candidate_ids[2]
    job = job_on(
        dataclasses.replace(config, data=dataclasses.replace(config.data, held_out_candidates=(held,))), tmp_path
    )
    params = run(job, tmp_path)
    assert params["connector/ability"].shape == (5, 3)
    write_trained_router(job, params, tmp_path / "router")
    files = read_router(tmp_path / "router")
    assert sorted(files.base_sha256) == ["llm"]
    assert list(files.abilities) == list(job.train.candidate_ids)
    np.testing.assert_array_equal(list(files.abilities.values()), params["connector/ability"])
    router = Router.load(tmp_path / "router")
    assert set(router.candidates) == set(job.table.candidate_ids)
    np.testing.assert_allclose(router._encoder.reader.link, [0.5, -0.4], rtol=1e-6)

    texts = [item.text for item in job.table.split("test").items[:5]]
    before = router.score(texts, [held, *job.train.candidate_ids])
    here, (graphdef, _) = (
        {path: jnp.asarray(value) for path, value in params.items()},
        abstract_model(job.assembly.model),
    )
    features = FeatureReader(job.assembly, Batching()).read(here, texts)
    model = bind(graphdef, here)
    soft = jnp.broadcast_to(model.soft_tokens(jnp.zeros((0, 0)), no_profiles()), (5, 5, 1, 3))
    np.testing.assert_allclose(before[:, 1:], model.score_features(jnp.asarray(features), soft), atol=1e-4)

    profile = profile_from_outcomes(job.table, job.test, held)
    for outcome in (0.0, 1.0):
        items = np.full_like(profile.item_outcome_TK, outcome)
        router.add(dataclasses.replace(profile, accuracy_T=items.mean(axis=1), item_outcome_TK=items))
        after = router.score(texts, [held, *job.train.candidate_ids])
        np.testing.assert_array_equal(after[:, 1:], before[:, 1:])
        assert (after[:, 0] > before[:, 0]).all() if outcome else (after[:, 0] < before[:, 0]).all()
    with pytest.raises(SatjaxError, match=f"profile of '{held}' is a summary"):
        router.add(profile.summary())


def test_a_candidate_without_aptitude_outcomes_teaches_and_is_not_in_the_router(home, tmp_path, capfd):
    """Of two tables merged into one, the second has questions and a candidate of its own."""
    table = tiny_table()
    own = np.array([item.split == "train" for item in table.items]) & (np.arange(len(table.items)) % 3 == 0)
    only, other = table.candidate_ids[:1], table.candidate_ids[1:]
    merged = merge_tables(
        {
            "second": table.select_items(own).select_candidates(only),
            "first": table.select_items(~own).select_candidates(other),
        }
    )
    write_table(merged, tmp_path / "merged")
    config = tiny_config(home, **ABILITY_ALONE)
    data = dataclasses.replace(config.data, outcomes=str(tmp_path / "merged"))
    job = job_on(dataclasses.replace(config, data=data), tmp_path / "run")
    assert job.unprofiled == only
    params = run(job, tmp_path / "run")
    count = int((~np.isnan(job.train.scores_MN[0])).sum())
    assert (
        f"not in the router, for want of outcomes on the aptitude test: {only[0]} ({count})" in capfd.readouterr().err
    )
    assert np.abs(params["connector/ability"][0]).max() > 0
    write_trained_router(job, params, tmp_path / "router")
    router, files = Router.load(tmp_path / "router"), read_router(tmp_path / "router")
    assert tuple(router.candidates) == other
    np.testing.assert_array_equal(list(files.abilities.values()), params["connector/ability"][1:])

    tasks = dataclasses.replace(tiny_config(home), data=data)
    with pytest.raises(
        SatjaxError, match=f"1 of 6 training candidates have no outcome on the aptitude test .{only[0]}."
    ):
        prepare(tasks, tmp_path / "tasks")


def resumes_and_exports(config, directory):
    job = job_on(config, directory / "a", ONE)
    start = {path: np.asarray(value) for path, value in place_params(job).items() if path.startswith("ability/")}
    assert start
    with pytest.raises(Interrupted):
        run(job, directory / "a", stop=lambda: bool(losses(directory / "a")))
    assert len(losses(directory / "a")) < 10
    resumed, whole = run(job, directory / "a"), run(job_on(config, directory / "b", ONE), directory / "b")
    assert difference(resumed, whole) == 0
    for path, value in start.items():
        assert np.abs(whole[path] - value).max() > 0, path
    write_trained_router(job, whole, directory / "router")
    router = Router.load(directory / "router")
    for path in start:
        np.testing.assert_array_equal(router._scorer.params[path], whole[path])
    return job, whole


def test_a_signal_while_instructions_are_read_stops_before_the_first_step(home, tmp_path):
    config = tiny_config(home, **ABILITY_ALONE)
    with pytest.raises(Interrupted, match="after step 0; everything is saved"):
        run(job_on(config, tmp_path, ONE), tmp_path, stop=lambda: True)
    assert not losses(tmp_path)
    run(job_on(config, tmp_path, ONE), tmp_path)
    assert len(losses(tmp_path)) == 10


def test_the_heads_train(home, tmp_path):
    config = tiny_config(home, router__head="linear")
    stages = tuple(
        dataclasses.replace(s, steps=1, trainable=(*s.trainable, "regression/.*"), warmup_steps=0)
        for s in config.stages
    )
    job = job_on(dataclasses.replace(config, stages=stages), tmp_path, ONE)
    before = np.asarray(place_params(job)["regression/kernel"])
    assert np.abs(run(job, tmp_path)["regression/kernel"] - before).max() > 0


def few_steps(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, stages=tuple(dataclasses.replace(stage, steps=2) for stage in config.stages))


def test_a_program_may_have_set_a_mesh_and_float64(home, tmp_path):
    config = few_steps(tiny_config(home, **ABILITY_TUNED))
    expected = Router.load(train(config, tmp_path / "plain"))
    with jax.enable_x64(True), jax.set_mesh(jax.make_mesh((2,), ("model",), devices=jax.devices()[:2])):
        router = train(config, tmp_path / "theirs")
    assert {dtype for _, dtype in read_router(router).learned.values()} == {"float32"}
    texts = ["What is 2 + 2?", "Sort the list 3, 1, 2."]
    np.testing.assert_allclose(Router.load(router).score(texts), expected.score(texts), atol=1e-5)


def test_a_router_that_another_run_left_is_written_anew(home, tmp_path, monkeypatch):
    """Checkpoints are removed, another config is trained, and killed just before its export."""
    first = few_steps(tiny_config(home, **ABILITY_ALONE))
    second = dataclasses.replace(first, seed=7)
    router = train(first, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    with monkeypatch.context() as patch:
        patch.setattr("satjax.train.write_trained_router", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(second, tmp_path)
    assert read_router(router).order_seed == 1
    train(second, tmp_path)
    assert read_router(router).order_seed == 7


def test_a_finished_router_is_kept_while_what_it_was_made_of_is_as_it_was(home, tmp_path, caplog):
    config = few_steps(tiny_config(home, **ABILITY_ALONE))
    table = tiny_table()
    held, val = table.candidate_ids[0], np.array([item.split == "val" for item in table.items])
    data = {"outcomes": str(tmp_path / "outcomes"), "held_out_candidates": (held,)}
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
    write_table(table, tmp_path / "outcomes")
    router = train(config, tmp_path / "run")
    caplog.clear()  # after two steps, scores tell no outcomes apart

    def trained_again(scores_MN: np.ndarray) -> RouterFiles:
        write_table(dataclasses.replace(table, scores_MN=scores_MN), tmp_path / "outcomes")
        before = read_router(router)
        with rewrite_router(router, router) as (fresh, _):
            Calibration(scale=5.0).write(fresh / "calibration.json")
        assert read_router(router).run == before.run
        train(config, tmp_path / "run")
        return read_router(router)

    assert trained_again(table.scores_MN).calibration.scale == 5.0
    other_test = np.where([item.split == "test" for item in table.items], 1 - table.scores_MN, table.scores_MN)
    assert trained_again(other_test).calibration.scale == 5.0, "what is not read counts"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    other_val = np.where(val, 1 - table.scores_MN, table.scores_MN)
    assert trained_again(other_val).calibration.scale != 5.0
    assert "is written anew: it is no router of this run's validation outcomes" in caplog.text
    other_held = other_val.copy()
    other_held[0] = 1 - other_held[0]
    files = trained_again(other_held)
    assert files.calibration.scale != 5.0
    (profile,) = (profile for profile in files.profiles if profile.candidate == held)
    expected = profile_from_outcomes(dataclasses.replace(table, scores_MN=other_held), files.test, held)
    np.testing.assert_array_equal(profile.item_outcome_TK, expected.item_outcome_TK)

    with altered_config(router) as settings:
        del settings["run"]
    train(config, tmp_path / "run")
    assert read_router(router).run == files.run


@contextlib.contextmanager
def altered_config(router: Path) -> Iterator[dict]:
    """The router's config.json to be altered, sealed again at the end."""
    settings = json.loads((router / "config.json").read_text())
    yield settings
    settings["files"]["config.json"] = _seal(settings)
    (router / "config.json").write_text(json.dumps(settings))


def test_a_candidate_that_only_took_the_aptitude_test_is_measured(home, tmp_path):
    """The test teaches the head, but its own outcomes there, which may be few, place a candidate better by their likelihood."""
    config, table = tiny_config(home, **ABILITY_ALONE), tiny_table()
    asked = prepare(config, tmp_path / "names").test.item_ids
    free = np.array([item.split == "train" and item.id not in asked for item in table.items])
    scores = table.scores_MN.copy()
    scores[0, free] = np.nan
    write_table(dataclasses.replace(table, scores_MN=scores), tmp_path / "outcomes")
    data = dataclasses.replace(config.data, outcomes=str(tmp_path / "outcomes"))
    test = AptitudeTest.read(tmp_path / "names" / "aptitude_test.json")
    job = prepare(dataclasses.replace(config, data=data), tmp_path / "run", test)
    only, *others = job.train.candidate_ids
    here = [item.id in asked for item in job.train.items]
    np.testing.assert_array_equal(~np.isnan(job.train.scores_MN[0]), here)
    params = run(job, tmp_path / "run")
    write_trained_router(job, params, tmp_path / "router")
    files, ability = read_router(tmp_path / "router"), params["connector/ability"]
    assert list(files.abilities) == others
    np.testing.assert_array_equal(list(files.abilities.values()), ability[1:])
    router = Router.load(tmp_path / "router", exact=True)
    scale = router._encoder.reader
    np.testing.assert_allclose(scale.mean_R, ability[1:].mean(axis=0), rtol=1e-5)
    (profile,) = (profile for profile in files.profiles if profile.candidate == only)
    np.testing.assert_array_equal(router._zoo.soft[only].reshape(-1), np.asarray(scale.abilities([profile]))[0])

    other = scores.copy()
    other[0, [item.split == "val" for item in table.items]] = 0.5
    job = dataclasses.replace(job, table=dataclasses.replace(table, scores_MN=other))
    write_trained_router(job, params, tmp_path / "again")
    assert read_router(tmp_path / "again").calibration == files.calibration, "it is calibrated on"


def test_a_candidate_with_few_outcomes_is_measured_by_all_of_them(home, tmp_path, capfd):
    """Learned, its ability would have no prior: three right answers would make it one of the best."""
    config, table = tiny_config(home, **ABILITY_ALONE), tiny_table()
    asked = prepare(config, tmp_path / "names").test
    places = {item.id: n for n, item in enumerate(table.items) if item.split == "train"}
    kept = [places[min(asked.item_ids)], *[n for name, n in places.items() if name not in asked.item_ids][:2]]
    scores = table.scores_MN.copy()
    scores[0, list(places.values())] = np.nan
    scores[0, kept] = 1.0
    write_table(dataclasses.replace(table, scores_MN=scores), tmp_path / "outcomes")
    data = dataclasses.replace(config.data, outcomes=str(tmp_path / "outcomes"))
    job = prepare(dataclasses.replace(config, data=data), tmp_path / "run", asked)
    rare, *others = job.train.candidate_ids
    assert (job.measured, job.learners) == ((rare,), tuple(others))
    assert job.validation.candidate_ids == tuple(others)
    params = run(job, tmp_path / "run")
    assert f"few outcomes, so measured like a new candidate: {rare} (3)" in capfd.readouterr().err
    write_trained_router(job, params, tmp_path / "router")
    abilities = dict(read_router(tmp_path / "router").abilities)
    ability = abilities.pop(rare)
    np.testing.assert_array_equal(list(abilities.values()), params["connector/ability"][1:])
    router = Router.load(tmp_path / "router", exact=True)
    scale = router._encoder.reader
    np.testing.assert_allclose(scale.mean_R, params["connector/ability"][1:].mean(axis=0), rtol=1e-5)
    demand_NR = demands(job, params, [table.items[n].text for n in kept])
    by_these = dataclasses.replace(scale, demand_TKR=demand_NR[None])
    np.testing.assert_allclose(ability, by_these.ability(np.ones((1, 3), np.float32)), atol=1e-5)
    np.testing.assert_array_equal(router._zoo.soft[rare].reshape(-1), np.asarray(ability, np.float32))


def test_a_second_run_in_a_workdir_is_kept_out(home, tmp_path, monkeypatch):
    """It would clear away the checkpoint that the first one is saving."""
    config, said = few_steps(tiny_config(home, **ABILITY_ALONE)), []

    def meanwhile(*arguments):
        monkeypatch.undo()
        monkeypatch.setattr("satjax.train.SECONDS_FOR_A_LOCK", 0)
        with pytest.raises(TryAgain) as raised:
            train(config, tmp_path)
        said.append(str(raised.value))

    monkeypatch.setattr("satjax.train.write_trained_router", meanwhile)
    train(config, tmp_path)
    line = f"{tmp_path}: another process trains there; wait for it, or use another --workdir; where its host is gone, "
    assert said == [f"{line}remove {tmp_path / '.lock-0'}"]


def test_the_lock_of_a_workdir_is_of_one_process_by_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr("satjax.train.SECONDS_FOR_A_LOCK", 0)
    with alone(tmp_path):
        with pytest.raises(TryAgain), alone(tmp_path):
            pytest.fail("two of one number")
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        with alone(tmp_path):
            pass
        monkeypatch.undo()
    assert not any(tmp_path.iterdir())
    with alone(tmp_path), alone(tmp_path / "new"):
        pass
    assert not any(tmp_path.iterdir()), "what stayed empty was made"


def test_a_lock_that_its_holder_removes_meanwhile_is_asked_for_again(tmp_path, monkeypatch):
    lock, asked = fcntl.flock, []

    def late(stream, operation):
        if not asked:
            (tmp_path / ".lock-0").unlink()
        asked.append(0)
        lock(stream, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    monkeypatch.setattr("satjax.train.SECONDS_FOR_A_LOCK", 0)
    with alone(tmp_path), pytest.raises(TryAgain), alone(tmp_path):
        pytest.fail("two of one number")
    assert len(asked) == 3


def test_a_lock_that_is_let_go_after_a_while_is_waited_for(tmp_path, monkeypatch, capfd):
    """As a share does it with that of a host which is gone."""
    monkeypatch.setattr("satjax.train.SECONDS_BETWEEN_TRIES", 0.01)
    with contextlib.ExitStack() as others:
        others.enter_context(exclusive(tmp_path / ".lock-0", tmp_path, busy="", advice=""))
        timer = threading.Timer(0.5, others.close)
        timer.start()
        with alone(tmp_path):
            assert not timer.is_alive()
        timer.join()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"satjax: waiting up to 5 min for another process that trains in {tmp_path}, or ")


def test_a_signal_ends_the_wait_for_a_lock(tmp_path):
    with exclusive(tmp_path / ".lock-0", tmp_path, busy="", advice=""):
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(TryAgain, match=r"^interrupted before the first step"), alone(tmp_path):
            pytest.fail("another one has it")


def test_a_signal_while_the_lock_is_taken_is_no_lock_that_is_held(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the signal is answered at once")

    monkeypatch.setattr("satjax.train.exclusive", interrupted)
    with pytest.raises(TryAgain, match=r"^interrupted before the first step"), alone(tmp_path):
        pytest.fail("it was asked to end")


def test_a_lock_ends_with_a_process_that_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("satjax.train.SECONDS_FOR_A_LOCK", 0)
    code = f"from pathlib import Path\nfrom satjax.train import alone\nwith alone(Path({str(tmp_path)!r})):\n    print(flush=True)\n    input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(TryAgain), alone(tmp_path):
            pytest.fail("the process is there")
        process.kill()
    with alone(tmp_path):
        pass


def test_a_workdir_without_locks_keeps_nobody_out_and_one_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    def none(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / "file").touch()
    line = r"file cannot be written \(.+\); use another --workdir"
    with pytest.raises(SatjaxError, match=line), alone(tmp_path / "file"):
        pytest.fail("a file is no directory")
    monkeypatch.setattr(fcntl, "flock", none)
    with alone(tmp_path), alone(tmp_path):
        pass
