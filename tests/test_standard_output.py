"""Standard output that is closed, full, of few characters, or left by its reader: no traceback."""

import io
import os
import subprocess
import sys

import pytest

from satjax.errors import SatjaxError
from satjax.render.standard_output import can_print, safe_output

QUIET = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""With it Python writes at once, and not at its end."""


HELP = ["-m", "satjax", "--help"]
MUCH = ["-c", "from satjax.render.standard_output import safe_output\nwith safe_output(): print('x' * 100_000)"]
"""More than Python keeps until the end."""


def python(arguments: list[str], to: int) -> subprocess.CompletedProcess:
    command = [sys.executable, *arguments]
    return subprocess.run(command, stdout=to, stderr=subprocess.PIPE, text=True, check=False, env=QUIET)


@pytest.mark.parametrize("arguments", [HELP, MUCH], ids=["help", "much"])
def test_a_reader_that_left_is_no_error(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    ended = python(arguments, writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")  # noqa: PTH110
def test_a_full_disk_is_one_line():
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ended = python(HELP, full.fileno())
    assert ended.returncode == 2
    assert ended.stderr.startswith("satjax: standard output cannot be written (No space left on device); make room")
    assert ended.stderr.count("\n") == 1


def test_a_full_disk_under_a_file_is_none_of_its_business():
    with pytest.raises(OSError, match="elsewhere"), safe_output():
        raise OSError(28, "No space left on device", "elsewhere")


def test_none_is_as_good_as_one_that_nobody_reads(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with safe_output():
        print("hello")
        assert not sys.stdout.isatty()


@pytest.mark.parametrize(("encoding", "written"), [("latin-1", b"caf\xe9 ?"), ("ascii", b"caf? ?"), ("utf-8", None)])
def test_characters_that_it_has_not_become_question_marks(monkeypatch, encoding, written):
    text, content = "café █", io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding))
    assert can_print(text) == (written is None)
    with safe_output():
        print(text, end="")
    assert content.getvalue() == (written or text.encode())


def test_what_fails_within_is_raised():
    with pytest.raises(SatjaxError, match="mine"), safe_output():
        raise SatjaxError("mine")
