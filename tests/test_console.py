"""How wide tables stand."""

import os
import subprocess
import sys

import pytest

from satjax.render.console import WIDTH_OF_FILES, open_console


@pytest.mark.parametrize(
    ("columns", "width"), [(None, WIDTH_OF_FILES), ("70", 70), ("0", WIDTH_OF_FILES), ("-5", WIDTH_OF_FILES)]
)
def test_what_goes_to_a_pipe_is_as_wide_as_is_said_or_wide(columns, width, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    open_console().print("word " * 60)
    assert width - 5 <= max(map(len, capsys.readouterr().out.splitlines())) <= width


WITH_WORK_TO_DO = """
import sys
from satjax.render.console import open_console
console = open_console()
console.print("x" * 9)
console.print("y" * 9)
print("z", flush=True)
open(sys.argv[1], "w").close()
sys.exit(3)
"""


def test_a_reader_that_left_keeps_nothing_from_being_done(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", WITH_WORK_TO_DO, str(tmp_path / "done")]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (3, b"")
    assert (tmp_path / "done").exists()
