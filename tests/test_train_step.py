import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from satjax.config import BatchConfig, MeshConfig
from satjax.errors import SatjaxError
from satjax.instructions import TokenRows
from satjax.models.router_model import RouterModel, abstract_model, bind
from satjax.sharding import make_mesh, replicated
from satjax.training.batches import Batch, BatchPlan, TrainingSet
from satjax.training.data import place_params, training_set
from satjax.training.job import prepare
from satjax.training.losses import total_loss
from satjax.training.optimizer import make_optimizer, partition, trainable_paths
from satjax.training.stage_loop import StageLoop, initial_optimizer_state
from satjax.training.train_step import kept_features, make_train_step, place_batch, profiles_of
from tests.tiny import tiny_config
from tests.xla import compilations


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    config = tiny_config(tmp_path_factory.mktemp("tiny"))
    job = prepare(config, tmp_path_factory.mktemp("work"))
    graphdef, _ = abstract_model(job.assembly.model)
    params, stage = place_params(job), config.stages[1]
    loop = StageLoop(job, 1, training_set(job, params, 1))
    trainable, frozen = partition(params, trainable_paths(params, stage))
    optimizer = make_optimizer(stage, config.optimizer)
    state = initial_optimizer_state(job, stage, trainable)
    step = make_train_step(graphdef, optimizer, config.loss, job.mesh, trainable, state, False)
    embedding = bind(graphdef, params).embed_profiles(loop.inputs[0])
    return job, loop, trainable, frozen, state, step, embedding


def test_one_program_per_bucket(parts):
    job, loop, trainable, frozen, state, step, embedding = parts
    step.clear_cache()
    widths = set()
    with compilations() as compiled:
        for number in range(6):
            batch = loop.plan.batch(number)
            widths.add(batch.text["token"].shape[-1])
            placed = place_batch(batch, job.config.batch, job.mesh)
            trainable, state, metrics = step(trainable, frozen, state, placed, loop.inputs[0], embedding)
            assert np.isfinite(float(metrics["loss"]))
    assert compiled.count("step") == len(widths)


def test_updates_follow_the_gradient_of_the_loss_and_the_frozen_have_none(parts):
    """What a step of plain gradient descent takes off is the gradient of the score matrix's loss, a mean over its passes."""
    job, loop, trainable, frozen, _, _, embedding = parts
    config = dataclasses.replace(job.config.batch, groups=2, accumulate=2)
    plan = BatchPlan(loop.plan.data, config, seed=0, stage=0, in_domain=False)
    batch = place_batch(plan.batch(0), config, job.mesh)
    graphdef, _ = abstract_model(job.assembly.model)
    # What is expected is computed on one device.
    given = jax.device_get((frozen, batch["text"], batch["outcome"], loop.inputs[0], embedding))
    fixed, text, outcome_AGBM, inputs, profiles = jax.tree.map(jnp.asarray, given)

    @jax.jit
    def of_a_pass(trained, frozen, token, length, outcome):
        def loss(trained):
            model = bind(graphdef, {**frozen, **trained})
            soft = model.soft_tokens(profiles, inputs)
            scores = model.score(token, length, jnp.broadcast_to(soft, (len(token), *soft.shape)))
            return total_loss(scores[None], outcome, job.config.loss)[0]

        return jax.value_and_grad(loss)(trained)

    def expected(trained):
        passes = zip(text["token"], text["length"], outcome_AGBM, strict=True)
        found = [of_a_pass(jax.device_get(trained), fixed, *arrays) for arrays in passes]
        return jax.tree.map(lambda *each: sum(each) / len(each), *found)

    optimizer = optax.sgd(1.0)
    state = optimizer.init(trainable)
    step = make_train_step(graphdef, optimizer, job.config.loss, job.mesh, trainable, state, False)
    learned, _, metrics = step(trainable, frozen, state, batch, loop.inputs[0], embedding)
    assert learned.keys() == trainable.keys()
    value, gradient = expected(trainable)
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-4)
    for path, before in trainable.items():
        np.testing.assert_allclose(before - learned[path], gradient[path], rtol=1e-3, atol=1e-5, err_msg=path)

    path = "connector/project/kernel"
    direction = jax.random.normal(jax.random.key(0), trainable[path].shape)
    size = 1e-2

    def moved(amount):
        return float(expected({**trainable, path: trainable[path] + amount * direction})[0])

    slope = (moved(size) - moved(-size)) / (2 * size)
    assert float(jnp.vdot(trainable[path] - learned[path], direction)) == pytest.approx(slope, rel=0.05)


