"""What of a conversation is scored.

Routers learn from single instructions, so it is the last message of the user. One that is too short to stand alone ("and in French?") is scored
with the user's messages before it, as many as it takes. What the assistant, tools or the system said is not scored: while a candidate calls tools
the text stays the same, and so does the ranking.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

STANDS_ALONE = 200
"""Characters from which on a user's message is scored by itself."""
LONGEST = 32_768
"""Characters that are scored: of more, the middle is left out. No router reads as many."""


def scored_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """The user's last message, with those before it while the whole has fewer than 200 characters, oldest first, between blank lines.

    Only text counts, not images, sound or files. Without any text of a user the result is empty.
    """
    spoken: list[str] = []
    for message in reversed(messages):
        if message.get("role") == "user" and (text := text_of(message).strip()):
            spoken.insert(0, text)
            if sum(map(len, spoken)) >= STANDS_ALONE:
                break
    text = "\n\n".join(spoken)
    return text if len(text) <= LONGEST else text[: LONGEST // 2] + text[-LONGEST // 2 :]


def text_of(message: Mapping[str, Any]) -> str:
    """A message's text: its content, or the text parts of it between blank lines."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "\n\n".join(part for part in parts if isinstance(part, str))


def input_bytes(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> int:
    """UTF-8 bytes of all that a candidate reads as text: messages, calls of tools, and the tools as JSON."""
    calls = [message["tool_calls"] for message in messages if message.get("tool_calls")]
    # Clients of a library may have left objects of its own in either.
    read = [*map(text_of, messages), *(json.dumps(each, default=str) for each in (*calls, *tools))]
    return sum(len(text.encode(errors="surrogatepass")) for text in read)
