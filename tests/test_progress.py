"""How far the work is: beside standard output, and in lines where there is no terminal."""

import sys

import pytest

from satjax.progress import Pace, standard_error
from satjax.render.progress import assessment_progress, progress, steps
from satjax.training.run_log import RunLog


def test_progress_keeps_standard_output_clean(capsys):
    with progress("scoring") as on_progress:
        on_progress(1, 2)
        on_progress(2, 2)
    assert capsys.readouterr().out == ""


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter([0.0, 0.0, 10.0, 20.0, 22.0, 60.0])
    monkeypatch.setattr("satjax.progress.time.monotonic", lambda: next(clock))
    with steps() as on_progress:
        for done in range(4):
            on_progress("baselines", done, 4)
        on_progress("baselines", 4, 4)
    assert capsys.readouterr().err.splitlines() == ["baselines: 2 of 4, about 20 s left"]


def test_what_was_done_before_the_first_word_says_nothing_of_the_time_left(capsys, monkeypatch):
    clock = iter([0.0, 100.0, 120.0])
    monkeypatch.setattr("satjax.progress.time.monotonic", lambda: next(clock))
    with steps() as on_progress:
        on_progress("scoring", 50, 80)
        on_progress("scoring", 60, 80)
    assert capsys.readouterr().err.splitlines() == ["scoring: 60 of 80, about 40 s left"]


def test_steps_of_several_kinds(capsys):
    with steps() as on_progress:
        on_progress("embeddings", 1, 2)
        on_progress("baselines", 1, 3)
        on_progress("embeddings", 2, 2)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("tokens", "note"), [((1000, 500), ", $2 of about $4"), ((None, None), "")])
def test_what_an_assessment_costs_stands_beside_where_tokens_are_known(capsys, monkeypatch, tokens, note):
    clock = iter([0.0, 0.0, 20.0])
    monkeypatch.setattr("satjax.progress.time.monotonic", lambda: next(clock))
    with assessment_progress((0.001, 0.002)) as on_progress:
        on_progress(1, 4, *tokens)
        on_progress(2, 4, *tokens)
    assert capsys.readouterr().err.splitlines() == [f"items: 2 of 4, about 40 s left{note}"]


def test_a_runs_bars_stand_below_those_of_what_runs_it(tmp_path, monkeypatch):
    """Two displays on consoles of their own draw over each other."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    standard_error.cache_clear()
    with steps() as on_progress, RunLog(tmp_path, first_step=0, total_steps=2) as log:
        on_progress("folds", 1, 3)
        log.write(1, "ability", {"loss": 0.5})
        assert log.bar.console is standard_error()
        log.bar.refresh()
    standard_error.cache_clear()


def test_the_time_left_goes_from_the_first_point_of_each_kind_of_work(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 30.0, 31.0, 200.0])
    monkeypatch.setattr("satjax.progress.time.monotonic", lambda: next(clock))
    pace = Pace()
    assert pace.point("one", 2, 8) == (False, "")
    assert pace.point("other", 0, 8) == (False, "")
    assert pace.point("one", 4, 8) == (True, "about 50 s left")
    pace.said()
    assert pace.point("other", 1, 8) == (False, "about 2 min left")
    assert pace.point("other", 8, 8) == (True, "about 0 s left")
