"""Every setting is checked where it is made, and a mistake is one line that names it."""

import dataclasses

import pytest

from satjax.config import (
    AbilityHeadConfig,
    AptitudeConfig,
    BatchConfig,
    CheckpointConfig,
    DataConfig,
    LLMConfig,
    LossConfig,
    OptimizerConfig,
    ProfileEncoderConfig,
    PromptConfig,
    RouterConfig,
    StageConfig,
    TrainConfig,
    ValidationConfig,
)
from satjax.config.mapping import from_mapping
from satjax.errors import SatjaxError

STAGE = {"name": "one", "steps": 3, "learning_rate": 0.1, "trainable": ("connector/.*",)}


def settings(**changes) -> dict:
    return {"stages": (STAGE,), **changes}


def stage(**changes) -> StageConfig:
    return StageConfig(**{**STAGE, **changes})


def train(**changes) -> TrainConfig:
    return TrainConfig(**{"stages": (stage(),), **changes})


def test_only_the_stages_have_to_be_given():
    config = from_mapping(TrainConfig, settings())
    assert config == train()
    assert config.router == RouterConfig()
    assert config.total_steps == 3
    assert (two := train(stages=(stage(), stage(steps=4)))).total_steps == 7
    assert [two.stage_of(step) for step in range(1, 8)] == [0] * 3 + [1] * 4
    assert [two.steps_before(number) for number in range(3)] == [0, 3, 7]
    assert PromptConfig(buckets=(8, 16)).max_tokens == 16


