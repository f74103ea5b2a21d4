"""How answers reach the client: passed on, given up where it left, counted, and errors in OpenAI's words."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from satjax.serving.api_errors import ApiError, of_status
from satjax.serving.service import Completed, Service

GONE = 499
"""What is noted for a client that left before its answer; nobody receives it."""

T = TypeVar("T")


def relayed(completed: Completed, release: Callable[[], None], seconds: float) -> Response:
    """A candidate's answer for the client; a stream (`Relay`) calls `release` at its end, and ends after so many seconds."""
    answer, routed = completed.answer, completed.routed
    headers = {**answer.headers, "x-satjax-candidate": _header(completed.candidate)}
    if routed is not None:
        headers["x-satjax-routing-ms"] = f"{1000 * routed.seconds:.1f}"
        if completed.probability is not None:
            headers["x-satjax-probability"] = f"{completed.probability:.4f}"
    if answer.chunks is None:
        return Response(answer.content, answer.status, headers)
    headers |= {"cache-control": "no-cache", "x-accel-buffering": "no"}  # nginx would gather the events

    async def close() -> None:
        release()
        await answer.close()

    return Relay(answer.chunks, answer.status, headers, close, seconds)


def _header(name: str) -> str:
    """A candidate's name as a header can hold it."""
    return name.encode("ascii", "backslashreplace").decode()


class Relay(StreamingResponse):
    """A stream that is passed on; its end, or that of the client, is the end of the exchange with the backend.

    A client that does not read is left after so many seconds.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        status: int,
        headers: dict[str, str],
        close: Callable[[], Awaitable[None]],
        seconds: float,
    ):
        super().__init__(chunks, status, headers)
        self._close, self._seconds = close, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the stream on."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await super().__call__(scope, receive, send)
        finally:
            await asyncio.shield(self._close())


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` gives, or None where the client leaves before: then it is cancelled, and with it what it waits for."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    doing, watching = asyncio.create_task(work), asyncio.create_task(gone())
    try:
        await asyncio.wait((doing, watching), return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        for task in (doing, watching):
            task.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)


class Counted:
    """Counts responses by route and status."""

    def __init__(self, app: Any, service: Service):
        self.app, self.responses = app, service.telemetry.responses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and counts what it comes to."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        started = False

        def count(status: int) -> None:
            self.responses.labels(getattr(scope.get("route"), "path_format", "none"), status).inc()

        async def counting(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                count(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, counting)
        except Exception:  # what becomes status 500 of it lies around this middleware
            if not started:
                count(500)
            raise


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 400
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    said = of_status(status)
    if status == 404:  # such as /v1/responses, which OpenAI's newer clients ask first, or an address without its /v1
        paths = sorted({getattr(route, "path", "") for route in request.app.routes})
        there = ", ".join(path for path in paths if path.startswith("/v1/") and "{" not in path)
        said = ApiError(404, f"{said.message}: this server has {there}")
    return JSONResponse(said.body, status, headers)


async def _too_deep(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(ApiError(400, "the request is nested too deeply", code="invalid_json").body, 400)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)


async def _our_error(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(ApiError(500, "an error of the server's own; its log has more").body, 500)


HANDLERS: Mapping[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    ApiError: _api_error,
    HTTPException: _http_error,
    RequestValidationError: _http_error,
    RecursionError: _too_deep,
    ClientDisconnect: _gone,
    Exception: _our_error,
}
"""What is answered for each kind of error."""
