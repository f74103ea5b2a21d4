"""What a backend's error says, and whether that is that a request is too long for the model: another candidate may have the room."""

import json
import re
from typing import Any

STATUSES = (400, 413, 422)
CODES = {"context_length_exceeded", "exceed_context_size_error"}
"""OpenAI's code, which most vendors send too, and the type that llama.cpp's server gives."""
WORDS = re.compile(
    r"(maximum|max)[\w ']{0,40} (context|model|input|sequence)[\w ]{0,40} (length|len|size|window)"
    r"|(exceed|longer than|larger than|greater than|beyond)[\w' ]{0,80} context (length|size|window)"
    r"|(prompt|input|request) (is )?too (long|large)"
    r"|exceeds? the maximum (allowed length|number of tokens)|exceed context limit"
    r"|must have less than \d{1,9} tokens|must be <= \d{1,9}\. Given",
    re.IGNORECASE,
)
"""What vLLM, SGLang, TGI, Gemini, Bedrock and Anthropic say of it; they have no code of their own for it.

Between two of the words there is a phrase at most: some errors repeat what a client wrote, and looking for words that are any way apart takes a time
that grows with the cube of its length.
"""
MOST_BYTES = 100_000


def is_overflow(status: int, content: bytes) -> bool:
    """Whether this answer of a backend refuses a request for its length, by its code, or else by its words."""
    if status not in STATUSES or len(content) > MOST_BYTES:
        return False
    if status == 413:
        return True
    error = _error(content)
    if isinstance(error, dict) and any(
        isinstance(error.get(key), str) and error[key] in CODES for key in ("code", "type")
    ):
        return True
    return WORDS.search(_message(error)) is not None


def message_of(content: bytes) -> str:
    """What a backend's error says to people, in one line of valid Unicode; empty where it says nothing that can be found."""
    said = _message(_error(content)) if len(content) <= MOST_BYTES else ""
    return " ".join(said.encode(errors="replace").decode().split())


def _error(content: bytes) -> Any:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and len(value) == 1:  # Gemini's
        value = value[0]
    return value.get("error", value) if isinstance(value, dict) else value


def _message(error: Any) -> str:
    message = (error.get("message") or error.get("detail")) if isinstance(error, dict) else error
    if isinstance(message, list):  # FastAPI's: one for each field
        said = (each.get("msg") for each in message if isinstance(each, dict))
        message = "; ".join(one for one in said if isinstance(one, str))
    return message if isinstance(message, str) else ""
