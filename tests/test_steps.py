"""The steps that preflight lowers are those that run: shapes and shardings from a config alone, and what the partitioner makes of them."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from satjax.config import MeshConfig
from satjax.errors import SatjaxError
from satjax.preflight.model_flops import rank_flops, train_flops
from satjax.preflight.steps import (
    abstract_params,
    columns,
    lower_rank_step,
    lower_train_step,
    make_plan,
    rank_rows,
    rank_sets,
    with_rows,
    zoo_sets,
)
from satjax.sharding import make_mesh
from satjax.training.data import place_params, training_set
from satjax.training.job import prepare
from satjax.training.stage_loop import StageLoop
from tests.phi import STAGES, small_plan
from tests.tiny import ABILITY_ALONE, ABILITY_TUNED, tiny_config


@pytest.fixture
def plan(monkeypatch):
    return small_plan(monkeypatch)


def test_the_stage_that_trains_most_is_the_one_that_has_to_fit(plan):
    assert plan.stage.name == "all"
    assert plan.embeds
    assert (plan.bucket, plan.candidates, plan.model.compute_dtype) == (64, 5, "bfloat16")


def test_what_is_left_open_is_chosen_for_tpus(monkeypatch):
    prompt = {"buckets": (32, 2048)}
    model = small_plan(monkeypatch, attention="auto", compute_dtype="auto", prompt=prompt).model
    assert (model.decoder.attention, model.compute_dtype) == ("splash", "bfloat16")


def test_rows_are_put_into_groups(plan):
    batch = with_rows(plan, 6).config.batch
    assert (batch.groups, batch.instructions) == (2, 3)


def test_base_weights_have_the_dtype_of_the_config_and_what_is_learned_is_float32(plan):
    router = dataclasses.replace(plan.config.router, param_dtype="bfloat16")
    connector, everything = plan.config.stages
    for stages, dtype in (((connector,), jnp.bfloat16), ((connector, everything), jnp.float32)):
        config = dataclasses.replace(plan.config, router=router, stages=stages)
        params = abstract_params(dataclasses.replace(plan, config=config), make_mesh(MeshConfig(1, 8, 1)))
        assert params["llm/upper/mlp/up/kernel"].dtype == dtype
        assert params["connector/project/kernel"].dtype == jnp.float32


def test_kernels_that_no_stage_trains_have_the_dtype_in_which_they_are_used(plan):
    """As training keeps them (`satjax.assembly.Assembly.fixed`)."""
    config = dataclasses.replace(plan.config, stages=plan.config.stages[:1])
    params = abstract_params(dataclasses.replace(plan, config=config), make_mesh(MeshConfig(1, 8, 1)))
    assert params["llm/upper/mlp/up/kernel"].dtype == jnp.bfloat16
    assert params["llm/embedding"].dtype == params["llm/upper/mlp_norm/scale"].dtype == jnp.float32


HEAD = {
    "name": "head",
    "steps": 2,
    "learning_rate": 1e-3,
    "trainable": ("connector/ability", "ability/(read|demand)/.*"),
}


@pytest.fixture
def alone(monkeypatch):
    """The ability head alone scores, and a stage of its own, which trains fewer parameters, adapts its LLM."""
    tuned = {"name": "tuned", "steps": 2, "learning_rate": 1e-3, "trainable": ("llm/upper/attention/.*/lora_[ab]",)}
    return small_plan(
        monkeypatch,
        (HEAD, tuned),
        head="none",
        llm={"weights": "hub:small", "lora_rank": 1},
        profile_encoder={"kind": "items"},
        ability_head={"rank": 4, "hidden": 256, "mean_layers": (1, 2)},
        prompt={"buckets": (32, 64), "tail": "", "ending": "answer"},
    )


def test_a_stage_that_reads_tokens_needs_more_than_one_that_reads_features(alone):
    assert (alone.stage.name, alone.reads_features) == ("tuned", False)
    lower_train_step(alone, make_mesh(MeshConfig(1, 8, 1)))
    frozen = dataclasses.replace(alone.config, stages=alone.config.stages[:1])
    with pytest.raises(SatjaxError, match=r"none trains 'llm/.*/lora_a'"):
        make_plan(frozen, 5)
    llm = dataclasses.replace(frozen.router.llm, lora_rank=0)
    frozen = dataclasses.replace(frozen, router=dataclasses.replace(frozen.router, llm=llm))
    assert make_plan(frozen, 5).reads_features
    after = dataclasses.replace(alone.config, stages=alone.config.stages[::-1])
    assert not make_plan(after, 5).reads_features, "no stage that follows one that trains the LLM has features"
    assert make_plan(after, 5).stage.name == alone.config.stages[0].name


def test_instructions_without_candidates_are_ranked_in_batches_of_an_accelerator(plan, alone):
    mesh = make_mesh(MeshConfig(1, 8, 1))
    assert rank_rows(plan, mesh) == 8 * 4096 // 64
    assert rank_rows(alone, mesh) == 8 * 32_768 // 64
    assert lower_rank_step(alone, mesh).out_info.shape == (8 * 512, 5)
    wide = dataclasses.replace(alone.model, decoder=dataclasses.replace(alone.model.decoder, width=2**16))
    few = rank_rows(dataclasses.replace(alone, model=wide), mesh)
    assert few == 512, "what is read of these fills what a device has for it"


def test_a_mesh_must_divide_the_batch(plan):
    with pytest.raises(SatjaxError, match="multiple of 8"):
        lower_train_step(with_rows(plan, 12), make_mesh(MeshConfig(1, 8, 1)))


def test_base_models_that_are_nowhere_are_refused(plan):
    llm = dataclasses.replace(plan.config.router.llm, weights="dir:/nowhere")
    router = dataclasses.replace(plan.config.router, llm=llm)
    with pytest.raises(SatjaxError, match="no such directory"):
        make_plan(dataclasses.replace(plan.config, router=router), 5)


def test_the_rank_step_lowers_on_a_mesh(plan):
    mesh = make_mesh(MeshConfig(1, 8, 1))
    lowered = lower_rank_step(plan, mesh)
    assert lowered.out_info.shape == (8 * 64, 10)


def test_where_candidates_stand_first_a_step_has_as_many_as_a_pass(monkeypatch):
    """Of the ten sets of five candidates in two orders: 64 rows of 64 tokens on each of 8 devices leave room for eight, with more tokens for all."""
    plan = small_plan(monkeypatch, STAGES[:1], prompt={"layout": "capability_first", "buckets": (32, 64)})
    mesh = make_mesh(MeshConfig(1, 8, 1))
    assert rank_sets(plan, mesh) == 8
    assert lower_rank_step(plan, mesh).out_info.shape == (512, 8)
    monkeypatch.setattr("satjax.scoring.llm.TOKENS_OF_AN_ACCELERATOR", 2 * 32_768)
    assert rank_sets(plan, mesh) == zoo_sets(plan) == 10


ALONE = {
    "head": "none",
    "profile_encoder": {"kind": "items"},
    "ability_head": {"rank": 2, "hidden": 8, "mean_layers": (1, 2), "last_layers": (2,)},
    "prompt": {"buckets": (32, 64), "tail": "", "ending": "answer"},
}


@pytest.mark.parametrize(("rank", "reads"), [(0, "feature"), (4, "token")])
def test_a_frozen_llm_is_read_before_and_a_trained_one_in_the_step(rank, reads, monkeypatch):
    head = ("connector/ability", "ability/(read|demand)/.*")
    trainable = (*head, "llm/.*/lora_[ab]") if rank else head
    stages = ({"name": "one", "steps": 2, "learning_rate": 1e-3, "trainable": trainable},)
    llm = {"weights": "hub:small", "lora_rank": rank}
    plan = small_plan(monkeypatch, stages, **ALONE, llm=llm)
    mesh = make_mesh(MeshConfig(1, 8, 1))
    assert reads in columns(plan)
    lowered = lower_train_step(plan, mesh)
    assert lowered.out_info[2]["loss"].shape == ()
    text = 2 * 64 * (2 * (4 * 64 * 64 + 3 * 64 * 192) + 4 * 64 * 64)
    assert rank_flops(plan, 16, 5) == 16 * text
    head_alone = 6 * 16 * 3 * (64 * 8 + 8 * 3)
    assert train_flops(plan) == (16 * 2 * text if rank else head_alone)


class Given(Exception):
    """What a step would have been given."""


class Recorder:
    """In the place of a step: neither compiled nor run."""

    def __init__(self, *made_of):
        self.made_of = made_of

    def __call__(self, *given):
        raise Given(self.made_of, given)

    lower = __call__


TEXT_PROFILES = {
    "router__profile_encoder": {"kind": "text", "orders": 2},
    "stages": (
        {
            "name": "psi",
            "steps": 2,
            "learning_rate": 1e-3,
            "trainable": ("connector/.*", "encoder/.*", "llm/.*/lora_[ab]"),
        },
    ),
}
ROUNDED = {
    "router__param_dtype": "bfloat16",
    "batch": {"groups": 4, "instructions": 4, "accumulate": 2, "candidates": 3},
}


@pytest.mark.parametrize(
    "changes",
    [{}, ROUNDED, TEXT_PROFILES, ABILITY_ALONE, ABILITY_TUNED],
    ids=["adapters", "rounded weights in passes", "text profiles", "features", "tuned"],
)
def test_the_step_that_is_lowered_is_given_what_the_step_that_runs_is(changes, tmp_path, monkeypatch):
    changes = {
        "router__compute_dtype": "float32",
        "router__prompt__buckets": (320,),
        "batch": {"groups": 1, "instructions": 8},
        **changes,
    }
    config = tiny_config(tmp_path, **changes, mesh={"data": 2, "fsdp": 2, "tensor": 2})
    job = prepare(config, tmp_path / "run")
    params, plan = place_params(job), make_plan(config, len(job.train.candidates))
    number = config.stages.index(plan.stage)
    loop = StageLoop(job, number, training_set(job, params, number))
    monkeypatch.setattr("satjax.training.stage_loop.make_train_step", Recorder)
    monkeypatch.setattr("satjax.preflight.steps.make_train_step", Recorder)
    with pytest.raises(Given) as running:
        loop.run(params, None, 0, *(None,) * 3)
    with pytest.raises(Given) as lowered:
        lower_train_step(plan, make_mesh(config.mesh))
    (runs, real), (lowers, abstract) = running.value.args, lowered.value.args
    assert runs[0] == lowers[0]
    assert runs[2:4] == lowers[2:4]
    assert runs[6:] == lowers[6:]
    real, abstract = list(real), list(abstract)
    assert jax.tree.structure(real) == jax.tree.structure(abstract)
    # How long the texts of profiles are, preflight guesses.
    for token in ("token", "length"):
        one, other = getattr(real[4], token), getattr(abstract[4], token)
        assert (one.ndim, one.dtype) == (other.ndim, other.dtype)
        real[4], abstract[4] = (dataclasses.replace(inputs, **{token: other}) for inputs in (real[4], abstract[4]))
    for (path, one), other in zip(jax.tree.leaves_with_path(real), jax.tree.leaves(abstract), strict=True):
        where = jax.tree_util.keystr(path)
        assert (one.shape, one.dtype) == (other.shape, other.dtype), where
        assert one.sharding.is_equivalent_to(other.sharding, one.ndim), where
