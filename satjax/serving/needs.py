"""What a request needs of a candidate: that its context holds request and answer, and that it can call tools; and who does not meet that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from satjax.policy.price import Size, chat_size, fits, most_output_tokens
from satjax.policy.zoo_file import ServedCandidate
from satjax.serving.bodies import Asked

LEAST_ANSWER = 16
"""Tokens of an answer that a candidate's context must leave room for, unless the request allows fewer."""


@dataclass(frozen=True)
class Needs:
    """The expected size of a request, the tokens of an answer that must have room, and whether it has tools, or calls of them in its messages."""

    size: Size
    answer_tokens: int
    tools: bool

    def __str__(self) -> str:
        return f"about {self.size.input_tokens} tokens" + (" and tools" if self.tools else "")


def needs_of(asked: Asked, messages: Sequence[Mapping[str, Any]], expected_output_tokens: int) -> Needs:
    """Of a request to chat, or to be ranked as such a one would be."""
    size = chat_size(
        messages,
        expected_output_tokens,
        tools=asked.tools,
        functions=asked.functions,
        max_tokens=asked.max_tokens,
        max_completion_tokens=asked.max_completion_tokens,
        n=asked.n,
    )
    most = most_output_tokens(asked.max_tokens, asked.max_completion_tokens)
    tools = bool(asked.tools or asked.functions) or any(map(_is_of_tools, messages))
    return Needs(size, LEAST_ANSWER if most is None else most, tools)


def _is_of_tools(message: Mapping[str, Any]) -> bool:
    """Whether a message calls a tool or is what one said; who cannot read that answers without it, or not at all."""
    return bool(message.get("tool_calls") or message.get("function_call")) or message.get("role") in (
        "tool",
        "function",
    )


def unmet(candidate: ServedCandidate, needs: Needs) -> str | None:
    """Why a candidate cannot take the request, in words of the zoo file, or None where it can."""
    if needs.tools and not candidate.tools:
        return "tools = false, and the request or its messages have tools"
    if not fits(candidate, needs.size, needs.answer_tokens):
        return (
            f"context_tokens = {candidate.context_tokens}, and the request takes about {needs.size.input_tokens} and "
            f"{needs.answer_tokens} of an answer"
        )
    return None
