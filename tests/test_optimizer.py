"""Selection of parameters by path, learning-rate scales, and what the optimizer leaves alone."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from satjax.config import OptimizerConfig, StageConfig
from satjax.errors import SatjaxError
from satjax.training.optimizer import (
    is_trainable,
    learning_rate_scale,
    make_optimizer,
    partition,
    schedule,
    trainable_paths,
)

PATHS = (
    "connector/project/kernel",
    "connector/project/bias",
    "llm/upper/mlp/up/kernel",
    "llm/upper/mlp/up/lora_a",
    "encoder/norm/scale",
)


def stage(**changes) -> StageConfig:
    settings = {"name": "s", "steps": 10, "learning_rate": 0.1, "trainable": ("connector/.*", ".*lora_[ab]"), **changes}
    return StageConfig(**settings)


def test_paths_are_chosen_by_full_match():
    chosen = trainable_paths(PATHS, stage())
    assert chosen == ["connector/project/bias", "connector/project/kernel", "llm/upper/mlp/up/lora_a"]
    assert not is_trainable("my/connector/project/kernel", stage(trainable=("connector/.*",)))


def test_partition_loses_nothing():
    params = {path: jnp.ones(1) for path in PATHS}
    trainable, frozen = partition(params, trainable_paths(PATHS, stage()))
    assert {**trainable, **frozen}.keys() == params.keys()
    assert not trainable.keys() & frozen.keys()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"trainable": ("conector/.*",)}, "matches no parameter"), ({"trainable": ("(",)}, "no regular")],
)
def test_a_pattern_that_fits_nothing_is_named(changes, words):
    with pytest.raises(SatjaxError, match=words):
        trainable_paths(PATHS, stage(**changes))


@pytest.mark.parametrize("scales", [("encoder/.*",), ("connector/.*", "connector/.*bias")], ids=["untrained", "hidden"])
def test_a_scale_that_changes_nothing_is_named(scales):
    with pytest.raises(
        SatjaxError, match=rf"stage 's': the scale of '{scales[-1].replace('*', '[*]')}' changes nothing"
    ):
        trainable_paths(PATHS, stage(scales=tuple((pattern, 2.0) for pattern in scales)))


def test_first_matching_scale_counts():
    scaled = stage(scales=(("connector/.*kernel", 3.0), ("connector/.*", 2.0)))
    assert [learning_rate_scale(path, scaled) for path in PATHS[:3]] == [3.0, 2.0, 1.0]


def test_scale_multiplies_the_step_and_biases_do_not_decay():
    config = OptimizerConfig(weight_decay=0.5, clip_norm=1e9, final_scale=1.0)
    params = {
        "connector/project/kernel": jnp.ones((2, 2)),
        "connector/project/bias": jnp.ones(2),
        "llm/a/lora_a": jnp.ones((2, 2)),
    }
    optimizer = make_optimizer(stage(scales=(("connector/.*", 4.0),)), config)
    gradient = {path: jnp.ones_like(value) for path, value in params.items()}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    # Adam's first step is the sign of the gradient: rate 0.1 times the scale, and decay 0.5 on matrices only.
    assert updates["connector/project/kernel"] == pytest.approx(-0.1 * 4 * 1.5, rel=1e-4)
    assert updates["connector/project/bias"] == pytest.approx(-0.1 * 4, rel=1e-4)
    assert updates["llm/a/lora_a"] == pytest.approx(-0.1 * 1.5, rel=1e-4)


def test_schedule_warms_up_and_ends_at_its_final_scale():
    rate = schedule(stage(steps=100, warmup_steps=10), OptimizerConfig(final_scale=0.2))
    assert rate(0) == 0.0
    assert rate(10) == pytest.approx(0.1)
    assert rate(100) == pytest.approx(0.02)


def test_the_schedule_is_a_cosine():
    rate = schedule(stage(steps=100), OptimizerConfig(final_scale=0.0))
    assert rate(25) == pytest.approx(0.1 * (1 + 2**-0.5) / 2)


@pytest.mark.parametrize(
    ("path", "decays"),
    [
        ("llm/embedding", True),
        ("llm/upper/mlp/up/lora_b", True),
        ("connector/ability", False),
        ("encoder/positions", False),
        ("encoder/norm/scale", False),
        ("ability/spread", False),
    ],
)
def test_what_decays(path, decays):
    optimizer = make_optimizer(stage(), OptimizerConfig(weight_decay=0.5))
    params = {path: jnp.full((2, 2), 3.0)}
    updates, _ = optimizer.update({path: jnp.zeros((2, 2))}, optimizer.init(params), params)
    assert updates[path] == pytest.approx(-0.1 * 0.5 * 3 if decays else 0)


def test_moments_and_clipping_are_those_of_the_config():
    """The first gradient is cut to a norm of 1 over all parameters together, the second is not."""
    config = OptimizerConfig(weight_decay=0.0, clip_norm=1.0, beta1=0.5, beta2=0.6, final_scale=1.0)
    params = {"connector/project/bias": jnp.ones(2), "llm/a/lora_a": jnp.ones((2, 2))}
    ours = make_optimizer(stage(), config)
    reference = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1, b1=0.5, b2=0.6, weight_decay=0.0))
    states = [ours.init(params), reference.init(params)]
    for sizes in ((3.0, 4.0), (0.3, 0.1), (0.0, 0.0)):
        gradient = {path: jnp.full(params[path].shape, size) for path, size in zip(params, sizes, strict=True)}
        found, states[0] = ours.update(gradient, states[0], params)
        expected, states[1] = reference.update(gradient, states[1], params)
        for path in params:
            np.testing.assert_allclose(found[path], expected[path], rtol=1e-5, err_msg=path)