def test_each_group_is_scored_with_its_own_candidates(parts):
    job, loop, trainable, frozen, _, _, embedding = parts
    params = {**frozen, **trainable}
    config = dataclasses.replace(job.config.batch, groups=3, instructions=8, candidates=2)
    plan = BatchPlan(loop.plan.data, config, seed=0, stage=0, in_domain=False)
    raw = plan.batch(3)
    assert len({str(row) for row in raw.candidate}) == 3
    graphdef, _ = abstract_model(job.assembly.model)
    here, inputs, profiles = jax.tree.map(jnp.asarray, jax.device_get((params, loop.inputs[0], embedding)))

    @jax.jit
    def of_a_group(params, token, length, candidate, outcome):
        model = bind(graphdef, params)
        soft = model.soft_tokens(profiles, inputs)[candidate]
        scores = model.score(token, length, jnp.broadcast_to(soft, (len(token), *soft.shape)))
        return total_loss(scores[None], outcome[None], job.config.loss)[0]

    groups = zip(raw.text["token"], raw.text["length"], raw.candidate, raw.outcome, strict=True)
    expected = np.mean([of_a_group(here, *group) for group in groups])
    trained, rest = partition(params, ["connector/project/bias"])
    optimizer = optax.sgd(1.0)
    state = optimizer.init(trained)
    step = make_train_step(graphdef, optimizer, job.config.loss, job.mesh, trained, state, False)
    placed = place_batch(raw, config, job.mesh)
    _, _, metrics = step(trained, rest, state, placed, loop.inputs[0], embedding)
    assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-4)


@pytest.fixture(scope="module")
def trains_psi(tmp_path_factory):
    """`step, arguments` where psi reads texts and is trained, and a pass asks for two of six candidates."""
    stage = {"name": "all", "steps": 2, "learning_rate": 1e-2, "trainable": ("connector/.*", "encoder/.*")}
    config = tiny_config(
        tmp_path_factory.mktemp("tiny"),
        router__llm__lora_rank=0,
        router__llm__join_layer=0,
        router__profile_encoder={"kind": "text", "orders": 1},
        router__prompt__layout="capability_first",
        router__prompt__tail="\nAnswer:",
        batch={"instructions": 8, "candidates": 2},
        stages=(stage,),
    )
    job = prepare(config, tmp_path_factory.mktemp("work"))
    graphdef, _ = abstract_model(job.assembly.model)
    params = place_params(job)
    loop = StageLoop(job, 0, training_set(job, params, 0))
    trainable, frozen = partition(params, trainable_paths(params, config.stages[0]))
    optimizer = optax.sgd(1.0)  # what it changes is the gradient
    state = optimizer.init(trainable)
    batch = place_batch(loop.plan.batch(0), config.batch, job.mesh)
    assert batch["candidate"].shape[-1] == 2 < len(loop.inputs[0].token)

    def step():
        return make_train_step(graphdef, optimizer, config.loss, job.mesh, trainable, state, True)

    return step, (trainable, frozen, state, batch, loop.inputs[0], jnp.zeros(()))


def test_psi_reads_the_profiles_that_a_pass_asks_for_and_no_others(trains_psi, monkeypatch):
    """What is learned is the same as from all profiles."""
    read, embed = [], RouterModel.embed_profiles
    monkeypatch.setattr(
        RouterModel, "embed_profiles", lambda model, inputs: read.append(len(inputs.token)) or embed(model, inputs)
    )
    step, arguments = trains_psi
    learned, _, metrics = step()(*arguments)
    monkeypatch.setattr("satjax.training.train_step.profiles_of", lambda inputs, candidate_GM: (inputs, candidate_GM))
    expected, _, _ = step()(*arguments)
    assert set(read) == {2, 6}
    assert float(metrics["gradient_norm"]) > 0
    for path, value in expected.items():
        np.testing.assert_allclose(learned[path], value, rtol=1e-4, atol=1e-5, err_msg=path)


def test_each_candidate_of_a_pass_gets_its_own_profile(trains_psi):
    inputs = trains_psi[1][4]
    candidate_GM = jnp.array([[3], [1]])
    asked, place_GM = profiles_of(inputs, candidate_GM)
    np.testing.assert_array_equal(asked.token[place_GM], inputs.token[candidate_GM])
    np.testing.assert_array_equal(asked.accuracy_MT[place_GM], inputs.accuracy_MT[candidate_GM])
    everyone = jnp.arange(6)[None]
    assert profiles_of(inputs, everyone)[0] is inputs


