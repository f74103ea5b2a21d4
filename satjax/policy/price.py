"""What a request is expected to cost at a candidate, before any of it has run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from satjax.policy.conversation import input_bytes
from satjax.policy.zoo_file import ServedCandidate

BYTES_PER_TOKEN = 4
"""UTF-8 bytes of a token, roughly, in the tokenizers of common LLMs for English; what is routed here is only ever compared."""


@dataclass(frozen=True)
class Size:
    """What is expected of a request: tokens that go in, and that come out (of all its choices together)."""

    input_tokens: int
    output_tokens: int


def request_size(
    input_bytes: int, expected_output_tokens: int, most_output_tokens: int | None = None, choices: int = 1
) -> Size:
    """Tokens going in are UTF-8 bytes over four, rounded up; coming out as expected, unless the request allows fewer, for each choice."""
    output = expected_output_tokens if most_output_tokens is None else min(expected_output_tokens, most_output_tokens)
    return Size(-(-input_bytes // BYTES_PER_TOKEN), output * choices)


def chat_size(
    messages: Sequence[Mapping[str, Any]],
    expected_output_tokens: int,
    *,
    tools: Sequence[Any] | None = None,
    functions: Sequence[Any] | None = None,
    max_tokens: int | None = None,
    max_completion_tokens: int | None = None,
    n: int | None = None,
) -> Size:
    """The size of a chat completion request with these fields, None where it has none."""
    read = input_bytes(messages, [*(tools or ()), *(functions or ())])
    return request_size(read, expected_output_tokens, most_output_tokens(max_tokens, max_completion_tokens), n or 1)


def most_output_tokens(max_tokens: int | None, max_completion_tokens: int | None) -> int | None:
    """Tokens that a choice of a chat completion may have; None where the request sets no limit."""
    return max_tokens if max_completion_tokens is None else max_completion_tokens


def price_usd(candidate: ServedCandidate, size: Size) -> float:
    """Expected USD of a request, to twelve places: its expected tokens at the candidate's prices."""
    dollars = (
        size.input_tokens * candidate.usd_per_million_input_tokens
        + size.output_tokens * candidate.usd_per_million_output_tokens
    ) / 1e6
    return round(dollars, 12)


def fits(candidate: ServedCandidate, size: Size, least_output_tokens: int) -> bool:
    """Whether a request of this size, with room for an answer of the least length, is within the candidate's context."""
    return size.input_tokens + least_output_tokens <= candidate.context_tokens
