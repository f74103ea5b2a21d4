"""Who is missing, who does not belong, and who was lost: real processes and sockets, without JAX."""

import signal
import socket
import subprocess
import sys
import time

import pytest

from satjax.errors import TryAgain
from satjax.processes.roll_call import Roster, answer
from tests.processes import finish, free_port

CODE = """
import sys, time
from satjax.processes import roll_call
from satjax.errors import SatjaxError
process, of, port, timeout, seconds, action = sys.argv[1:]
roll_call.GRACE = 0.2
roll_call.socket.gethostname = lambda: f"host-{process}"
hosts = ("a", "b", "c", "d") if action == "named" else ()
if action == "tell":
    send = roll_call.Connection.send
    roll_call.Connection.send = lambda *given, **named: (send(*given, **named), print("came", file=sys.stderr, flush=True))
try:
    call = roll_call.answer(roll_call.Roster(f"127.0.0.1:{port}", int(of), int(process), hosts), float(timeout))
except SatjaxError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
call.watch()
print("all here", file=sys.stderr, flush=True)
time.sleep(float(seconds))
if action == "fail":
    call.fail(2, "the disk is full")
call.leave()
"""


def process(
    number: int, of: int, port: int, *, timeout: float = 20, seconds: float = 0, action: str = ""
) -> subprocess.Popen:
    arguments = [str(value) for value in (number, of, port, timeout, seconds, action)]
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def connected(port: int) -> socket.socket:
    """A connection to who listens there, as soon as somebody does."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_all_come_in_any_order_and_leave_one_by_one():
    port = free_port()
    late = [process(n, 4, port, seconds=0.1 * n) for n in (3, 1, 2)]
    time.sleep(0.5)
    assert finish([*late, process(0, 4, port)], 30) == [(0, "all here\n")] * 4


def test_the_missing_are_named_by_all_that_came():
    port = free_port()
    first = process(0, 4, port, timeout=5)
    connected(port).close()
    for code, said in finish([first, process(2, 4, port)], 30):
        assert code == 75
        assert (
            "2 of 4 processes did not come within 5 s: process 1, process 3; here: process 0 (host-0), process 2 (host-2)"
            in said
        )


def test_the_missing_are_named_by_host_where_the_cluster_knows_it():
    ((_, said),) = finish([process(0, 4, free_port(), timeout=0.2, action="named")], 30)
    assert "process 1 (b), process 2 (c), process 3 (d)" in said
    many = Roster("h:1", 20, 0)
    assert many.names(list(range(20))).endswith("process 7 and 12 more")


def test_one_that_died_while_the_others_were_awaited_may_come_again():
    port = free_port()
    first, dying = process(0, 3, port), process(1, 3, port, action="tell")
    assert dying.stderr.readline() == "came\n"
    dying.kill()
    dying.communicate()
    assert finish([first, process(1, 3, port), process(2, 3, port)], 30) == [(0, "all here\n")] * 3


@pytest.mark.parametrize("number", [1, 0], ids=["member", "first"])
def test_a_kill_ends_all_with_its_name(number):
    port = free_port()
    processes = [process(n, 3, port, seconds=60) for n in range(3)]
    for each in processes:
        assert each.stderr.readline() == "all here\n"
    start = time.monotonic()
    processes[number].send_signal(signal.SIGKILL)
    results = finish(processes, 30)
    assert time.monotonic() - start < 5
    for code, said in results[:number] + results[number + 1 :]:
        assert code == 75
        assert said.startswith(f"satjax: process {number} (host-{number}) was lost; start all processes again")


@pytest.mark.parametrize("number", [1, 0], ids=["member", "first"])
def test_a_failure_ends_all_with_its_reason_and_code(number):
    port = free_port()
    results = finish([process(n, 3, port, seconds=60 * (n != number), action="fail") for n in range(3)], 30)
    assert [code for code, _ in results] == [2, 2, 2]
    assert results[number][1] == "all here\nsatjax: the disk is full\n"
    assert results[2][1] == f"all here\nsatjax: process {number} (host-{number}) failed: the disk is full\n"


def test_processes_that_do_not_go_together_are_refused():
    port = free_port()
    for code, said in finish([process(0, 3, port), process(1, 4, port)], 30):
        assert code == 2
        assert "process 1 (host-1) has --num-processes 4, process 0 (host-0) has 3" in said
    port = free_port()
    twins = [process(0, 3, port), process(1, 3, port), process(1, 3, port)]
    for code, said in finish(twins, 30):
        assert code == 2
        assert "two processes have --process-id 1, on host-1 and host-1" in said


def test_strangers_at_the_port_change_nothing():
    port = free_port()
    first = process(0, 2, port)
    stranger = connected(port)
    stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert finish([first, process(1, 2, port)], 30) == [(0, "all here\n")] * 2
    stranger.close()


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(TryAgain, match=rf"process 0 cannot listen at port {port} \(Address already in use\)"):
            answer(Roster(f"127.0.0.1:{port}", 2, 0), 0.1)


def test_a_host_that_has_no_address_is_awaited_and_named():
    with pytest.raises(
        TryAgain, match=r"process 0 \(first\) did not come within 0 s at --coordinator no.such.host.invalid:1"
    ):
        answer(Roster("no.such.host.invalid:1", 2, 1, ("first",)), 0.1)
