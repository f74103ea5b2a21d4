"""One request at one candidate's backend: what it answers, streamed or whole, or how it failed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal

import httpx

from satjax.endpoints.address import chat_url, key_header
from satjax.endpoints.retry_after import retry_after
from satjax.endpoints.statuses import OF_THE_REQUEST, REFUSALS, TRANSIENT
from satjax.policy.zoo_file import ServedCandidate, Settings
from satjax.serving.keys import secret
from satjax.serving.overflow import is_overflow

Fault = Literal[
    "connect", "timeout", "rate_limit", "server_error", "refused", "forbidden", "broken", "rejected", "too_long"
]
AT_ONCE: tuple[Fault, ...] = ("connect", "timeout", "rate_limit", "refused")
"""Faults after which a backend is left alone for a while the first time already."""
PASSED_ON = ("content-type", "x-request-id")
EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
IDLE, IDLE_SECONDS = 64, 2.0
"""Connections that are kept for the next request, and for how long: less than backends keep theirs (uvicorn's 5 seconds), so that none is closed
while a request is on its way; and no more, because httpx looks at each of them for every request.
"""


class Failed(Exception):
    """Another candidate may try: nothing has come that a client could be given, or only `answer`, that this candidate does not take the request."""

    def __init__(self, fault: Fault, detail: str, retry_after: float = 0.0, answer: "Answer | None" = None):
        super().__init__(f"{fault} ({detail})")
        self.fault, self.retry_after, self.answer = fault, retry_after, answer


@dataclass
class Answer:
    """A backend's answer: `content` whole, or `chunks` as they come; `close` gives the connection back, whatever has been read."""

    status: int
    headers: dict[str, str]
    content: bytes = b""
    chunks: AsyncIterator[bytes] | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    response: httpx.Response | None = None

    async def close(self) -> None:
        """Ends the exchange with the backend; one that is not over is cancelled there."""
        if self.response is not None:
            await self.response.aclose()


class Backends:
    """The client that all backends share, and the keys of those that need one; an async context."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._key: dict[str, str] = {}
        self._given: set[tuple[str, str]] = set()
        limits = httpx.Limits(
            max_connections=settings.max_requests, max_keepalive_connections=IDLE, keepalive_expiry=IDLE_SECONDS
        )
        timeout = httpx.Timeout(settings.first_byte_timeout_seconds, connect=settings.connect_timeout_seconds)
        # Cookies know no ports: what one backend sets would go to others of its host, and with other clients' requests.
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx.AsyncClient(limits=limits, timeout=timeout, follow_redirects=False, cookies=no_cookies)

    async def __aenter__(self) -> "Backends":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    def learn_key(self, candidate: ServedCandidate, where: str) -> None:
        """Reads the candidate's key from the environment. Raises SatjaxError where it is not there."""
        if candidate.api_key_env:
            self._key[candidate.api_key_env] = secret(candidate.api_key_env, f"{where}: candidates.{candidate.name}")
            self._given.add((candidate.api_key_env, candidate.base_url))

    def may_have_key(self, candidate: ServedCandidate) -> bool:
        """Whether the key that it names goes to its address already, or it names none."""
        return not candidate.api_key_env or (candidate.api_key_env, candidate.base_url) in self._given

    async def ask(
        self,
        candidate: ServedCandidate,
        body: Mapping[str, Any],
        deadline: float,
        on_end: Callable[[bool], None] = lambda whole: None,
    ) -> Answer:
        """Sends a chat completion request, with the candidate's own model name, and waits for the answer, or for the first bytes of its stream.

        `deadline` is a time of the event loop; `on_end` hears of a stream whether all of it came. Raises Failed for whatever is no success: another
        candidate may do better.
        """
        streamed, settings = body.get("stream") is True, self.settings
        patience = settings.first_byte_timeout_seconds if streamed else settings.answer_timeout_seconds
        until = min(deadline, asyncio.get_running_loop().time() + patience)
        request = self._request(candidate, body, patience)
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout_at(until) as timeout:
                response = await self._client.send(request, stream=True)
                _check_status(response)
                if streamed and response.status_code == 200:
                    return await self._stream(response, candidate, timeout, until, deadline, on_end)
                return await self._whole(response, candidate)
        except BaseException as error:
            if response is not None:
                await response.aclose()
            if isinstance(error, TimeoutError | httpx.TimeoutException):
                fault: Fault = "connect" if isinstance(error, httpx.ConnectTimeout) else "timeout"
                raise Failed(fault, type(error).__name__) from None
            if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol):
                raise Failed("connect", type(error).__name__) from None
            if isinstance(error, httpx.HTTPError):
                raise Failed("broken", type(error).__name__) from None
            raise

    def _request(self, candidate: ServedCandidate, body: Mapping[str, Any], patience: float) -> httpx.Request:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if candidate.api_key_env:
            headers |= key_header(candidate.base_url, self._key[candidate.api_key_env])
        return self._client.build_request(
            "POST",
            chat_url(candidate.base_url),
            content=json.dumps({**body, "model": candidate.model}, separators=(",", ":")).encode(),
            headers=headers,
            timeout=httpx.Timeout(patience, connect=self.settings.connect_timeout_seconds),
        )

    async def _stream(
        self,
        response: httpx.Response,
        candidate: ServedCandidate,
        timeout: asyncio.Timeout,
        until: float,
        deadline: float,
        on_end: Callable[[bool], None],
    ) -> Answer:
        """The stream, once the first event with data has come, which may be an error in place of an answer.

        Comments before it say that the backend works: while they come, `timeout` is moved from `until` to the `deadline`, and those that come
        after `until` are passed on without the event, so that the client hears, too, that something goes on.
        """
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            raise Failed("broken", "no stream of events")
        chunks = response.aiter_raw()
        now = asyncio.get_running_loop().time
        whole, part, data = b"", b"", None
        while data is None and len(whole) + len(part) <= self.settings.max_answer_bytes:
            try:
                events, part = _events(part, await anext(chunks))
            except StopAsyncIteration:
                if _first_data(part) is None:
                    raise Failed("broken", "a stream without data") from None
                events, part = part, b""
            whole, data = whole + events, _first_data(events)
            if whole and data is None:
                if now() >= until:
                    break
                timeout.reschedule(deadline)
        if data is not None and _is_error(data):
            if is_overflow(400, data):
                headers = {"content-type": "application/json"}
                raise Failed("too_long", "an error", answer=Answer(400, headers, self._without_key(data, candidate)))
            raise Failed("broken", "an error in place of a stream")
        relayed = self._relay(whole, part, chunks, deadline, on_end)
        return Answer(response.status_code, _passed_on(response), chunks=relayed, response=response)

    async def _relay(
        self,
        whole: bytes,
        part: bytes,
        chunks: AsyncIterator[bytes],
        deadline: float,
        on_end: Callable[[bool], None],
    ) -> AsyncIterator[bytes]:
        """The stream as it comes, event by event; where it breaks off, an event that says so, so that nobody takes half an answer for a whole one.

        `whole` are the events that have come already, `part` is the beginning of the next one.
        """
        while True:
            if whole:
                yield whole
            try:
                async with asyncio.timeout_at(deadline):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                on_end(True)
                if part:
                    yield part
                return
            except (httpx.HTTPError, TimeoutError) as error:
                late = isinstance(error, TimeoutError | httpx.TimeoutException)
                on_end(False)
                said = "the candidate's stream " + ("took too long" if late else "broke off")
                event = {
                    "error": {"message": said, "type": "server_error", "param": None, "code": "stream_interrupted"}
                }
                yield b"data: " + json.dumps(event).encode() + b"\n\n"
                return
            whole, part = _events(part, chunk)
            if len(part) > self.settings.max_answer_bytes:
                whole, part = part, b""

    async def _whole(self, response: httpx.Response, candidate: ServedCandidate) -> Answer:
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > self.settings.max_answer_bytes:
                raise Failed("broken", f"an answer of more than {self.settings.max_answer_bytes} bytes")
        await response.aclose()
        usage: Any = None
        if response.status_code == 200:
            try:
                value = json.loads(content)
                usage = value.get("usage") if isinstance(value, dict) else None
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                raise Failed("broken", "an answer that is no JSON object")
            choices = value.get("choices")
            if not isinstance(choices, list) or not choices:  # some report an error with status 200
                raise Failed("broken", "an answer without choices")
            if all(map(_broke_off, choices)):
                raise Failed("broken", "an error in place of an answer")
            return Answer(200, _passed_on(response), bytes(content), usage=usage if isinstance(usage, dict) else {})
        answer = Answer(response.status_code, _passed_on(response), self._without_key(bytes(content), candidate))
        said = f"status {answer.status}"
        if is_overflow(answer.status, answer.content):
            raise Failed("too_long", said, answer=answer)
        if answer.status == 403:  # of the key, or of one prompt that moderation takes offence at
            raise Failed("forbidden", said, answer=answer)
        # Another candidate may take images, more choices, or the prompt that this one's moderation does not.
        raise Failed("rejected", said, answer=answer)

    def _without_key(self, content: bytes, candidate: ServedCandidate) -> bytes:
        """What a backend says of an error, which may repeat the key that it was sent."""
        key = self._key.get(candidate.api_key_env)
        return content.replace(key.encode(), b"***") if key else content


