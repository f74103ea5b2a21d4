"""What a run ends with."""

import pytest

from satjax.export import read_router
from satjax.train import train
from tests.tiny import ABILITY_ALONE, tiny_config


@pytest.mark.parametrize("instructions", [0, 200])
def test_a_router_whose_probabilities_are_raw_scores_says_so(tmp_path, caplog, instructions):
    (stage,) = ABILITY_ALONE["stages"]
    changes = {**ABILITY_ALONE, "stages": ({**stage, "steps": 8},), "calibration_instructions": instructions}
    router = train(tiny_config(tmp_path, **changes), tmp_path / "run")
    fitted = read_router(router).calibration.fitted_on
    assert bool(fitted) == bool(instructions)
    said = [record.getMessage() for record in caplog.records if "raw scores" in record.getMessage()]
    assert len(said) == (not instructions)
    for line in said:
        assert line.startswith(f"{router}: its probabilities are raw scores")
        assert line.endswith("`satjax calibrate`")
        assert "\n" not in line
