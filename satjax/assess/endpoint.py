"""An OpenAI-compatible endpoint: one question, one reply, over a network that fails in every way that networks do."""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import tenacity

from satjax.endpoints.address import chat_url, check_address, key_header
from satjax.endpoints.retry_after import retry_after
from satjax.endpoints.statuses import REFUSALS, TRANSIENT
from satjax.errors import SatjaxError

log = logging.getLogger("satjax")

ATTEMPTS = 8
TIMEOUTS = 3
"""Of one question: what took too long mostly does so again, and is to be paid for all the same."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds: the k-th wait is drawn evenly from 0 to `FIRST_WAIT * 2^(k - 1)`, cut at the longest ("full jitter")."""
LONGEST_ASKED_WAIT = 600.0
"""Seconds of Retry-After that are waited; an endpoint that asks for more is left alone."""
LARGEST_REPLY = 8 * 2**20
"""Bytes of a response."""
MOST_TOKENS = 2**53
"""Of a reply; whoever says more counts something else."""
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
"""Fields of a request that cut a reply short, and change nothing of one that is shorter."""
UNLAWFUL = 451
FILTERED = re.compile(
    r"content[ _-]?(?:filter|policy|management|moderation|exists risk)|moderation|usage (?:polic|guideline)|flagged"
    r"|safety (?:filter|polic|system|reason|check)|responsible[ _]?ai|data[ _]?inspection|inappropriate content|prohibited[ _]content|敏感",
    re.IGNORECASE,
)
"""How vendors say that it is what a question says that they do not answer."""
HOPELESS = REFUSALS | {301, 302, 303, 307, 308}
"""What no other question will fare better with."""


