"""What processes agree on, as one process with several devices sees it; tests/test_distributed.py has several processes."""

import jax
import numpy as np

from satjax.config import MeshConfig
from satjax.processes.agreement import StopVote, check_same, from_first, is_first, on_any, wait_for_all
from satjax.sharding import make_mesh


def test_one_process_agrees_with_itself():
    assert is_first()
    check_same("config", b"a")
    assert [on_any(True), on_any(False)] == [True, False]
    wait_for_all("here")
    value = np.arange(3)
    assert from_first(value) is value


def test_one_process_stops_at_once_when_it_is_told_to():
    received: list[int] = []
    stop = StopVote(received, make_mesh(MeshConfig()))
    assert not stop()
    received.append(15)
    assert stop()


def test_votes_are_counted_one_step_later(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    received: list[int] = []
    stop = StopVote(received, make_mesh(MeshConfig(2, 2, 2)))
    assert not stop()
    received.append(15)
    assert [stop(), stop(), stop()] == [False, True, True]
    assert StopVote([15], make_mesh(MeshConfig()))()
