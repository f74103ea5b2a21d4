"""An OpenAI-compatible endpoint for tests, and a proxy that injects the faults of real networks between it and whoever asks."""

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[str], str]


@dataclass
class Stub:
    """What a stub has seen: how often each prompt was answered, the last request's body, and how many requests were open at once at most."""

    answer: Answer
    key: str | None = None
    delay: float = 0.0
    usage: bool = True
    asked: Counter[str] = field(default_factory=Counter)
    body: dict[str, Any] = field(default_factory=dict)
    open: int = 0
    most_open: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


def completion(text: str | None, finish: str = "stop", usage: bool = True) -> dict[str, Any]:
    """A chat completion of 7 tokens read and 3 written, which it tells unless without `usage`."""
    message = {"role": "assistant", "content": text}
    told = {"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}} if usage else {}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        **told,
    }


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one piece: no waiting for acknowledgements

    def log_message(self, *arguments: Any) -> None:
        pass

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def send(
        self, status: int, content: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def stub_endpoint(answer: Answer, key: str | None = None, delay: float = 0.0) -> Iterator[Stub]:
    """Answers every chat completion with `answer(prompt)`, after `delay` seconds; 401 without the `key`, which the complaint repeats."""
    stub = Stub(answer, key, delay)

    class Handler(_Quiet):
        def do_POST(self) -> None:
            body = json.loads(self.read())
            if stub.key and self.headers.get("Authorization") != f"Bearer {stub.key}":
                return self.send(
                    401, json.dumps({"error": f"no access with {self.headers.get('Authorization')}"}).encode()
                )
            if self.path != "/v1/chat/completions":
                return self.send(404, b'{"error": "not found"}')
            with stub.lock:
                stub.open += 1
                stub.most_open = max(stub.most_open, stub.open)
            time.sleep(stub.delay)
            prompt = body["messages"][-1]["content"]
            with stub.lock:
                stub.asked[prompt] += 1
                stub.body, stub.open = body, stub.open - 1
            self.send(200, json.dumps(completion(stub.answer(prompt), usage=stub.usage)).encode())

    with _serving(Handler) as stub.url:
        yield stub


FAULTS = (
    "429",
    "429 with a date",
    "500",
    "half",
    "no length",
    "garbage",
    "no choices",
    "a list",
    "dropped",
    "silence",
    "html",
)


@contextlib.contextmanager
def faulty_proxy(stub: Stub, faults: Callable[[str], str | None]) -> Iterator[str]:
    """The stub's endpoint behind a proxy; `faults(prompt)` names what happens to a request instead of an answer, None for nothing."""
    host = stub.url.removeprefix("http://").removesuffix("/v1")

    class Handler(_Quiet):
        def do_POST(self) -> None:
            content = self.read()
            prompt = json.loads(content)["messages"][-1]["content"]
            fault = faults(prompt)
            if fault is None or fault == "half":
                upstream = HTTPConnection(host)
                upstream.request("POST", self.path, content, dict(self.headers))
                response = upstream.getresponse()
                answer = response.read()
                upstream.close()
                if fault is None:
                    return self.send(response.status, answer)
                self.send(200, answer[: len(answer) // 2], length=len(answer))
                return self.hang_up()
            match fault:
                case "429":
                    self.send(429, b'{"error": "slow down"}', {"Retry-After": "0.01"})
                case "429 with a date":
                    self.send(429, b"slow down", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
                case "no length":
                    self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"choices": [')
                    self.hang_up()
                case "garbage":
                    self.send(200, b"\xff\xfe{not json")
                case "no choices":
                    self.send(200, b'{"object": "chat.completion", "choices": []}')
                case "a list":
                    self.send(200, b"[1, 2, 3]")
                case "filtered":
                    self.send(400, b'{"error": {"code": "content_filter", "message": "the content management policy"}}')
                case "html":
                    self.send(502, b"<html>bad gateway</html>")
                case "dropped":
                    self.hang_up()
                case "silence":
                    time.sleep(1.0)
                    self.hang_up()
                case status:
                    self.send(int(status), b'{"error": "out of order"}')

    with _serving(Handler) as url:
        yield url
