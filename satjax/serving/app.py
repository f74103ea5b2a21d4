"""The routes, and what each of them answers."""

import contextlib
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse

from satjax import __version__
from satjax.errors import SatjaxError
from satjax.instructions import check_instructions
from satjax.policy.conversation import scored_text
from satjax.policy.zoo_file import ROUTED
from satjax.serving.access import Access
from satjax.serving.api_errors import ApiError
from satjax.serving.bodies import (
    CandidateBody,
    ChatRequest,
    Choice,
    ErrorBody,
    Health,
    LeftOut,
    Message,
    Model,
    Models,
    RankRequest,
    RankResponse,
    checked,
    read_body,
    schema_of,
)
from satjax.serving.keys import KeyRing
from satjax.serving.responses import GONE, HANDLERS, Counted, Relay, relayed, unless_gone
from satjax.serving.service import OBJECTIVE_HEADER, Service

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def create_app(service: Service, keys: KeyRing, admin_keys: KeyRing) -> FastAPI:
    """The application. Without `keys` everyone may ask; without `admin_keys` nobody may change the zoo."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.backends, service.batcher:
            yield

    app = FastAPI(
        title="satjax",
        version=__version__,
        summary="Every request is answered by the candidate that is expected to do it best.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        exception_handlers=dict(HANDLERS),
    )
    settings, access = service.settings, Access(keys, admin_keys)

    async def body_of(request: Request) -> Any:
        return await read_body(request, settings.max_body_bytes, settings.body_timeout_seconds)

    @app.post(
        "/v1/chat/completions",
        dependencies=[Depends(access.may_ask)],
        openapi_extra=schema_of(ChatRequest),
        responses=_documented(
            400,
            401,
            403,
            404,
            408,
            413,
            429,
            502,
            503,
            504,
            answer="The candidate's answer, or its stream of events.",
            media=("application/json", "text/event-stream"),
        ),
    )
    async def chat_completions(request: Request) -> Response:
        """Answers by the best candidate, or by the one that is named; on its failure by the next best."""
        service.admit()
        with contextlib.ExitStack() as held:
            held.callback(service.release)
            body = await body_of(request)
            chat = checked(ChatRequest, body)
            header = request.headers.get(OBJECTIVE_HEADER)
            completed = await unless_gone(request, service.complete(chat, body, header))
            if completed is None:
                return Response(status_code=GONE)
            response = relayed(completed, service.release, settings.request_timeout_seconds)
            if isinstance(response, Relay):
                held.pop_all()  # it releases the request itself, at its end
        return response

    @app.post(
        "/v1/rank",
        dependencies=[Depends(access.may_ask)],
        response_model=RankResponse,
        openapi_extra=schema_of(RankRequest),
        responses=_documented(400, 401, 403, 408, 413, 503, 504),
    )
    async def rank(request: Request) -> RankResponse | Response:
        """Ranks the candidates as a chat completion request of the same content would try them; none of them is asked."""
        service.admit()
        try:
            asked = checked(RankRequest, await body_of(request))
            ranked = await unless_gone(request, _ranking(service, asked, request.headers.get(OBJECTIVE_HEADER)))
            return Response(status_code=GONE) if ranked is None else ranked
        finally:
            service.release()

    @app.get("/v1/models", dependencies=[Depends(access.may_ask)], responses=_documented(401, 403))
    async def models() -> Models:
        """What a request can name as its model."""
        return Models(data=[Model(id=name) for name in (ROUTED, *service.candidates)])

    @app.get("/v1/models/{name:path}", dependencies=[Depends(access.may_ask)], responses=_documented(401, 403, 404))
    async def model(name: str) -> Model:
        """One of them."""
        return Model(id=name if name == ROUTED else service.candidate(name, "model").name)

    @app.put(
        "/v1/candidates/{name:path}",
        dependencies=[Depends(access.may_change)],
        status_code=204,
        openapi_extra=schema_of(CandidateBody),
        responses=_documented(400, 401, 403, 408, 413),
    )
    async def add_candidate(name: str, request: Request) -> None:
        """Adds a candidate, or replaces the one of this name, until the server ends; `zoo.toml` stays as it is."""
        await service.add(name, checked(CandidateBody, await body_of(request)))

    @app.delete(
        "/v1/candidates/{name:path}",
        dependencies=[Depends(access.may_change)],
        status_code=204,
        responses=_documented(401, 403, 404, 409),
    )
    async def remove_candidate(name: str) -> None:
        """Removes a candidate until the server ends; what it is answering it finishes."""
        service.remove(name)

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", responses=_documented(503))
    async def readyz() -> Health:
        """503 until every program that routing needs has been compiled once. A change of the zoo compiles them again meanwhile; the server stays ready, and is slower."""
        if not service.batcher.has_been_warm:
            raise ApiError(503, "programs are being compiled; what is asked meanwhile waits for them", code="not_ready")
        return await healthz()

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> Health:
        """That the server runs, and how it is."""
        cooling = sum(map(service.cooling.is_cooling, service.candidates))
        return Health(warm=service.batcher.warm, candidates=len(service.candidates), cooling=cooling)

    @app.get(
        "/metrics",
        dependencies=[Depends(access.may_ask)],
        response_class=PlainTextResponse,
        responses=_documented(401, 403),
    )
    async def metrics() -> PlainTextResponse:
        """For Prometheus."""
        return PlainTextResponse(service.telemetry.text(), media_type="text/plain; version=0.0.4")

    page = files("satjax.serving").joinpath("playground.html").read_text(encoding="utf-8")

    @app.head("/", include_in_schema=False)
    @app.get("/", response_class=HTMLResponse)
    async def playground() -> HTMLResponse:
        """A page to try instructions on."""
        return HTMLResponse(page, headers={"content-security-policy": CONTENT_POLICY, "referrer-policy": "no-referrer"})

    app.add_middleware(Counted, service=service)
    return app


async def _ranking(service: Service, asked: RankRequest, header: str | None) -> RankResponse:
    if (asked.instruction is None) == (asked.messages is None):
        raise ApiError(400, "give either instruction or messages", param="instruction")
    if asked.instruction is not None:
        try:
            check_instructions([asked.instruction])
        except SatjaxError as error:
            raise ApiError(400, str(error), param="instruction") from None
    said = asked.messages or [Message(role="user", content=asked.instruction)]
    messages = [message.model_dump() for message in said]
    choice = Choice(objective=asked.objective, candidates=asked.candidates)
    routed = await service.route(asked, messages, choice, header, asked.expected_output_tokens, choice_at="")
    first = routed.offers[0].candidate if routed.offers else None
    found = await service.evidence(scored_text(messages), first) if asked.evidence and first is not None else None
    return RankResponse(
        objective=str(routed.objective),
        ranking=routed.offers,
        left_out=[LeftOut(candidate=name, reason=reason) for name, reason in routed.left_out.items()],
        cooling=[offer.candidate for offer in routed.offers if service.cooling.is_cooling(offer.candidate)],
        routing_ms=round(1000 * routed.seconds, 3),
        evidence=found,
    )


def _documented(
    *statuses: int, answer: str | None = None, media: tuple[str, ...] = ()
) -> dict[int | str, dict[str, Any]]:
    """Which errors a route gives, and what it answers where no model says so."""
    said: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": "An error."} for status in statuses
    }
    if answer is not None:
        said[200] = {"description": answer, "content": {kind: {"schema": {}} for kind in media}}
    return said
