"""How wide tables stand."""

import subprocess
import sys

import pytest

from satjax.render.console import WIDTH_OF_FILES, open_console


@pytest.mark.parametrize(("columns", "width"), [(None, WIDTH_OF_FILES), ("70", 70)])
def test_what_goes_to_a_pipe_is_as_wide_as_is_said_or_wide(columns, width, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    open_console().print("word " * 60)
    assert width - 5 <= max(map(len, capsys.readouterr().out.splitlines())) <= width


def test_a_reader_that_leaves_early_is_no_error():
    code = "import time; time.sleep(0.5); from satjax.render.console import open_console; open_console().print('x' * 9)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