def _events(part: bytes, chunk: bytes) -> tuple[bytes, bytes]:
    """What has come of a stream up to the end of its last whole event, and what has come of the next one."""
    content = part + chunk
    begin = max(0, len(part) - 3)
    ends = [found + len(end) for end in EVENT_ENDS if (found := content.rfind(end, begin)) >= 0]
    return content[: max(ends, default=0)], content[max(ends, default=0) :]


def _first_data(events: bytes) -> bytes | None:
    """The first line of data in events of a stream; None where they have none, as comments."""
    return next((line[5:] for line in events.splitlines() if line.startswith(b"data:")), None)


def _is_error(data: bytes) -> bool:
    """Whether an event's data reports an error, as some backends do with status 200."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return False
    choices = value.get("choices") if isinstance(value, dict) else None
    if isinstance(choices, list) and choices:
        return all(map(_broke_off, choices))
    return isinstance(value, dict) and bool(value.get("error"))


def _broke_off(choice: Any) -> bool:
    """Whether a choice is an error, as gateways give it where the one behind them breaks off."""
    return isinstance(choice, dict) and (bool(choice.get("error")) or choice.get("finish_reason") == "error")


def _passed_on(response: httpx.Response) -> dict[str, str]:
    found = {name: response.headers[name] for name in PASSED_ON if name in response.headers}
    return {name: value for name, value in found.items() if value.isascii()}


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    if status == 429:
        raise Failed("rate_limit", "status 429", retry_after(response.headers.get("retry-after")))
    if status == 408:
        raise Failed("timeout", "status 408")
    if status in REFUSALS:
        raise Failed("refused", f"status {status}")
    if status in TRANSIENT:
        raise Failed("server_error", f"status {status}", retry_after(response.headers.get("retry-after")))
    if status != 200 and status not in OF_THE_REQUEST:
        raise Failed("broken", f"status {status}")
