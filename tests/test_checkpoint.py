import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from satjax.checkpoint import Checkpoints, load_arrays, save_params
from satjax.errors import SatjaxError


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


@pytest.mark.parametrize("part", ["run", "state"])
def test_a_damaged_checkpoint_is_one_line_with_the_step_to_go_on_from(tmp_path, part):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), {"step": step})

    def damage(step):
        files = [tmp_path / str(step) / "run" / "metadata"]
        if part == "state":
            files = [path for path in (tmp_path / str(step) / "state").glob("**/d/*") if path.is_file()]
            assert files
        for path in files:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def read():
        with Checkpoints(tmp_path, keep=2) as checkpoints:
            step = checkpoints.latest_step()
            return checkpoints.run_of(step), checkpoints.restore(step, abstract(state(0)))

    damage(2)
    advice = (
        rf"checkpoint {tmp_path}/2 is damaged.*; remove {tmp_path}/2 to go on from step 1, or use another --workdir"
    )
    with pytest.raises(SatjaxError, match=advice) as raised:
        read()
    assert "\n" not in str(raised.value)
    shutil.rmtree(tmp_path / "2")
    assert read()[0] == {"step": 1}
    damage(1)
    with pytest.raises(SatjaxError, match=r"is damaged.*; remove it to start over, or use another --workdir"):
        read()


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
