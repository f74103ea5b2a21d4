import dataclasses

import pytest

from satjax.preflight.model_flops import encoder_flops, forward_flops, rank_flops, train_flops
from tests.phi import STAGES, small_plan

KERNELS = 4 * 64 * 64 + 3 * 64 * 192
"""Of one layer of the LLM."""
TEXT = 3 * 64 * (2 * KERNELS + 4 * 64 * 64)
SUFFIX = 3 * 5 * 4 * (2 * KERNELS + 4 * (64 + 4) * 64)
"""Five candidates of one soft token and three of the tail, which see the text and themselves."""


def test_one_instruction(monkeypatch):
    assert forward_flops(small_plan(monkeypatch), 5) == (TEXT, SUFFIX)
    assert rank_flops(small_plan(monkeypatch), 16, 5) == 16 * (TEXT + SUFFIX)


def test_training_all_of_it_takes_three_passes(monkeypatch):
    plan = small_plan(monkeypatch)
    psi = 5 * 96 * 2 * (2 * (4 * 32 * 32 + 2 * 32 * 64) + 4 * 96 * 32)
    assert encoder_flops(plan) == psi
    assert train_flops(plan) == 16 * 3 * (TEXT + SUFFIX) + 3 * psi


@pytest.mark.parametrize(("groups", "accumulate", "asked"), [(1, 1, 1), (4, 4, 4), (32, 1, 25)])
def test_profiles_that_no_group_asks_for_are_not_counted(monkeypatch, groups, accumulate, asked):
    plan = small_plan(monkeypatch)
    batch = dataclasses.replace(plan.config.batch, groups=groups, candidates=1, accumulate=accumulate)
    config = dataclasses.replace(plan.config, batch=batch)
    few, many = (dataclasses.replace(plan, config=config, num_candidates=number) for number in (25, 200))
    text, suffix = forward_flops(few, 1)
    assert train_flops(few) == pytest.approx(4 * groups * 3 * (text + suffix) + 3 * encoder_flops(few) * asked / 25)
    if groups <= 25:
        assert train_flops(many) == pytest.approx(train_flops(few))


def test_tasks_are_read_whatever_is_asked_for(monkeypatch):
    plan = small_plan(monkeypatch, profile_encoder={"kind": "tasks"})
    batch = dataclasses.replace(plan.config.batch, groups=1, candidates=1)
    plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, batch=batch))
    assert train_flops(plan) == 4 * 3 * sum(forward_flops(plan, 1)) + 3 * encoder_flops(plan)


def test_text_that_nothing_trains_is_only_read(monkeypatch):
    assert train_flops(small_plan(monkeypatch, STAGES[:1])) == 16 * (TEXT + 2 * SUFFIX)


def test_capabilities_before_the_text_make_a_sequence_of_each_candidate(monkeypatch):
    plan = small_plan(monkeypatch, STAGES[:1], prompt={"layout": "capability_first", "buckets": (32, 64)})
    one = 3 * 65 * (2 * KERNELS + 4 * 65 * 64)
    assert forward_flops(plan, 5) == (5 * one, 0.0)
    assert train_flops(plan) == pytest.approx(16 * 2 * 5 * one)
