"""What a run ends with."""

import pytest

from satjax.export.directory import read_router
from satjax.files import locked, replacing
from satjax.train import train
from satjax.training.finish import remove_cut_off
from tests.tiny import ABILITY_ALONE, tiny_config


@pytest.mark.parametrize("instructions", [0, 200])
def test_a_router_whose_probabilities_are_raw_scores_says_so(tmp_path, caplog, instructions):
    (stage,) = ABILITY_ALONE["stages"]
    changes = {**ABILITY_ALONE, "stages": ({**stage, "steps": 8},), "calibration_instructions": instructions}
    left = tmp_path / "run" / ".router-8nrnxixs"
    left.mkdir(parents=True)
    router = train(tiny_config(tmp_path, **changes), tmp_path / "run")
    assert not left.exists(), "an export that was killed left it"
    fitted = read_router(router).calibration.fitted_on
    assert bool(fitted) == bool(instructions)
    said = [record.getMessage() for record in caplog.records if "raw scores" in record.getMessage()]
    assert len(said) == (not instructions)
    for line in said:
        assert line.startswith(f"{router}: its probabilities are raw scores")
        assert line.endswith("`satjax calibrate`")
        assert "\n" not in line


def test_what_killed_exports_left_goes_and_what_may_be_the_only_router_stays(tmp_path):
    target, moved, others = tmp_path / "router", tmp_path / ".router-old-abcdefgh", tmp_path / ".router2-abcdefgh"
    for directory in (target, moved / "router", others):
        directory.mkdir(parents=True)
    killed = replacing(target)
    left = killed.__enter__()
    (left / "params").write_bytes(b"large")
    with locked(target):
        remove_cut_off(target)
        assert left.is_dir(), "another process may be writing it"
    remove_cut_off(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == [moved.name, others.name, "router"]
