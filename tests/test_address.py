import pytest

from satjax.endpoints.address import chat_url, check_address, key_header
from satjax.errors import SatjaxError

AZURE = "https://r.openai.azure.com/openai/deployments/gpt-4o"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "https://host/v1/",
        "http://[::1]:80/v1",
        "http://h",
        f"{AZURE}?api-version=2024-12-01-preview",
    ],
)
def test_addresses(url):
    check_address(url, "here", "a variable")


@pytest.mark.parametrize(
    "url", ["localhost/v1", "http://h:0/v1", "http://h:x/v1", "ftp://h", "http://h/a b", "http://é/v1"]
)
def test_what_is_none(url):
    with pytest.raises(SatjaxError, match=r"^here is no address; give one such as http://localhost:8000/v1$"):
        check_address(url, "here", "a variable")


@pytest.mark.parametrize(
    "query",
    [
        *("key=k", "api-key=k", "api_version=1&API-KEY=k", "k%65y=k", "token=t", "sig=s", "code=c", "password=p"),
        *("hunter2", "api-version=", f"v={'0123456789abcdef' * 2}"),
    ],
)
def test_a_query_that_may_hold_a_key_is_refused_and_not_shown(query):
    with pytest.raises(SatjaxError) as raised:
        check_address(f"http://h/v1?{query}", "here", "a variable")
    assert str(raised.value) == "here holds more than an address; a key belongs into a variable"


@pytest.mark.parametrize(
    ("base_url", "asked"),
    [
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h", "http://h/chat/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        (f"{AZURE}?api-version=1", f"{AZURE}/chat/completions?api-version=1"),
        (f"{AZURE}/chat/completions?api-version=1&a=b", f"{AZURE}/chat/completions?api-version=1&a=b"),
    ],
)
def test_chat_completions_are_below_the_path(base_url, asked):
    assert chat_url(base_url) == asked


def test_azure_takes_keys_in_a_header_of_its_own():
    assert key_header(f"{AZURE}?api-version=1", "k") == {"api-key": "k"}
    assert key_header("https://r.openai.azure.com/openai/v1", "k") == {"authorization": "Bearer k"}