def batch_of(groups: int, instructions: int) -> Batch:
    """A batch of token rows that are all different, in an order of its own."""
    rows = groups * instructions
    text = TokenRows(np.arange(rows * 4, dtype=np.int32).reshape(rows, 4), np.full(rows, 4, np.int32))
    outcome = np.zeros((rows, 3), np.float32)
    data = TrainingSet(text, np.full(rows, 4), outcome, np.ones(rows, bool))
    index = np.random.default_rng(0).permutation(rows).reshape(groups, instructions)
    return Batch(data, index, 4, np.zeros((groups, 3), np.int32), outcome[index], (0, 0, 0))


def test_a_pass_must_divide_over_the_mesh():
    with pytest.raises(SatjaxError, match="8"):
        place_batch(batch_of(1, 6), BatchConfig(instructions=6), make_mesh(MeshConfig(8, 1, 1)))


def test_a_batch_lies_split_by_rows():
    mesh, batch = make_mesh(MeshConfig(2, 2, 2)), batch_of(2, 8)
    placed = place_batch(batch, BatchConfig(groups=2, instructions=8, accumulate=2), mesh)
    assert placed["text"]["token"].shape == (2, 8, 4)
    assert placed["text"]["token"].addressable_shards[0].data.shape == (2, 2, 4)
    assert placed["outcome"].sharding == replicated(mesh)
    np.testing.assert_array_equal(placed["text"]["token"], batch.text["token"])
    np.testing.assert_array_equal(placed["text"]["length"], batch.text["length"])


def test_features_lie_split_by_rows_too():
    mesh, batch = make_mesh(MeshConfig(2, 2, 2)), batch_of(2, 8)
    feature = np.arange(48, dtype=np.float32).reshape(16, 3)
    batch = dataclasses.replace(batch, data=dataclasses.replace(batch.data, text=feature))
    placed = place_batch(batch, BatchConfig(groups=2, instructions=8), mesh)
    assert placed["text"]["feature"].addressable_shards[0].data.shape == (1, 4, 3)
    np.testing.assert_array_equal(placed["text"]["feature"][0], feature[batch.index.reshape(-1)])


def test_a_share_of_the_features_is_hidden_and_their_expectation_stays():
    kept = np.asarray(kept_features(jnp.uint32([3, 7]), (200, 100), 0.8))
    assert set(np.unique(kept)) == {0.0, np.float32(1 / (1 - 0.8))}
    assert kept.mean() == pytest.approx(1, abs=0.06)
    assert np.ptp(kept.mean(axis=0)) > 0.5, "every feature has chances of its own"
    assert np.ptp(kept.mean(axis=1)) > 0.5, "and so has every instruction"
    for rows, seed in ((kept[:100], 3), (kept[100:], 7)):
        np.testing.assert_array_equal(rows, kept_features(jnp.uint32([seed]), (100, 100), 0.8))
    assert (kept[:100] != kept[100:]).any(), "no group's are another's"


def test_every_group_of_every_step_hides_anew_in_however_many_passes():
    mesh, config = make_mesh(MeshConfig(2, 2, 2)), BatchConfig(groups=2, instructions=8, accumulate=2)
    batch = batch_of(2, 8)
    seeds = [place_batch(dataclasses.replace(batch, key=(0, 0, step)), config, mesh)["seed"] for step in range(3)]
    assert len(set(np.concatenate(seeds).ravel().tolist())) == 6
    at_once = place_batch(batch, dataclasses.replace(config, accumulate=1), mesh)["seed"]
    np.testing.assert_array_equal(np.ravel(at_once), np.ravel(seeds[0]))
    np.testing.assert_array_equal(seeds[0], place_batch(batch, config, mesh)["seed"])


def test_no_host_gathers_more_than_its_devices_hold(monkeypatch):
    gathered, gather = [], TrainingSet.gather
    monkeypatch.setattr(TrainingSet, "gather", lambda *arguments: gathered.append(arguments[1]) or gather(*arguments))
    batch = batch_of(4, 8)
    place_batch(batch, BatchConfig(groups=4, instructions=8, accumulate=2), make_mesh(MeshConfig(8, 1, 1)))
    assert {index.shape for index in gathered} == {(2, 2)}
    assert {row for index in gathered for row in index.ravel()} == set(range(32))
