"""The roll call of a run on several hosts: who is missing at the start, and who is lost on the way, by name and at once.

JAX's coordination service would end every process with SIGABRT, minutes later, and name a number at most. Here every process keeps one connection
to process 0, made before JAX takes over the same port: a host that does not come has made none, and one that dies closes it.
"""

import contextlib
import json
import os
import selectors
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from satjax import __version__
from satjax.errors import INTERRUPTED_EXIT_CODE, SatjaxError, TryAgain, some

BETWEEN_TRIES = 0.3
"""Seconds."""
HELLO_TIME = 5.0
"""Seconds that a connection has to say who it is (anything may knock at an open port), and a message to be sent."""
LONGEST_MESSAGE = 2**20
"""Bytes: thousands of host names."""
LONGEST_LIST = 8
GRACE = 3.0
"""Seconds in which a loss is heard of here, where collectives fail of it everywhere at once."""
KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 4}
"""A host without power or network closes nothing: a minute of silence is the end."""


class Connection:
    """JSON lines over a socket."""

    def __init__(self, peer: socket.socket):
        self.peer, self.buffer = peer, b""
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, **message: Any) -> None:
        """Raises OSError where nobody is there."""
        self.peer.settimeout(HELLO_TIME)
        self.peer.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float | None) -> dict[str, Any] | None:
        """The next message; None where the other side is gone, or speaks another language. Raises TimeoutError."""
        self.peer.settimeout(timeout)
        try:
            while b"\n" not in self.buffer:
                if len(self.buffer) > LONGEST_MESSAGE or not (more := self.peer.recv(4096)):
                    return None
                self.buffer += more
                if not self.buffer.startswith(b"{"):
                    return None
            line, self.buffer = self.buffer.split(b"\n", 1)
            message = json.loads(line)
        except TimeoutError:
            raise
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def is_open(self) -> bool:
        """Whether the other side is still there, nothing being due from it."""
        self.peer.settimeout(0)
        try:
            return bool(self.peer.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Lets go."""
        self.peer.close()


@dataclass(frozen=True)
class Roster:
    """Who ought to come. `hosts` are the names of the processes' hosts where the cluster tells them, else empty."""

    coordinator: str
    num_processes: int
    process_id: int
    hosts: tuple[str, ...] = ()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of process 0."""
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)

    def name(self, process: int, found: dict[int, str] | None = None) -> str:
        """A process as people look for it."""
        host = (found or {}).get(process) or (self.hosts[process] if process < len(self.hosts) else "")
        return f"process {process}" + (f" ({host})" if host else "")

    def names(self, processes: list[int], found: dict[int, str] | None = None) -> str:
        """A list of them."""
        return some([self.name(process, found) for process in processes], LONGEST_LIST)


class RollCall:
    """The open connections of a run in which all came; made by `answer`."""

    def __init__(self, roster: Roster, found: dict[int, str], peers: dict[int, Connection]):
        self.roster, self.found, self.peers = roster, found, peers
        self._ending, self._leaving = threading.Lock(), False

    def watch(self) -> None:
        """From here on this process ends by itself where another one is lost or fails."""
        threading.Thread(target=self._watch, name="roll-call", daemon=True).start()

    def fail(self, code: int, reason: str, details: str = "") -> NoReturn:
        """Ends this process, and all others with the same exit code; where another one was lost first, that is the reason.

        `details` are printed here in place of the reason.
        """
        time.sleep(GRACE)
        self._end(code, details or f"satjax: {reason}", f"{self._name(self.roster.process_id)} failed: {reason}")

    def leave(self) -> None:
        """The work is done here: that connections close is no loss from now on."""
        self._leaving = True
        for peer in self.peers.values():
            with contextlib.suppress(OSError):
                peer.send(left=True)

    def _name(self, process: int) -> str:
        return self.roster.name(process, self.found)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for process, connection in self.peers.items():
                selector.register(connection.peer, selectors.EVENT_READ, process)
            while selector.get_map():
                for key, _ in selector.select():
                    message = self.peers[key.data].receive(None)
                    if message is None:
                        selector.unregister(key.fileobj)
                        if not self._leaving:
                            lost = f"{self._name(key.data)} was lost; start all processes again: training goes on from its last checkpoint"
                            self._end(INTERRUPTED_EXIT_CODE, f"satjax: {lost}", lost)
                    elif "end" in message:
                        self._end(int(message["end"]), f"satjax: {message['why']}", message["why"])
                    elif "left" in message:
                        selector.unregister(key.fileobj)

    def _end(self, code: int, here: str, elsewhere: str) -> NoReturn:
        self._ending.acquire()  # held for good: there is one end
        for peer in self.peers.values():
            with contextlib.suppress(OSError):
                peer.send(end=code, why=elsewhere)
        # Not sys.exit: JAX would wait there for processes that do not come, in threads and collectives that nothing interrupts.
        print(here.rstrip(), file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def answer(roster: Roster, timeout: float) -> RollCall:
    """Waits until every process has come, `timeout` seconds at most.

    Raises TryAgain where some did not come, naming them, and SatjaxError where processes were started that do not go together.
    """
    deadline = time.monotonic() + timeout
    return _call(roster, timeout, deadline) if roster.process_id == 0 else _respond(roster, timeout, deadline)


def _hello(roster: Roster) -> dict[str, Any]:
    return {
        "satjax": __version__,
        "process": roster.process_id,
        "of": roster.num_processes,
        "host": socket.gethostname(),
    }


def _call(roster: Roster, timeout: float, deadline: float) -> RollCall:
    own = _hello(roster)
    found, peers = {0: own["host"]}, dict[int, Connection]()

    def refuse(error: SatjaxError) -> NoReturn:
        for connection in peers.values():
            with contextlib.suppress(OSError):
                connection.send(end=error.exit_code, why=str(error))
        raise error

    with _listener(roster, deadline) as listener:
        while len(peers) < roster.num_processes - 1 or not all(peer.is_open() for peer in peers.values()):
            for process in [process for process, peer in peers.items() if not peer.is_open()]:
                peers.pop(process).close()
            if time.monotonic() > deadline:
                refuse(_missing(roster, found, sorted(peers), timeout))
            listener.settimeout(BETWEEN_TRIES)
            try:
                connection = Connection(listener.accept()[0])
                hello = connection.receive(HELLO_TIME)
            except TimeoutError:
                continue
            if hello is None or not hello.keys() >= own.keys():
                connection.close()
                continue
            process = hello["process"]
            known = peers.get(process)
            if known and known.is_open():
                error = f"two processes have --process-id {process}, on {found[process]} and {hello['host']}; give each its own"
                peers[-1] = connection
                refuse(SatjaxError(error))
            peers[process], found[process] = connection, hello["host"]
            for key, what in (("of", "--num-processes"), ("satjax", "satjax")):
                if hello[key] != own[key]:
                    refuse(
                        SatjaxError(
                            f"{roster.name(process, found)} has {what} {hello[key]}, {roster.name(0, found)} has {own[key]}; "
                            "all need the same"
                        )
                    )
    for connection in peers.values():
        with contextlib.suppress(OSError):  # one that is lost from here on is noticed by `watch`
            connection.send(hosts=found)
    return RollCall(roster, found, peers)


def _listener(roster: Roster, deadline: float) -> socket.socket:
    """A listening socket at the coordinator's port, as soon as the run before has left it; JAX takes the port over afterwards."""
    port = roster.address[1]
    while True:
        for both in (True, False) if socket.has_dualstack_ipv6() else (False,):
            family = socket.AF_INET6 if both else socket.AF_INET
            try:
                return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=4096)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
        if time.monotonic() > deadline:
            raise TryAgain(
                f"--coordinator {roster.coordinator}: process 0 cannot listen at port {port} ({reason}); end what holds it, or name another port"
            )
        time.sleep(BETWEEN_TRIES)


