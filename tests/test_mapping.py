"""Settings from a `ConfigDict` or JSON: every key and type is checked, and a mistake is one line with its place."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from satjax.config import BatchConfig, PromptConfig, RouterConfig, StageConfig, TrainConfig
from satjax.config.mapping import from_mapping
from satjax.errors import SatjaxError
from tests.test_settings import STAGE, settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": "3"}, "config.seed = '3': int is expected"),
        ({"seed": 1.0}, "config.seed = 1.0: int is expected"),
        ({"seed": True}, "config.seed = True: int is expected"),
        ({"seed": None}, "config.seed = None: int is expected"),
        ({"batch": {"strength": "much"}}, "config.batch.strength = 'much': float is expected"),
        ({"batch": {"strength": False}}, "config.batch.strength = False: float is expected"),
        ({"batch": {"one_positive": 1}}, "config.batch.one_positive = 1: bool is expected"),
        ({"batch": 8}, "config.batch = 8: a group of settings is expected"),
        ({"router": {"llm": ["a"]}}, "config.router.llm = ['a']: a group of settings is expected"),
        ({"router": {"head": "no"}}, "config.router.head = 'no': choose one of 'yes', 'yes_no', 'linear'"),
        ({"router": {"head": ["yes"]}}, "config.router.head = ['yes']: choose one of"),
        ({"router": {"prompt": {"layout": 1}}}, "choose one of 'capability_first', 'instruction_first'"),
        ({"router": {"prompt": {"buckets": 64}}}, "config.router.prompt.buckets = 64: a list is expected"),
        ({"router": {"prompt": {"buckets": (64, "a")}}}, "config.router.prompt.buckets[1] = 'a': int is expected"),
        ({"data": {"held_out_candidates": "a"}}, "config.data.held_out_candidates = 'a': a list is expected"),
        ({"data": {"outcomes": 3}}, "config.data.outcomes = 3: str is expected"),
        ({"stages": STAGE["name"]}, "config.stages = 'one': a list is expected"),
        ({"stages": (STAGE, 3)}, "config.stages[1] = 3: a group of settings is expected"),
        ({"stages": ({**STAGE, "steps": 1.5},)}, "config.stages[0].steps = 1.5: int is expected"),
        ({"stages": ({**STAGE, "trainable": "connector"},)}, "config.stages[0].trainable = 'connector': a list"),
        ({"stages": ({**STAGE, "scales": (("a",),)},)}, "scales[0] = ('a',): 2 entries are expected"),
        ({"stages": ({**STAGE, "scales": (("a", 1, 2),)},)}, "scales[0] = ('a', 1, 2): 2 entries are expected"),
        ({"stages": ({**STAGE, "scales": (("a", "b"),)},)}, "scales[0][1] = 'b': float is expected"),
        ({"stages": ({"name": "one"},)}, "config.stages[0]: "),
        ({"batch": {"instructions": 0}}, "config batch.instructions = 0 must be at least 1"),
    ],
)
def test_values_of_the_wrong_kind_are_one_line_with_their_place(changes, words):
    with pytest.raises(SatjaxError) as caught:
        from_mapping(TrainConfig, settings(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sead": 3}, "unknown config key 'config.sead': did you mean 'config.seed'"),
        (
            {"router": {"llm": {"lora_rang": 3}}},
            "'config.router.llm.lora_rang': did you mean 'config.router.llm.lora_rank'",
        ),
        ({"stages": (STAGE, {**STAGE, "stepz": 3})}, "'config.stages[1].stepz': did you mean 'config.stages[1].steps'"),
    ],
)
def test_unknown_keys_come_with_near_names(changes, words):
    with pytest.raises(SatjaxError) as caught:
        from_mapping(TrainConfig, settings(**changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_settings_are_named():
    with pytest.raises(SatjaxError, match=r"config: .*missing.*'stages'"):
        from_mapping(TrainConfig, {})
    with pytest.raises(SatjaxError, match=r"config\.stages\[0\]: .*missing.*'trainable'"):
        from_mapping(TrainConfig, {"stages": ({"name": "a", "steps": 1, "learning_rate": 1.0},)})


def test_integers_are_taken_for_floats():
    config = from_mapping(
        TrainConfig, settings(batch={"strength": 2, "candidates": 3}, stages=({**STAGE, "learning_rate": 1},))
    )
    assert (config.batch.strength, config.stages[0].learning_rate) == (2.0, 1.0)
    assert isinstance(config.batch.strength, float)
    assert isinstance(config.stages[0].learning_rate, float)
    scaled = from_mapping(StageConfig, {**STAGE, "scales": [["a", 2]]})
    assert scaled.scales == (("a", 2.0),)
    assert isinstance(scaled.scales[0][1], float)


def test_a_config_dict_and_json_give_the_same_config():
    values = settings(
        batch={"groups": 2}, router={"prompt": {"buckets": (32, 64)}}, data={"held_out_candidates": ("a",)}
    )
    expected = from_mapping(TrainConfig, values)
    assert expected.router.prompt.buckets == (32, 64)
    assert from_mapping(TrainConfig, ConfigDict(values)) == expected
    assert from_mapping(TrainConfig, json.loads(json.dumps(values))) == expected


@given(
    st.builds(
        BatchConfig,
        groups=st.integers(1, 9),
        instructions=st.integers(1, 9),
        candidates=st.integers(2, 9),
        strength=st.floats(0, 9),
    ),
    st.builds(PromptConfig, buckets=st.sets(st.integers(1, 999), min_size=1).map(sorted).map(tuple), tail=st.text()),
    st.lists(st.builds(StageConfig, st.text(), st.integers(1), st.floats(1e-9, 1), st.just(("a",))), min_size=1),
)
def test_a_config_survives_json(batch, prompt, stages):
    config = TrainConfig(tuple(stages), batch=batch, router=RouterConfig(prompt=prompt))
    assert from_mapping(TrainConfig, json.loads(json.dumps(dataclasses.asdict(config)))) == config
