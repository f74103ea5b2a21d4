"""Request and response bodies: their models, and how a request's body is read within limits of size and time."""

import asyncio
import json
import math
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from satjax.policy.objective import PATTERN
from satjax.serving.api_errors import ApiError
from satjax.serving.evidence import Evidence
from satjax.serving.offers import Offer

ObjectiveText = Annotated[
    str,
    Field(
        description="`quality`, `probability - LAMBDA * price` (LAMBDA per USD), or `cheapest above THRESHOLD`.",
        examples=["probability - 20 * price"],
        json_schema_extra={"pattern": PATTERN},
    ),
]
Count = Annotated[int, Field(ge=0, le=2**31)]
MOST_KEYS = 256
"""Of a request's own fields. Each wrong one would be an error, and so would each wrong element of a list, hence `fail_fast` below: to word a million of them stops the server for seconds."""
MOST_ENTRIES = 10_000
"""Of a list: to look at each of a million takes seconds, too."""


def _few(value: Any) -> Any:
    if isinstance(value, list) and len(value) > MOST_ENTRIES:
        raise PydanticCustomError("too_many_entries", f"more than {MOST_ENTRIES} entries")
    return value


Names = Annotated[list[str], Field(min_length=1, fail_fast=True), BeforeValidator(_few)]
Tools = Annotated[list[dict[str, Any]], Field(fail_fast=True), BeforeValidator(_few)]


class FewKeys(BaseModel):
    """Refuses more fields than any request has, before it looks at one."""

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > MOST_KEYS:
            raise PydanticCustomError("too_many_fields", f"more than {MOST_KEYS} fields")
        return value


class Message(BaseModel):
    """One message; what else it holds is the candidate's affair."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: str
    content: Any = None


Messages = Annotated[
    list[Message],
    Field(min_length=1, fail_fast=True, description="As in OpenAI's chat completions."),
    BeforeValidator(_few),
]


class Strict(FewKeys):
    """Takes what its fields say and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Choice(Strict):
    """How one request is routed."""

    objective: ObjectiveText | None = None
    candidates: Names | None = Field(None, description="Choose among these only.")


class Asked(FewKeys):
    """What of a chat completion request decides which candidates can take it, beside its messages."""

    tools: Tools | None = None
    functions: Tools | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None


class ChatRequest(Asked):
    """OpenAI's chat completion request. What is not listed here goes to the candidate as it is; `satjax` does not."""

    model_config = ConfigDict(strict=True, extra="allow")

    model: str = Field(description="`satjax` is routed; a candidate's name goes straight to that candidate.")
    messages: Messages
    stream: bool | None = None
    satjax: Choice | None = None


class RankRequest(Asked):
    """One instruction, or a conversation, to be ranked for and not answered. Tools and limits of tokens count as in a chat completion request."""

    model_config = ConfigDict(strict=True, extra="forbid")

    instruction: str | None = Field(None, description="Give this or `messages`.")
    messages: Messages | None = None
    objective: ObjectiveText | None = None
    candidates: Names | None = None
    expected_output_tokens: Count | None = None
    evidence: bool = Field(False, description="Also the aptitude tasks that speak for and against the first candidate.")


class LeftOut(BaseModel):
    """A candidate that cannot take the request."""

    candidate: str
    reason: str = Field(description="What of `context_tokens` and `tools` in the zoo file rules it out.")


class RankResponse(BaseModel):
    """Candidates in the order in which a chat completion request of the same content would try them: by the objective, those that cool last."""

    objective: str
    ranking: list[Offer]
    left_out: list[LeftOut] = Field(description="Candidates that such a request would not try, and why.")
    cooling: list[str] = Field(description="Of the ranking: those that have just failed, and so stand last.")
    routing_ms: float
    evidence: Evidence | None = Field(None, description="null where it was not asked for, or the router cannot say.")


class CandidateBody(Strict):
    """A candidate as in `zoo.toml`; `profile` is the whole profile, where the router does not know the candidate."""

    base_url: str
    model: str
    usd_per_million_input_tokens: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    usd_per_million_output_tokens: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    context_tokens: Annotated[int, Field(ge=1, le=2**31)]
    tools: bool
    api_key_env: str = Field("", description="A variable whose key goes to this base_url by `zoo.toml`, too.")
    profile: dict[str, Any] | None = None


class Model(BaseModel):
    """One entry of the list of models."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "satjax"


class Models(BaseModel):
    """What `model` can be."""

    object: str = "list"
    data: list[Model]


class Health(BaseModel):
    """`warm`: every program that routing needs is compiled. `cooling`: how many candidates have just failed and are asked last; who asks without a key is not told which."""

    status: str = "ok"
    warm: bool
    candidates: int
    cooling: int


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error as OpenAI's API words it."""

    error: ErrorDetail


Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, limit: int, seconds: float) -> Any:
    """The request's JSON. Raises ApiError for one that is too long (413), too slow (408) or no JSON (400)."""
    too_long = ApiError(413, f"the request is longer than {limit} bytes", code="request_too_large")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise too_long
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limit:
                    raise too_long
    except TimeoutError:
        raise ApiError(408, f"the request's body took longer than {seconds:g} seconds", code="timeout") from None
    try:
        return json.loads(content.decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError):
        raise ApiError(400, "the request's body is no JSON", code="invalid_json") from None


def checked(model: type[Body], value: Any) -> Body:
    """The body as its model. Raises ApiError (400) naming the first field that is not as it should be."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        param = ".".join(map(str, first["loc"])) or None
        message = f"{param or 'the body'}: {first['msg']}"
        raise ApiError(400, message.encode(errors="replace").decode()[:500], param=param) from None


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """What FastAPI's `openapi_extra` says of a body that is read by `read_body`."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return whole(parts[value["$ref"].rsplit("/", 1)[-1]])
            return {key: whole(part) for key, part in value.items()}
        return [whole(part) for part in value] if isinstance(value, list) else value

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": whole(schema)}}}}


def _no_number(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)