def _respond(roster: Roster, timeout: float, deadline: float) -> RollCall:
    reason = "nothing answers"
    while time.monotonic() < deadline:
        try:
            connection = Connection(socket.create_connection(roster.address, timeout=HELLO_TIME))
            connection.send(**_hello(roster))
            # Process 0 alone knows who is missing, and has a deadline of its own.
            message = connection.receive(None)
        except OSError as error:
            reason, message = str(error.strerror or error), None
        if message is None:  # nobody there yet, or still the JAX service of the run before
            time.sleep(BETWEEN_TRIES)
        elif "end" in message:
            kind = TryAgain if message["end"] == INTERRUPTED_EXIT_CODE else SatjaxError
            raise kind(message["why"])
        else:
            found = {int(process): host for process, host in message["hosts"].items()}
            return RollCall(roster, found, {0: connection})
    raise TryAgain(
        f"{roster.name(0)} did not come within {timeout:.0f} s at --coordinator {roster.coordinator} ({reason}); "
        "start it, or look into its log, and run the same command again"
    )


def _missing(roster: Roster, found: dict[int, str], came: list[int], timeout: float) -> TryAgain:
    absent = sorted(set(range(roster.num_processes)) - {0, *came})
    return TryAgain(
        f"{len(absent)} of {roster.num_processes} processes did not come within {timeout:.0f} s: {roster.names(absent, found)}; "
        f"here: {roster.names([0, *came], found)}; look into the logs of the missing ones, and run the same command again"
    )
