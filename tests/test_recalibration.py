"""What people see of a calibration."""

import pytest

from satjax.calibration import Calibration, Threshold
from satjax.render.recalibration import calibration_tables


def test_thresholds_of_free_candidates_save_nothing_and_shares_that_none_keeps_say_so(capsys):
    calibration = Calibration(thresholds=(Threshold(0.9, 0.7, 0.5, 0.0, 0.55, 0.0),))
    found = {"brier": 0.1, "ece": None, "log_loss": 0.3}
    figures = {
        "split": "val",
        "instructions": 9,
        "candidates": ["a"],
        "method": "platt",
        "correctness": {"before": found, "platt": found},
    }
    figures |= {"best_candidate": "a", "n_with_a_choice": 9, "missed_shares": [0.99], "rarely_beside_the_best": []}
    calibration_tables(calibration, figures)
    out = capsys.readouterr().out
    assert "platt (written)" in out
    assert "before (perhaps fitted on these)" in out
    assert 'other folds than fitted on, but for "before"' in " ".join(out.split())
    calibration_tables(calibration, {**figures, "split": "test"})
    other = capsys.readouterr().out
    assert "fitted on these" not in other
    assert "but for" not in other
    assert out.index("99 %") < out.index("90 %") < out.index("0.700")
    assert "none does" in out
    assert "90.91 %" in out
    assert "(9 instructions)" in out
    assert "thresholds without" not in out
    calibration_tables(calibration, {**figures, "n_with_a_choice": 7, "rarely_beside_the_best": ["b", "[/c]"]})
    out = capsys.readouterr().out
    assert "(7 of 9 instructions: those that it and a cheaper one answered)" in out
    assert "thresholds without b, [/c]: too few outcomes on instructions that a answered, too\n" in out


@pytest.mark.parametrize(("brier", "warns"), [(0.1, False), (0.1004, False), (0.11, True)])
def test_probabilities_that_got_worse_are_a_warning_of_one_line(brier, warns, capsys):
    before = {"brier": 0.1, "ece": None, "log_loss": 0.3}
    figures = {"split": "test", "instructions": 12, "candidates": ["a"], "method": "platt", "no_thresholds": "-"}
    calibration_tables(Calibration(), figures | {"correctness": {"before": before, "platt": before | {"brier": brier}}})
    lines = [line for line in capsys.readouterr().out.splitlines() if "worse than before: 12 instructions" in line]
    assert len(lines) == warns


def test_why_there_are_no_thresholds_is_said_as_it_was_found(capsys):
    of = {"brier": 0.1, "ece": None, "log_loss": 0.3}
    figures = {"split": "test", "instructions": 12, "candidates": ["a"], "method": "platt"}
    figures |= {"correctness": {"before": of, "platt": of}, "no_thresholds": "the --zoo has no price of [/a]"}
    calibration_tables(Calibration(), figures)
    assert "no thresholds: the --zoo has no price of [/a]" in capsys.readouterr().out