HEAD = AbilityHeadConfig(rank=1, mean_layers=(1,))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AptitudeConfig(num_tasks=0), "config aptitude.num_tasks = 0 must be at least 1"),
        (lambda: AptitudeConfig(shots=0), "config aptitude.shots = 0 must be at least 1"),
        (
            lambda: AptitudeConfig(num_tasks=9, clusters=8),
            "config aptitude.clusters = 8 is below aptitude.num_tasks = 9: every task is a cluster; add --config.aptitude.num_tasks=8",
        ),
        (lambda: AptitudeConfig(seed=2**32), "config aptitude.seed = 4294967296 must be below 2**32"),
        (lambda: train(seed=2**32), "config seed = 4294967296 must be below 2**32"),
        (lambda: AptitudeConfig(seed=-1), "config aptitude.seed = -1 must be at least 0"),
        (lambda: OptimizerConfig(weight_decay=-0.1), "config optimizer.weight_decay = -0.1 must be at least 0"),
        (lambda: OptimizerConfig(final_scale=-1.0), "config optimizer.final_scale = -1.0 must be at least 0"),
        (lambda: OptimizerConfig(beta1=-0.1), "config optimizer.beta1 = -0.1 must be at least 0"),
        (lambda: OptimizerConfig(beta2=1.0), "config optimizer.beta2 = 1.0 must be below 1"),
        (lambda: stage(scales=(("a/.*", -2.0),)), "config stage 'one': scale -2.0 of 'a/.*' must be at least 0"),
        (
            lambda: from_mapping(LossConfig, {"pointwise": float("nan")}),
            "config.pointwise = nan: a finite number is expected",
        ),
        (
            lambda: train(loss=LossConfig(pointwise=0.0), batch=BatchConfig(candidates=1)),
            "config loss: with batch.instructions = 8 and batch.candidates = 1 there is nothing to compare",
        ),
        (
            lambda: train(loss=LossConfig(1.0, 0.0, 0.0), batch=BatchConfig(instructions=1)),
            "config loss: with batch.instructions = 1 and batch.candidates = 0 there is nothing to compare",
        ),
        (lambda: LLMConfig(lora_rank=-1), "config router.llm.lora_rank = -1 must be at least 0"),
        (lambda: LLMConfig(join_layer=-1), "config router.llm.join_layer = -1 must be at least 0"),
        (lambda: ProfileEncoderConfig(soft_tokens=0), "config router.profile_encoder.soft_tokens = 0"),
        (lambda: ProfileEncoderConfig(width=0), "config router.profile_encoder.width = 0"),
        (lambda: ProfileEncoderConfig(orders=0), "config router.profile_encoder.orders = 0"),
        (lambda: AbilityHeadConfig(rank=-1), "config router.ability_head.rank = -1 must be at least 0"),
        (lambda: AbilityHeadConfig(hidden=0), "config router.ability_head.hidden = 0 must be at least 1"),
        (
            lambda: RouterConfig(ability_head=AbilityHeadConfig(rank=1)),
            "config router.ability_head.rank > 0 needs router.ability_head.mean_layers or last_layers",
        ),
        (lambda: AbilityHeadConfig(rank=1, last_layers=(0, 2)), "config router.ability_head: layers count from 1"),
        (lambda: RouterConfig(head="none"), "config router.head = 'none' needs router.ability_head.rank > 0"),
        (
            lambda: RouterConfig(profile_encoder=ProfileEncoderConfig(kind="items")),
            "config router.profile_encoder.kind = 'items' needs router.head = 'none'",
        ),
        (
            lambda: RouterConfig(head="none", ability_head=HEAD, prompt=PromptConfig(tail="\nAnswer:")),
            "config router.head = 'none' needs router.llm.lora_tokens = 'all', router.llm.join_layer = 0 and router.prompt.tail = ''",
        ),
        (
            lambda: RouterConfig(ability_head=HEAD, prompt=PromptConfig(layout="capability_first")),
            "config router.ability_head.rank > 0 needs router.prompt.layout = 'instruction_first'",
        ),
        (
            lambda: RouterConfig(prompt=PromptConfig(ending="answer")),
            "config router.prompt.ending = 'answer' needs router.head = 'none'",
        ),
        (lambda: PromptConfig(buckets=()), "config router.prompt.buckets = (): give rising positive lengths"),
        (lambda: PromptConfig(buckets=(64, 32)), "config router.prompt.buckets = (64, 32)"),
        (lambda: PromptConfig(buckets=(64, 64)), "config router.prompt.buckets = (64, 64)"),
        (lambda: PromptConfig(buckets=(0, 64)), "config router.prompt.buckets = (0, 64)"),
        (lambda: BatchConfig(widths=(64, 32)), "config batch.widths = (64, 32): give rising positive lengths"),
        (
            lambda: train(batch=BatchConfig(widths=(64, 384))),
            "config batch.widths = (64, 384): the last one has to be that of router.prompt.buckets, 512",
        ),
        (
            lambda: RouterConfig(head="none", ability_head=HEAD, llm=LLMConfig(lora_rank=1, lora_tokens="suffix")),
            "config router.head = 'none' needs router.llm.lora_tokens = 'all'",
        ),
        (lambda: LossConfig(over_instructions=-1.0), "config loss.over_instructions = -1.0 must be at least 0"),
        (lambda: LossConfig(over_candidates=-1.0), "config loss.over_candidates = -1.0 must be at least 0"),
        (lambda: LossConfig(pointwise=-1.0), "config loss.pointwise = -1.0 must be at least 0"),
        (lambda: LossConfig(0.0, 0.0, 0.0), "config loss: every weight is 0"),
        (lambda: BatchConfig(groups=0), "config batch.groups = 0 must be at least 1"),
        (lambda: BatchConfig(instructions=0), "config batch.instructions = 0 must be at least 1"),
        (lambda: BatchConfig(candidates=-1), "config batch.candidates = -1 must be at least 0"),
        (lambda: BatchConfig(strength=-0.5), "config batch.strength = -0.5 must be at least 0"),
        (
            lambda: BatchConfig(strength=1.0),
            "config batch.strength = 1.0 needs batch.candidates > 0: where every instruction meets all candidates, none are drawn",
        ),
        (
            lambda: train(router=RouterConfig(prompt=PromptConfig("capability_first", tail=""))),
            "config router.prompt.tail = '' is of router.prompt.layout = 'instruction_first' only",
        ),
        (lambda: BatchConfig(strength=100.5), "config batch.strength = 100.5 must be at most 100"),
        (lambda: BatchConfig(accumulate=0), "config batch.accumulate = 0 must be at least 1"),
        (lambda: BatchConfig(hidden_items=-0.1), "config batch.hidden_items = -0.1 must be at least 0"),
        (lambda: BatchConfig(hidden_items=1.0), "config batch.hidden_items = 1.0 must be below 1"),
        (lambda: BatchConfig(hidden_features=-0.1), "config batch.hidden_features = -0.1 must be at least 0"),
        (lambda: BatchConfig(hidden_features=1.0), "config batch.hidden_features = 1.0 must be below 1: some features"),
        (
            lambda: train(batch=BatchConfig(hidden_features=0.5)),
            "config batch.hidden_features needs router.head = 'none'",
        ),
        (
            lambda: train(
                batch=BatchConfig(hidden_items=0.5),
                router=RouterConfig(profile_encoder=ProfileEncoderConfig(kind="text")),
            ),
            "config batch.hidden_items needs router.profile_encoder.kind = 'tasks'",
        ),
        (lambda: BatchConfig(groups=3, accumulate=2), "batch.groups = 3 is no multiple of batch.accumulate = 2"),
        (lambda: BatchConfig(one_positive=True), "config batch.one_positive needs batch.candidates = 1"),
        (lambda: BatchConfig(one_positive=True, candidates=1, instructions=1), "at least 2 instructions to a group"),
        (lambda: stage(steps=0), "config stage 'one'.steps = 0 must be at least 1"),
        (lambda: stage(warmup_steps=-1), "config stage 'one'.warmup_steps = -1 must be at least 0"),
        (lambda: stage(warmup_steps=3), "config stage 'one': warmup_steps = 3 must be below steps = 3"),
        (lambda: stage(steps=1, warmup_steps=1), "config stage 'one': warmup_steps = 1 must be below steps = 1"),
        (lambda: stage(learning_rate=0.0), "config stage 'one': learning_rate = 0.0 must be positive"),
        (lambda: stage(trainable=()), "config stage 'one': trainable is empty; name parameter paths"),
        (lambda: OptimizerConfig(clip_norm=0.0), "config optimizer.clip_norm = 0.0 must be positive"),
        (lambda: ValidationConfig(every_steps=-1), "config validation.every_steps = -1 must be at least 0"),
        (lambda: CheckpointConfig(every_steps=0), "config checkpoint.every_steps = 0 must be at least 1"),
        (lambda: CheckpointConfig(keep=0), "config checkpoint.keep = 0 must be at least 1"),
        (lambda: train(stages=()), "config stages is empty; give at least one stage"),
        (lambda: train(seed=-1), "config seed = -1 must be at least 0"),
        (lambda: train(calibration_instructions=-1), "config calibration_instructions = -1 must be at least 0"),
        (
            lambda: RouterConfig(llm=LLMConfig(lora_tokens="suffix"), prompt=PromptConfig(layout="capability_first")),
            "router.llm.lora_tokens = 'suffix' needs router.prompt.layout = 'instruction_first'",
        ),
        (
            lambda: RouterConfig(llm=LLMConfig(join_layer=1), prompt=PromptConfig("capability_first", tail="")),
            "router.llm.join_layer > 0 needs router.prompt.layout = 'instruction_first'",
        ),
        (lambda: RouterConfig(llm=LLMConfig(join_layer=1)), "and router.prompt.tail = ''"),
    ],
)
def test_settings_out_of_bounds_are_one_line(make, words):
    with pytest.raises(SatjaxError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_made_in_python_may_have_lists():
    made = train(
        stages=[stage(trainable=["connector/.*"], scales=[["connector/.*", 2.0]])],
        data=DataConfig(held_out_candidates=["a"], held_out_categories=["b"]),
        batch=BatchConfig(widths=[64, 512]),
        router=RouterConfig(
            ability_head=AbilityHeadConfig(rank=1, mean_layers=[1], last_layers=[2]),
            prompt=PromptConfig(buckets=[64, 512]),
        ),
    )
    assert made.stages[0].scales == (("connector/.*", 2.0),)
    assert made.router.ability_head.mean_layers == (1,)
    assert hash(made) == hash(dataclasses.replace(made, batch=BatchConfig(widths=(64, 512))))


def test_the_least_that_is_allowed_is_allowed():
    stage(warmup_steps=2)
    BatchConfig(strength=100.0, candidates=2)
    AptitudeConfig(num_tasks=1, shots=1, seed=0)
    BatchConfig(groups=4, accumulate=2, one_positive=True, candidates=1, instructions=2)
    LossConfig(0.0, 0.0, 0.1)
    PromptConfig(buckets=(1,))
    RouterConfig(llm=LLMConfig(join_layer=1, lora_tokens="suffix"), prompt=PromptConfig(tail=""))
    train(seed=0, calibration_instructions=0)


def test_a_config_is_frozen_all_the_way():
    config = train()
    hash(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.router.llm.lora_rank = 3
