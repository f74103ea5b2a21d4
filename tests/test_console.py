"""How wide tables stand."""

import pytest

from satjax.render.console import WIDTH_OF_FILES, open_console


@pytest.mark.parametrize(("columns", "width"), [(None, WIDTH_OF_FILES), ("70", 70)])
def test_what_goes_to_a_pipe_is_as_wide_as_is_said_or_wide(columns, width, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    open_console().print("word " * 60)
    assert width - 5 <= max(map(len, capsys.readouterr().out.splitlines())) <= width