@dataclass(frozen=True)
class Endpoint:
    """Where a candidate answers. `body` is laid over every request, its nulls taking fields out; `timeout` is in seconds, of a whole request."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    max_tokens: int = 2048
    body: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 300.0

    def __post_init__(self) -> None:
        check_address(self.base_url, "--base-url", "the variable that --api-key-env names")
        if ours := {"messages", "stream"}.intersection(self.body):
            raise SatjaxError(f"--body sets {min(ours)!r}, which is for satjax to set; leave it out")
        if self.api_key and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise SatjaxError("the key holds characters that no HTTP header can; copy it again")
        try:
            json.dumps(self.request(""), ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise SatjaxError(f"--model or --body holds what no request can ({error}); mend it") from error

    @property
    def url(self) -> str:
        """Of chat completions."""
        return chat_url(self.base_url)

    def request(self, prompt: str) -> dict[str, Any]:
        """The body that asks one thing: greedy, where the endpoint lets us choose."""
        asked = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        return {key: value for key, value in {**asked, **self.body}.items() if value is not None}


@dataclass(frozen=True)
class Reply:
    """What came back: the text, `length` in `finish` where the token limit cut it short, and the tokens that it took, 0 where nobody says."""

    text: str
    finish: str
    tokens_in: int
    tokens_out: int

    @property
    def is_whole(self) -> bool:
        """Whether the model has said what it had to say: not where it broke off, or a filter took all of it."""
        return self.finish != "error" and (self.finish != "content_filter" or bool(self.text.strip()))

    @property
    def tells_tokens(self) -> bool:
        """Whether the endpoint said how many tokens it took: no prompt takes none, and no text."""
        return self.tokens_in > 0 and (self.tokens_out > 0 or not self.text)


class Declined(Exception):
    """The endpoint will not answer this question, however often it is asked."""


class Filtered(Declined):
    """A filter will not have it answered: whoever asks the model in earnest gets no answer either."""


class AttemptFailed(Exception):
    """This attempt failed and the next one may not; `wait` seconds are what the endpoint asks for."""

    def __init__(self, message: str, wait: float = 0.0, reached: bool = True):
        super().__init__(message)
        self.wait, self.reached = wait, reached


class TimedOut(AttemptFailed):
    """No complete response came in time; where the endpoint was at work on one, it may want to be paid for it."""


async def ask(client: httpx.AsyncClient, endpoint: Endpoint, prompt: str, *, patient: bool = True) -> Reply:
    """The reply to one prompt, asked again with growing, jittered waits, at least as long as Retry-After, where an attempt fails.

    Fewer attempts may time out than may fail. The first one that fails is logged, unless the endpoint says how long to wait. Where not `patient`,
    an address that cannot be reached at all is not tried again. Raises `Declined` for a question that the endpoint refuses, `AttemptFailed` where the
    last attempt failed, `TimedOut` where as many did as may, and SatjaxError where it refuses everything (no such model or address, no access).
    """
    timeouts = 0

    def is_last(state: tenacity.RetryCallState) -> bool:
        nonlocal timeouts
        timeouts += isinstance(_error(state), TimedOut)
        return timeouts >= TIMEOUTS or _is_last(state)

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, AttemptFailed) and (patient or error.reached)
        ),
        stop=is_last,
        wait=_wait,
        before_sleep=_tell,
        sleep=asyncio.sleep,
        reraise=True,
    )
    try:
        return await retrying(_attempt, client, endpoint, prompt)
    except TimedOut as error:
        if timeouts < TIMEOUTS:  # most attempts failed otherwise: nobody knows what it would have taken
            raise AttemptFailed(str(error)) from error
        raise


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _is_last(state: tenacity.RetryCallState) -> bool:
    error = _error(state)
    return state.attempt_number >= ATTEMPTS or (isinstance(error, AttemptFailed) and error.wait > LONGEST_ASKED_WAIT)


def _wait(state: tenacity.RetryCallState) -> float:
    error = _error(state)
    asked = error.wait if isinstance(error, AttemptFailed) else 0.0
    return asked + tenacity.wait_random_exponential(FIRST_WAIT, LONGEST_WAIT)(state)


def _tell(state: tenacity.RetryCallState) -> None:
    error = _error(state)
    if state.attempt_number == 1 and isinstance(error, AttemptFailed) and not error.wait:
        log.warning("a question is asked again: %s", error)


async def _attempt(client: httpx.AsyncClient, endpoint: Endpoint, prompt: str) -> Reply:
    headers = key_header(endpoint.base_url, endpoint.api_key) if endpoint.api_key else {}
    try:
        async with (
            asyncio.timeout(endpoint.timeout),
            client.stream("POST", endpoint.url, json=endpoint.request(prompt), headers=headers) as response,
        ):
            content = bytearray()
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > LARGEST_REPLY:
                    raise AttemptFailed(f"a response of more than {LARGEST_REPLY:,} bytes")
    except TimeoutError as error:
        raise TimedOut(
            f"no complete response within {endpoint.timeout:g} seconds; a larger --timeout waits longer"
        ) from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise AttemptFailed(f"no connection ({_line(str(error)) or 'timed out'})", reached=False) from error
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise AttemptFailed(f"the connection broke ({_line(str(error)) or type(error).__name__})") from error
    if response.status_code == 200:
        return _reply(bytes(content), endpoint.api_key)
    said = f"HTTP {response.status_code}: {_said(bytes(content), endpoint.api_key)}"
    if response.status_code in TRANSIENT:
        raise AttemptFailed(said, wait=retry_after(response.headers.get("Retry-After")))
    if response.status_code in HOPELESS:
        raise SatjaxError(
            f"{endpoint.url} refuses model {endpoint.model!r} ({said}); check --base-url (it usually ends with /v1), --model and --api-key-env"
        )
    if response.status_code == UNLAWFUL or FILTERED.search(said):
        raise Filtered(said)
    raise Declined(said)


def _reply(content: bytes, key: str | None = None) -> Reply:
    try:
        value = json.loads(content)
        choice = value["choices"][0]
        # Servers that leave nulls out have no content where a model only thought, or called tools.
        text, usage = choice["message"].get("content"), value.get("usage") or {}
        if isinstance(text, list):
            text = "".join(part.get("text") or "" for part in text)
        if text is not None and not isinstance(text, str):
            raise TypeError("its content is no text")
        tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        read, wrote = (count if isinstance(count, int) and 0 <= count < MOST_TOKENS else 0 for count in tokens)
        reply = Reply(text or "", str(choice.get("finish_reason") or ""), read, wrote)
        broken = choice.get("error") or (reply.finish == "error" and reply.finish)
        why = json.dumps(broken, ensure_ascii=False).encode(errors="replace")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        shown = _line(content[:80].decode("utf-8", "replace"))
        raise AttemptFailed(f"a response that is no chat completion ({type(error).__name__}: {shown})") from error
    if broken:
        raise AttemptFailed(f"the model broke off ({_said(why, key)})")
    if not reply.is_whole:
        raise Filtered("the endpoint's filter left nothing of the reply (content_filter)")
    return reply


def _said(content: bytes, key: str | None) -> str:
    """What an endpoint says in one line, less the key, which endpoints like to repeat."""
    text = content.decode("utf-8", "replace")
    return _line(text.replace(key, "…") if key else text)


def _line(text: str) -> str:
    return " ".join(text.split())[:200]
