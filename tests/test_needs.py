"""What a request asks of who can take it."""

import pytest

from satjax.policy.zoo_file import ServedCandidate
from satjax.serving.bodies import RankRequest
from satjax.serving.needs import needs_of, unmet

USER = {"role": "user", "content": "Will it rain?"}
CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
PLAIN = ServedCandidate("a", "http://h/v1", "m", 1.0, 1.0, 8192, False)


@pytest.mark.parametrize(
    ("fields", "messages", "has_tools"),
    [
        ({}, [USER], False),
        ({}, [USER, {"role": "assistant", "content": "Yes.", "tool_calls": None}, USER], False),
        ({}, [USER, {"role": "assistant", "content": "Yes.", "tool_calls": []}, USER], False),
        ({"tools": [TOOL]}, [USER], True),
        ({"functions": [TOOL["function"]]}, [USER], True),
        ({}, [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}], True),
        ({}, [USER, {"role": "assistant", "content": None, "function_call": CALL["function"]}], True),
        ({}, [USER, {"role": "tool", "tool_call_id": "c", "content": "sun"}], True),
        ({}, [USER, {"role": "function", "name": "weather", "content": "sun"}, USER], True),
    ],
)
def test_tools_are_in_a_request_that_lists_them_or_has_called_them(fields, messages, has_tools):
    needs = needs_of(RankRequest(messages=messages, **fields), messages, 512)
    assert needs.tools is has_tools
    assert unmet(PLAIN, needs) == ("tools = false, and the request or its messages have tools" if has_tools else None)


def test_what_fits_no_context_is_said():
    needs = needs_of(RankRequest(messages=[USER], max_tokens=9000), [USER], 512)
    assert "context_tokens = 8192, and the request takes about" in str(unmet(PLAIN, needs))
