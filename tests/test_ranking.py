"""What people see of a ranking; names are never cut, however narrow the terminal."""

import pytest

from satjax.render.ranking import ranking_table
from satjax.router import Ranked

LONG = "an-organization/a-candidate-with-a-name-that-is-much-longer-than-most-2024-08-06"


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")


def test_a_ranking(capsys):
    ranking_table("Sort [3, 1, 2].", [Ranked("able", 0.75), Ranked("[red]b[/red]", 0.5)], 5)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == "Sort [3, 1, 2]."
    assert lines[2].split() == ["#", "candidate", "P(handles", "it)"]
    assert lines[3].split() == ["1", "able", "0.750", "█" * 18]
    assert lines[4].split() == ["2", "[red]b[/red]", "0.500", "█" * 12]
    assert lines[5] == "(3 more candidates)"


def test_names_are_folded_not_cut(capsys, narrow):
    ranking_table("x", [Ranked(LONG, 1.0)], 1)
    out = capsys.readouterr().out
    assert LONG in "".join(word for word in out.split() if not set(word) & {"█", "#"}).replace("1.000", "")
    assert "1.000" in out
    assert "…" not in out
    assert "more candidates" not in out


@pytest.mark.parametrize("columns", ["24", "40", "59"])
def test_names_have_room_before_bars(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    ranking_table("x", [Ranked("a-candidate", 0.5)], 1)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["1", "a-candidate", "0.500"]


def test_very_narrow_terminals_show_names_all_the_same(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "16")
    ranking_table("x", [Ranked("a-candidate", 0.5)], 1)
    assert "a-candidate" in capsys.readouterr().out


def test_a_long_instruction_shows_its_ends(capsys):
    ranking_table("start " + "middle " * 100 + "the end", [Ranked("a", 0.1)], 1)
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("start middle")
    assert "…" in out
    assert "the end" in out
    assert len(out) < 400
