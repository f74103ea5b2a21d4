"""Signals between steps: the first Ctrl-C asks, a second one insists."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

import satjax.processes.distributed
from satjax.cli import main
from satjax.errors import TryAgain
from satjax.processes import interruption
from satjax.processes.interruption import ended_by_sigterm, stop_requests
from tests.processes import free_port


@pytest.fixture
def clock(monkeypatch):
    """Seconds, as the module reads them."""
    now = [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def hangs_up():
    """SIGHUP as it is without `nohup`, under which whatever is started ignores it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_the_first_ctrl_c_says_what_it_waits_for_and_the_second_is_an_interrupt(clock, capfd):
    before = signal.getsignal(signal.SIGINT)
    with stop_requests() as stop:
        send(signal.SIGINT)
        assert stop == [signal.SIGINT]
        said = "satjax: stopping after what is under way; Ctrl-C twice more stops at once\n"
        assert capfd.readouterr().err == said
        clock[0] += 2
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL, "a third one ends what the second cannot"
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err == ""


def test_work_that_waits_for_nothing_is_ended_by_the_second(clock, capfd):
    with stop_requests(waits=False):
        send(signal.SIGINT)
        assert capfd.readouterr().err == "satjax: stopping after what is under way; Ctrl-C once more stops at once\n"


def test_one_ctrl_c_may_come_twice(clock):
    """`timeout -s INT` sends it to its child, and to the child's group."""
    with stop_requests() as stop:
        send(signal.SIGINT)
        clock[0] += 0.5
        send(signal.SIGINT)
        assert stop == [signal.SIGINT] * 2


def test_sigterm_asks_however_often_it_comes(clock, capfd):
    with stop_requests() as stop:
        for _ in range(3):
            send(signal.SIGTERM)
            clock[0] += 2
        assert stop == [signal.SIGTERM] * 3
        send(signal.SIGINT)
        assert "stopping" in capfd.readouterr().err, "the first Ctrl-C"
    assert len(stop) == 4


def test_sighup_asks_as_sigterm_does(hangs_up, capfd):
    before = signal.getsignal(signal.SIGHUP)
    with stop_requests() as stop:
        send(signal.SIGHUP)
        assert stop == [signal.SIGHUP]
        with pytest.raises(TryAgain, match=r"^interrupted before the first step"), ended_by_sigterm():
            send(signal.SIGHUP)
        assert stop == [signal.SIGHUP]
    assert signal.getsignal(signal.SIGHUP) is before


def test_sighup_that_is_ignored_stays_ignored():
    """By `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_sigterm(), stop_requests() as stop:
            send(signal.SIGHUP)
            assert stop == []
    finally:
        signal.signal(signal.SIGHUP, before)


HUNG_UP = """
import fcntl, os, sys, termios, time
from satjax.errors import TryAgain
from satjax.processes.interruption import {context}
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
try:
    with {context}() as stop:
        print("ready", flush=True)
        while not stop:
            time.sleep(0.01)
except TryAgain:
    pass
for stream in (sys.stdout, sys.stderr):
    print("said to nobody", file=stream, flush=True)
open({path!r}, "w").write("saved")
"""


@pytest.mark.parametrize("context", ["stop_requests", "ended_by_sigterm"])
def test_what_is_said_once_the_terminal_is_closed_is_no_error(context, hangs_up, tmp_path):
    here, there = pty.openpty()
    code = HUNG_UP.format(context=context, path=str(tmp_path / "file"))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=there, stdout=there, stderr=there, start_new_session=True
    )
    os.close(there)
    with contextlib.closing(os.fdopen(here, "rb", buffering=0)) as terminal:
        assert terminal.read(7).startswith(b"ready")
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "file").read_text() == "saved"


@pytest.fixture
def first_of_its_container():
    """SIGTERM without a handler does nothing."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_is_heard_while_other_hosts_are_awaited(first_of_its_container, capsys, monkeypatch):
    answer = satjax.processes.distributed.answer

    def awaited(*given):
        threading.Timer(0.3, send, [signal.SIGTERM]).start()
        return answer(*given)

    monkeypatch.setattr("satjax.processes.distributed.answer", awaited)
    others = ["--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2", "--process-id", "0"]
    arguments = ["train", "--config", "absent.py", "--workdir", "absent", *others, "--join-timeout", "8"]
    assert main(arguments) == 75
    assert capsys.readouterr().err == "satjax: interrupted; run the same command again\n"


def test_sigterm_is_heard_after_the_last_step(first_of_its_container, capsys, monkeypatch):
    def export(*given):
        send(signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("satjax.config.load.load_config", lambda *given: None)
    monkeypatch.setattr("satjax.train.train", export)
    assert main(["train", "--config", "absent.py", "--workdir", "absent"]) == 75
    assert capsys.readouterr().err == "satjax: interrupted; run the same command again\n"
