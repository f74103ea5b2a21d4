"""A server as it runs, in threads: `satjax serve`'s application before backends that do what their model's name says."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from satjax.aptitude import CapabilityProfile
from satjax.policy.zoo_file import read_zoo_file
from satjax.serving.app import create_app
from satjax.serving.keys import KeyRing
from satjax.serving.server import uvicorn_config
from satjax.serving.service import Service, open_service

SECRET = "sk-backend-secret-0123456789"
MODELS = {
    "best": "ok-best",
    "good": "ok-good",
    "erring": "status:500",
    "limited": "status:429",
    "picky": "status:400",
    "refusing": "status:401",
    "dead": "dead",
    "garbled": "garbage",
    "halved": "half",
    "late": "slow:3",
    "stalling": "stall:3",
    "breaking": "break",
    "short": "short",
    "unpaid": "status:402",
    "moved": "status:410",
    "sorry": "sorry",
    "offended": "status:403",
    "exhausted": "status:424",
}
"""What the candidates of `all_kinds` do; the first is the likeliest."""
CHANCES = {name: 0.9 - 0.05 * i for i, name in enumerate(MODELS)}
SERVE = "answer_timeout_seconds = 1.0\nfirst_byte_timeout_seconds = 1.0\ncooldown_seconds = 0.0\nmax_attempts = 2"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


class FakeRouter:
    """Knows candidates by their probability; a text can name one: `best:NAME` makes it the likeliest."""

    def __init__(self, probability: dict[str, float], seconds: float = 0.0):
        self.chances, self.seconds = dict(probability), seconds
        self.batches: list[tuple[str, ...]] = []
        self.profiles: tuple[CapabilityProfile, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        return tuple(self.chances)

    def probability(self, texts: Sequence[str]) -> np.ndarray:
        self.batches.append(tuple(texts))
        time.sleep(self.seconds)
        if any("poison" in text for text in texts):
            raise RuntimeError("a bug")
        rows = [[0.99 if f"best:{name} " in f"{text} " else p for name, p in self.chances.items()] for text in texts]
        return np.array(rows, np.float32)

    def add(self, profile: CapabilityProfile) -> None:
        self.chances[profile.candidate] = 0.5

    def task_likeness(self, text: str) -> None:
        return None

    def warm_up(self, most: int) -> Iterator[tuple[int, int]]:
        return iter(())


class ClientGone(Exception):
    pass


class Backend:
    """An ASGI application of chat completions. The model's name says what it does; what it saw is kept."""

    def __init__(self) -> None:
        self.address = ""
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.cookies: list[bytes | None] = []
        self.cancelled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        asked = json.loads(body)
        self.seen.append(asked)
        self.keys.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        self.cookies.append(dict(scope["headers"]).get(b"cookie"))
        try:
            await self.answer(asked, send, receive)
        except ClientGone:
            self.cancelled += 1

    async def answer(self, asked: dict[str, Any], send: Any, receive: Any) -> None:
        model, text = asked["model"], str(asked["messages"][-1].get("content"))
        kind, _, value = model.partition(":")
        if kind == "status":
            await self._send(send, int(value), json.dumps({"error": {"message": f"no: {self.keys[-1]}"}}).encode())
        elif kind == "short":
            error = {"message": f"no room; key {self.keys[-1]}", "code": "context_length_exceeded"}
            await self._send(send, 400, json.dumps({"error": error}).encode())
        elif kind == "full":
            said = "Input length (900 tokens) exceeds the maximum allowed length (512 tokens)."
            error = json.dumps({"object": "error", "error": {"message": f"{said} {self.keys[-1]}"}}).encode()
            if not asked.get("stream"):
                return await self._send(send, 400, error)
            await self._start(send, 200, [(b"content-type", b"text/event-stream")])
            await send({"type": "http.response.body", "body": b"data: " + error + b"\n\n"})
        elif kind == "sorry":
            error = {"message": "Provider returned error", "code": 429}
            said = json.dumps({"id": None, "choices": None, "error": error}).encode()
            if not asked.get("stream"):
                return await self._send(send, 200, said)
            await self._start(send, 200, [(b"content-type", b"text/event-stream")])
            for part in (b": keep-alive\n\n", b": working\ndata: " + said[:20], said[20:] + b"\n\n"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(0.05)
            await send({"type": "http.response.body"})
        elif kind == "mute":
            await self._start(send, 200, [(b"content-type", b"text/event-stream")])
            await send({"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True})
            await self._sleep(float(value), receive)
        elif kind == "garbage":
            await self._send(send, 200, b'{"choices": [')
        elif kind == "cookie":
            headers = [(b"content-type", b"application/json"), (b"set-cookie", b"session=of-another; Path=/")]
            await self._start(send, 200, headers)
            await send({"type": "http.response.body", "body": b'{"choices": [{}]}'})
        elif kind == "odd":
            await self._start(send, 200, [(b"content-type", b"text/event-stream"), (b"x-request-id", "→".encode())])
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        elif kind == "cut":
            await self._start(send, 200, [(b"content-type", b"text/event-stream")])
            event = json.dumps({"id": "x", "choices": [{"index": 0, "delta": {"content": "whole"}}]}).encode()
            for part in (b"data: " + event + b"\r\n", b"\r\ndata: " + event[:20]):
                await send({"type": "http.response.body", "body": part, "more_body": True})
                await asyncio.sleep(0.05)
            raise RuntimeError("breaks off")
        elif kind == "half":
            await self._start(send, 200, [(b"content-type", b"application/json"), (b"content-length", b"1000")])
            await send({"type": "http.response.body", "body": b'{"id"', "more_body": True})
            raise RuntimeError("breaks off")
        elif asked.get("stream"):
            await self._stream(asked, kind, value, text, send, receive)
        else:
            if kind == "slow":
                await self._sleep(float(value), receive)
            reply = f"{model} says {text}"
            message: dict[str, Any] = {"role": "assistant", "content": reply}
            if asked.get("tools"):
                function = asked["tools"][0].get("function")
                name = str(function.get("name")) if isinstance(function, dict) else "none"
                call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}
                message = {"role": "assistant", "content": None, "tool_calls": [call]}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
            whole = {
                "id": "x",
                "object": "chat.completion",
                "created": 1,
                "model": model,
                "choices": [choice],
                "usage": usage,
            }
            await self._send(send, 200, json.dumps(whole).encode())

    async def _stream(self, asked: dict[str, Any], kind: str, value: str, text: str, send: Any, receive: Any) -> None:
        if kind == "slow":
            await self._sleep(float(value), receive)
        await self._start(send, 200, [(b"content-type", b"text/event-stream")])
        words = [asked["model"], " says ", *text.split(" ")]
        for i, word in enumerate(words):
            if kind == "stall" and i == 2:
                await self._sleep(float(value), receive)
            if kind == "break" and i == 2:
                raise RuntimeError("breaks off")
            delta = {"role": "assistant", "content": word if i < 3 else f" {word}"}
            event = {
                "id": "x",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": asked["model"],
                "choices": [{"index": 0, "delta": delta}],
            }
            await send(
                {"type": "http.response.body", "body": f"data: {json.dumps(event)}\n\n".encode(), "more_body": True}
            )
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _sleep(self, seconds: float, receive: Any) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (await receive())["type"] != "http.disconnect":
                    pass
                raise ClientGone

    async def _start(self, send: Any, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send(self, send: Any, status: int, body: bytes) -> None:
        await self._start(
            send, status, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        )
        await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def running(app: Any, shutdown_seconds: float = 5.0) -> Iterator[tuple[str, uvicorn.Server]]:
    """An application behind a real socket, in a thread; its address, and the server."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(uvicorn_config(app, shutdown_seconds))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
    assert not thread.is_alive()


def dead_address() -> str:
    """Where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def write_zoo(path: Path, address: str, models: dict[str, str], serve: str = "", **changes: dict[str, str]) -> Path:
    """A zoo file of candidates by what their backend does (`dead`: nothing is there); `changes` are TOML values by candidate and key."""
    lines = ["[serve]", serve]
    for i, (name, model) in enumerate(models.items()):
        values = {
            "base_url": f'"{dead_address() if model == "dead" else address + "/v1"}"',
            "model": f'"{model}"',
            "usd_per_million_input_tokens": f"{float(i + 1)}",
            "usd_per_million_output_tokens": f"{float(2 * i + 2)}",
            "context_tokens": "8192",
            "tools": "true",
        } | changes.get(name, {})
        lines += [f'[candidates."{name}"]', *(f"{key} = {value}" for key, value in values.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@contextlib.contextmanager
def serving(
    router: Any, zoo: Path, keys: Sequence[str] = (), admin_keys: Sequence[str] = ()
) -> Iterator[tuple[str, Service]]:
    """The server of a zoo file: its address, and the service behind it."""
    service = open_service(router, read_zoo_file(zoo), zoo)
    with running(create_app(service, KeyRing(keys), KeyRing(admin_keys))) as (address, _):
        yield address, service


def ask(address: str, model: str = "satjax", text: str = "hello there", **more: Any) -> httpx.Response:
    """One chat completion, as plain HTTP."""
    headers = more.pop("headers", {})
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(f"{address}/v1/chat/completions", json=body, headers=headers, timeout=30)


@contextlib.contextmanager
def all_kinds(backend: Backend, folder: Path, admin_keys: Sequence[str]) -> Iterator[tuple[str, Service]]:
    """The server of `MODELS`, of which some send a key, one has no tools and one a small context."""
    changes = {"good": {"tools": "false"}, "best": {"context_tokens": "2000", "api_key_env": '"BEST_KEY"'}}
    changes |= {name: {"api_key_env": '"BEST_KEY"'} for name in ("picky", "short", "offended")} | {
        "refusing": {"api_key_env": '"BEST_KEY"'}
    }
    zoo = write_zoo(folder / "zoo.toml", backend.address, MODELS, SERVE, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BEST_KEY", SECRET)
        with serving(FakeRouter(CHANCES), zoo, admin_keys=admin_keys) as (address, service):
            yield address, service


def say(text: str) -> list[dict[str, str]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]
