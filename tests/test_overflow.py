import json

import pytest

from satjax.serving.overflow import MOST_BYTES, is_overflow
from tests.seconds import seconds

SAID = {
    "openai": {
        "error": {
            "message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    },
    "vllm": {
        "error": {
            "message": "This model's maximum context length is 2048 tokens. However, your request has 2100 input tokens.",
            "type": "BadRequestError",
            "code": 400,
        }
    },
    "vllm, before": {
        "object": "error",
        "message": "The prompt is longer than the maximum model length of 2048",
        "code": 400,
    },
    "sglang": {
        "object": "error",
        "message": "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
    },
    "llama.cpp": {
        "error": {
            "code": 400,
            "message": "no room",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": 900,
            "n_ctx": 512,
        }
    },
    "llama-cpp-python": {"error": {"message": "Requested tokens (900) exceed context window of 512", "code": None}},
    "anthropic": {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000"},
    },
    "sglang, now": {
        "error": {
            "message": "Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens). Use a shorter input."
        }
    },
    "tgi": {
        "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`",
        "error_type": "validation",
    },
    "tgi, input": {"error": "Input validation error: `inputs` must have less than 4095 tokens. Given: 5000"},
    "gemini": [
        {
            "error": {
                "code": 400,
                "message": "The input token count (2000000) exceeds the maximum number of tokens allowed (1048575).",
                "status": "INVALID_ARGUMENT",
            }
        }
    ],
    "bedrock": {"message": "input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000"},
    "a word": {"error": "Input is too long for requested model."},
}
OTHER = {
    "a parameter": {
        "error": {"message": "temperature must be at most 2", "type": "invalid_request_error", "code": None}
    },
    "max_tokens": {"error": {"message": "max_tokens is too large: 100000", "code": "invalid_value"}},
    "tools": {"error": {"message": "this model does not support tools; its context is not used"}},
    "no object": ["context_length_exceeded"],
    "a number": {"error": {"message": "n must be <= 8"}},
    "a list": [{"error": {"message": "The prompt is too long"}}, {}],
    "odd types": {"error": {"message": ["too long"], "code": {"context": 1}, "type": 3}},
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_what_servers_say_of_a_request_that_is_too_long(said):
    assert is_overflow(400, json.dumps(said).encode())


@pytest.mark.parametrize("said", OTHER.values(), ids=OTHER)
def test_other_faults_of_a_request_are_none(said):
    assert not is_overflow(400, json.dumps(said).encode())


def test_the_status_decides_first():
    said = json.dumps(SAID["openai"]).encode()
    assert not any(is_overflow(status, said) for status in (200, 401, 429, 500))
    assert is_overflow(413, b"<html>413 Request Entity Too Large</html>")
    assert not is_overflow(400, b"<html>")
    assert not is_overflow(400, b"[" * 10_000)
    assert not is_overflow(400, said + b" " * MOST_BYTES)


@pytest.mark.parametrize("words", ["max context ", "maximum model ", "max ", "exceed ", "longer than ", "request is "])
def test_an_error_that_repeats_what_a_client_wrote_takes_no_long_time(words):
    def taken(length):
        said = json.dumps({"error": {"message": words * (length // len(words)), "code": 400}}).encode()
        assert not is_overflow(400, said)
        return seconds(lambda: is_overflow(400, said))

    assert (longest := taken(90_000)) < 40 * max(taken(9_000), 0.005)
    assert longest < 1.0
