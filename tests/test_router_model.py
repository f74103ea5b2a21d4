"""The score matrix: both layouts held to one contract, on a small random model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from satjax.config import AbilityHeadConfig, ProfileEncoderConfig
from satjax.models.decoder import DecoderConfig
from satjax.models.router_model import (
    ProfileInputs,
    RouterModelConfig,
    abstract_model,
    bind,
    initial_params,
)
from satjax.models.text_encoder import EncoderConfig

B, M, L, K, D = 3, 4, 10, 2, 16
LENGTH = np.array([10, 4, 7], np.int32)
TOKEN = np.random.default_rng(0).integers(1, 40, (B, L)).astype(np.int32)


def config(layout="instruction_first", head="yes_no", kind="tasks", join_layer=0, tail_ids=(5, 6), rank=0):
    return RouterModelConfig(
        decoder=DecoderConfig(40, D, 4, 4, 2, 4, 32, lora_rank=2, join_layer=join_layer),
        encoder=EncoderConfig(40, 8, 2, 2, 16, 32),
        profile_encoder=ProfileEncoderConfig(kind=kind, soft_tokens=K, width=8),
        ability_head=AbilityHeadConfig(
            rank=rank, hidden=8, mean_layers=(2, 4) if rank else (), last_layers=(3,) if rank else ()
        ),
        layout=layout,
        head=head,
        yes_id=7,
        no_id=8,
        tail_ids=tail_ids,
    )


VARIANTS = {
    "instruction_first": config(),
    "join_layer": config(join_layer=2, tail_ids=()),
    "ability_head": config(join_layer=2, tail_ids=(), rank=3),
    "ability_head_alone": config(head="none", tail_ids=(), rank=3),
    "capability_first": config("capability_first", tail_ids=()),
}


class Case:
    def __init__(self, settings, seed=0):
        self.graphdef, _ = abstract_model(settings)
        self.params = initial_params(settings, seed, {})
        # Adapters and abilities start at zero; away from it they count.
        self.params |= {
            p: jax.random.normal(jax.random.key(1), v.shape) * 0.1
            for p, v in self.params.items()
            if "lora_b" in p or p == "ability/ability/kernel"
        }
        self.run = jax.jit(lambda params, *arrays: bind(self.graphdef, params).score(*arrays))

    def score(self, token, length, soft):
        soft = np.broadcast_to(soft, (len(token), *soft.shape[-3:])) if soft.ndim == 3 else soft
        return np.asarray(
            self.run(self.params, jnp.asarray(token), jnp.asarray(length), jnp.asarray(soft, jnp.float32))
        )


@functools.cache
def case_of(name):
    """Made, and compiled, once for all tests: not to be altered."""
    return Case(VARIANTS[name])


@pytest.fixture(scope="module", params=list(VARIANTS))
def case(request):
    return case_of(request.param)


SOFT = np.random.default_rng(1).normal(size=(M, K, D)).astype(np.float32)


def test_all_candidates_in_one_pass_equal_single_passes(case):
    together = case.score(TOKEN, LENGTH, SOFT)
    assert together.shape == (B, M)
    assert together.dtype == np.float32
    alone = np.concatenate([case.score(TOKEN, LENGTH, SOFT[m : m + 1]) for m in range(M)], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.std(axis=1).min() > 1e-3


def test_one_profile_moves_one_column_only(case):
    before = case.score(TOKEN, LENGTH, SOFT)
    changed = SOFT.copy()
    changed[2] += 0.5
    after = case.score(TOKEN, LENGTH, changed)
    np.testing.assert_array_equal(np.delete(before, 2, axis=1), np.delete(after, 2, axis=1))
    assert np.abs(before[:, 2] - after[:, 2]).max() > 1e-4


def test_order_padding_and_bucket_change_nothing(case):
    before = case.score(TOKEN, LENGTH, SOFT)
    order = np.array([3, 1, 0, 2])
    np.testing.assert_allclose(case.score(TOKEN, LENGTH, SOFT[order]), before[:, order], atol=1e-5)
    rows = np.array([2, 0, 1])
    np.testing.assert_allclose(case.score(TOKEN[rows], LENGTH[rows], SOFT), before[rows], atol=1e-5)
    wide = np.pad(TOKEN, ((0, 0), (0, 9)), constant_values=33)
    np.testing.assert_allclose(case.score(wide, LENGTH, SOFT), before, atol=1e-5)
    dirty = np.where(np.arange(L) < LENGTH[:, None], TOKEN, 39)
    np.testing.assert_allclose(case.score(dirty, LENGTH, SOFT), before, atol=1e-5)


def test_instructions_may_have_candidates_of_their_own(case):
    own = np.stack([SOFT[[0, 1]], SOFT[[2, 3]], SOFT[[1, 1]]])
    every = case.score(TOKEN, LENGTH, SOFT)
    picked = np.stack([every[0, [0, 1]], every[1, [2, 3]], every[2, [1, 1]]])
    np.testing.assert_allclose(case.score(TOKEN, LENGTH, own), picked, atol=1e-5)


@pytest.mark.parametrize("name", ["instruction_first", "capability_first"])
def test_a_score_is_the_answer_to_everything_as_one_text(name):
    """The decoder alone, on one unpadded row of soft tokens, instruction and tail in the layout's order."""
    case = case_of(name)
    found = case.score(TOKEN, LENGTH, SOFT)
    last = jax.jit(lambda params, x, n: bind(case.graphdef, params).llm(x, n).text[0, -1])
    embedding = np.asarray(case.params["llm/embedding"])
    for b, m in ((0, 1), (1, 3)):
        text, tail = embedding[TOKEN[b, : LENGTH[b]]], embedding[[5, 6]]
        whole = np.concatenate([text, SOFT[m], tail] if name == "instruction_first" else [SOFT[m], text])
        yes, no = embedding[[7, 8]] @ np.asarray(last(case.params, jnp.asarray(whole)[None], jnp.array([len(whole)])))
        assert found[b, m] == pytest.approx(float(yes - no), abs=1e-4)


