import jax
import jax.numpy as jnp
import numpy as np
import pytest

from satjax.checkpoint import Checkpoints, Damaged, load_arrays, save_params
from satjax.errors import SatjaxError
from tests.damage import damage_checkpoint


def state(value: float) -> dict:
    return {"params": {"a/b": jnp.full((2, 3), value)}, "optimizer": (jnp.int32(value), {"a/b": jnp.zeros((2, 3))})}


def abstract(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def test_the_newest_ones_are_kept_and_come_back(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest_step() is None
    for step in (1, 2, 3):
        checkpoints.save(step, state(step), {"step": step})
    checkpoints.close()
    again = Checkpoints(tmp_path, keep=2)
    assert again.latest_step() == 3
    assert again.run_of(3) == {"step": 3}
    restored = again.restore(3, abstract(state(0)))
    np.testing.assert_array_equal(restored["params"]["a/b"], np.full((2, 3), 3.0))
    assert int(restored["optimizer"][0]) == 3
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdecimal()) == ["2", "3"]
    again.close()


def test_a_state_of_another_shape_is_one_line(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, state(1), {})
    checkpoints.wait()
    other = {**state(1), "params": {"a/c": jnp.zeros((5,))}}
    with pytest.raises(SatjaxError, match="cannot be read with this config") as raised:
        checkpoints.restore(1, abstract(other))
    assert "\n" not in str(raised.value)
    checkpoints.close()


@pytest.mark.parametrize("part", ["run", "index", "array"])
def test_a_damaged_checkpoint_is_one_line_and_goes_when_the_one_before_will_do(tmp_path, part):
    big = {**state(2), "params": {"a/b": jnp.arange(4000.0)}}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, big, {"step": step})
    damage_checkpoint(tmp_path / "2", part)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.steps() == [2, 1]
        with pytest.raises(Damaged, match=rf"checkpoint {tmp_path}/2 is damaged.* \(.+\)$") as raised:
            checkpoints.run_of(2), checkpoints.restore(2, abstract(big))
        assert "\n" not in str(raised.value)
        assert checkpoints.run_of(1) == {"step": 1}
        np.testing.assert_array_equal(checkpoints.restore(1, abstract(big))["params"]["a/b"], np.arange(4000.0))
        checkpoints.remove(2)
        checkpoints.save(2, big, {"step": "made again"})
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.run_of(checkpoints.latest_step()) == {"step": "made again"}


def test_a_share_that_fails_is_no_damage_checkpoint(tmp_path, monkeypatch):
    """What was read at the next try would be gone."""
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state(1), {})
        checkpoints.wait()

        def fails(*given, **named):
            raise ValueError("Error reading \"d/1\": Input/output error [os_error_code='5']")

        monkeypatch.setattr("orbax.checkpoint.Checkpointer.restore", fails)
        with pytest.raises(ValueError, match="Input/output error"):
            checkpoints.restore(1, abstract(state(0)))


def test_what_one_process_cannot_read_is_damaged_for_all(tmp_path, monkeypatch):
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state(1), {})
        checkpoints.wait()
        monkeypatch.setattr("satjax.checkpoint.on_any", lambda failed: True)
        with pytest.raises(Damaged, match=r"/1 is damaged \(on another host\)$"):
            checkpoints.run_of(1)


def test_params_round_trip_and_damage_is_one_line(tmp_path):
    params = {"x/y": jnp.arange(6.0).reshape(2, 3), "z": jnp.ones(2, jnp.bfloat16)}
    save_params(tmp_path / "params", params)
    shapes = {path: (value.shape, str(value.dtype)) for path, value in params.items()}
    loaded = load_arrays(tmp_path / "params", shapes)
    for path, value in params.items():
        assert loaded[path].dtype == value.dtype
        np.testing.assert_array_equal(loaded[path], value)
    with pytest.raises(SatjaxError, match="cannot be read as this router's parameters"):
        load_arrays(tmp_path / "absent", shapes)


def test_some_params_come_onto_the_host(tmp_path):
    save_params(tmp_path / "params", {"x/y": jnp.arange(6.0).reshape(2, 3), "z": jnp.ones(2, jnp.bfloat16)})
    loaded = load_arrays(tmp_path / "params", {"z": ((2,), "bfloat16")})
    assert loaded.keys() == {"z"}
    assert type(loaded["z"]) is np.ndarray
    np.testing.assert_array_equal(loaded["z"], np.ones(2, jnp.bfloat16))
    assert load_arrays(tmp_path / "params", {}) == {}
    with pytest.raises(SatjaxError, match="cannot be read as this router's parameters"):
        load_arrays(tmp_path / "absent", {"z": ((2,), "bfloat16")})
