"""What a request is expected to cost at a candidate, before any of it has run."""

from dataclasses import dataclass

from satjax.zoo_file import Candidate

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


def price_usd(candidate: Candidate, size: Size) -> float:
    """Expected USD of a request, to twelve places: its expected tokens at the candidate's prices."""
    dollars = (
        size.input_tokens * candidate.usd_per_million_input_tokens
        + size.output_tokens * candidate.usd_per_million_output_tokens
    ) / 1e6
    return round(dollars, 12)


def fits(candidate: Candidate, size: Size, least_output_tokens: int) -> bool:
    """Whether a request of this size, with room for an answer of the least length, is within the candidate's context."""
    return size.input_tokens + least_output_tokens <= candidate.context_tokens
