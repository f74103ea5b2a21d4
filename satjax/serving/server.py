"""Runs the server until it is told to stop, and lets what is running finish."""

import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from satjax.errors import SatjaxError
from satjax.export.directory import read_router
from satjax.policy.zoo_file import read_zoo_file
from satjax.processes.interruption import ended_by_sigterm
from satjax.router import Router
from satjax.serving.app import create_app
from satjax.serving.keys import KeyRing
from satjax.serving.service import check_zoo, open_service

LOOPBACK = ("127.0.0.1", "::1", "localhost")
BACKLOG = 2048
KEEP_ALIVE_SECONDS = 75
"""How long a client's connection may be idle: longer than proxies and pools keep theirs, so that they close it, not we under a request."""


def check_open(host: str, keys: KeyRing, without_keys: bool) -> None:
    """Raises SatjaxError where other machines could ask without a key, and nobody said that they may."""
    if host not in LOOPBACK and not len(keys) and not without_keys:
        raise SatjaxError(
            f"--host {host} can be reached from other machines, and there is no API key; set SATJAX_API_KEYS or give --api-keys FILE, "
            "or --without-keys where something before the server checks who asks"
        )


def serve(router_dir: Path, zoo_path: Path, host: str, port: int, keys: KeyRing, admin_keys: KeyRing) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what is running (`shutdown_seconds` of the zoo file at most).

    Clients are refused until the router is loaded: who waits for an answer meanwhile takes the server for hung. Raises SatjaxError for a zoo file or
    router that does not fit, and where the port is taken; TryAgain for SIGTERM before it serves.
    """
    zoo = read_zoo_file(zoo_path)
    listening = bind(host, port)
    try:
        # Before the router is loaded, which takes long and may fetch its base weights.
        check_zoo(zoo, zoo_path, [profile.candidate for profile in read_router(router_dir).profiles])
        with ended_by_sigterm("told to stop before the router was loaded"):
            service = open_service(Router.load(router_dir, serving=True), zoo, zoo_path)
        listen(listening)
        app = create_app(service, keys, admin_keys)
        server = uvicorn.Server(uvicorn_config(app, zoo.settings.shutdown_seconds))
        where = f"http://{host if ':' not in host else f'[{host}]'}:{listening.getsockname()[1]}"
        print(f"serving {len(zoo.candidates)} candidates at {where}", file=sys.stderr, flush=True)
        # uvicorn raises the signal that stopped it once more at the end, and finds these then: all is finished, and that is a success.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listening])
    finally:
        listening.close()


def uvicorn_config(app: object, shutdown_seconds: float) -> uvicorn.Config:
    """No log of requests: satjax's own says what matters, and never a text or a key."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(shutdown_seconds)),
    )


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address that is ours from now on, and that clients are refused at until it listens; port 0 is any free one.

    Raises SatjaxError where the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if os.name == "posix":  # what is left of connections to a server before this one keeps no address
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise SatjaxError(
            f"cannot listen at {host}, port {port} ({reason}); choose another with --host or --port"
        ) from error
    return bound


def listen(bound: socket.socket) -> None:
    """Lets clients connect. Raises SatjaxError where another process has listened at the address since it was bound."""
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise SatjaxError(
            f"cannot listen at {host}, port {port} any more ({error.strerror}); choose another with --host or --port"
        ) from error