def test_yes_no_is_the_difference_and_yes_the_first():
    yes_no = case_of("instruction_first")
    model = bind(yes_no.graphdef, yes_no.params)
    rows = np.asarray(model.llm.output_rows(jnp.array([7, 8])))
    last = np.random.default_rng(2).normal(size=(2, 3, D)).astype(np.float32)
    expected = last @ rows.T
    np.testing.assert_allclose(model._read(jnp.asarray(last)), expected[..., 0] - expected[..., 1], atol=1e-5)
    yes = Case(config(head="yes"))
    np.testing.assert_allclose(bind(yes.graphdef, yes_no.params)._read(jnp.asarray(last)), expected[..., 0], atol=1e-5)


def test_the_linear_head_is_its_own_parameter():
    linear = Case(config(head="linear"))
    assert {path for path in linear.params if path.startswith("regression")} == {"regression/kernel", "regression/bias"}
    assert linear.score(TOKEN, LENGTH, SOFT).shape == (B, M)


def test_the_ability_head_is_added_to_the_answer():
    with_head = case_of("ability_head")
    own = {path: value for path, value in with_head.params.items() if path.startswith("ability/")}
    assert {path.split("/")[1] for path in own} == {"mean", "spread", "read", "demand", "ability"}
    without = Case(config(join_layer=2, tail_ids=()))
    without.params = {path: value for path, value in with_head.params.items() if path not in own}
    model = bind(with_head.graphdef, with_head.params)
    soft_BMKD = jnp.broadcast_to(jnp.asarray(SOFT), (B, *SOFT.shape))
    head = model.score_features(model.features(jnp.asarray(TOKEN), jnp.asarray(LENGTH)), soft_BMKD)
    expected = without.score(TOKEN, LENGTH, SOFT) + np.asarray(head)
    np.testing.assert_allclose(with_head.score(TOKEN, LENGTH, SOFT), expected, atol=1e-5)
    assert np.abs(head).max() > 1e-2


def test_without_an_answer_the_ability_head_is_the_score():
    alone, both = case_of("ability_head_alone"), case_of("ability_head")
    assert {path for path in alone.params if path.startswith("llm/lower")} == set()
    model = bind(alone.graphdef, alone.params)
    soft_BMKD = jnp.broadcast_to(jnp.asarray(SOFT), (B, *SOFT.shape))
    feature_BF = model.features(jnp.asarray(TOKEN), jnp.asarray(LENGTH))
    assert feature_BF.shape == (B, 3 * D)
    found = alone.score(TOKEN, LENGTH, SOFT)
    np.testing.assert_allclose(found, model.score_features(feature_BF, soft_BMKD), atol=1e-5)
    assert np.abs(found - both.score(TOKEN, LENGTH, SOFT)).max() > 1e-3


def test_embedding_profiles_and_padding_of_chunks():
    """`text`: chunks count by their length and an empty chunk adds nothing; `tasks`: one row per task."""
    rng = np.random.default_rng(3)
    text = Case(config(kind="text"))
    token, length = rng.integers(1, 40, (2, 2, 6)), np.array([[6, 3], [4, 0]])
    numbers = jnp.zeros((2, 5))
    inputs = ProfileInputs(jnp.asarray(token), jnp.asarray(length), numbers, numbers)
    embed = jax.jit(lambda params, inputs: bind(text.graphdef, params).embed_profiles(inputs))
    both = np.asarray(embed(text.params, inputs))

    def alone(m, c):
        of_one = ProfileInputs(token[m : m + 1, c : c + 1], length[m : m + 1, c : c + 1], numbers[:1], numbers[:1])
        return np.asarray(embed(text.params, of_one))[0]

    mean = 6 * alone(0, 0) + 3 * alone(0, 1)
    np.testing.assert_allclose(both, [mean / np.linalg.norm(mean), alone(1, 0)], atol=1e-5)
    assert bind(text.graphdef, text.params).soft_tokens(jnp.asarray(both), inputs).shape == (2, K, D)
    tasks = Case(config(kind="tasks"))
    inputs = ProfileInputs(jnp.asarray(token[0]), jnp.asarray(length[0]), jnp.zeros((3, 2)), jnp.ones((3, 2)))

    @jax.jit
    def soft_tokens(params, inputs):
        model = bind(tasks.graphdef, params)
        return model.soft_tokens(model.embed_profiles(inputs), inputs)

    assert soft_tokens(tasks.params, inputs).shape == (3, K, D)


def test_parameters_that_are_not_given_follow_the_seed():
    settings = config()
    _, shapes = abstract_model(settings)
    a, b, c = (initial_params(settings, seed, {"llm/embedding"}) for seed in (0, 0, 1))
    assert a.keys() == shapes.keys() - {"llm/embedding"}
    np.testing.assert_array_equal(a["connector/project/kernel"], b["connector/project/kernel"])
    assert np.abs(a["connector/project/kernel"] - c["connector/project/kernel"]).max() > 1e-3


def test_bfloat16_is_close_to_float32():
    exact = case_of("instruction_first").score(TOKEN, LENGTH, SOFT)
    rough = Case(dataclasses.replace(config(), compute_dtype="bfloat16")).score(TOKEN, LENGTH, SOFT)
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, exact, atol=0.15)
