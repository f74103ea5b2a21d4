"""Addresses of OpenAI-compatible APIs, as people give them."""

from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx

from satjax.errors import SatjaxError

CHAT = "/chat/completions"
AZURE = "api-version"
"""What addresses of Azure's have in their query: it takes keys in a header of its own, and tokens of its accounts alone where others have keys."""
OF_KEYS = ("key", "token", "secret", "sig", "code", "pass", "auth", "cred")
"""Parts of names in a query that stand before a key."""
LONGEST_VALUE = 31
"""Characters of a value in a query; a longer one may be a key."""


def check_address(url: str, at: str, key_place: str) -> None:
    """Raises SatjaxError, without showing the address, where what stands `at` is none, or more than one: a key belongs into `key_place`."""
    try:
        parts = urlsplit(url)
        # Both, since httpx, which asks it later, takes less than urllib does.
        named = bool(parts.hostname) and bool(httpx.URL(url).host)
        fine = parts.scheme in ("http", "https") and named and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        fine = False
    if not fine or not url.isascii() or not url.isprintable() or " " in url:
        raise SatjaxError(f"{at} is no address; give one such as http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None or parts.fragment or _may_hold_key(parts.query):
        raise SatjaxError(f"{at} holds more than an address; a key belongs into {key_place}")


def _may_hold_key(query: str) -> bool:
    said = parse_qsl(query, keep_blank_values=True)
    return any(
        not 0 < len(value) <= LONGEST_VALUE or any(part in name.lower() for part in OF_KEYS) for name, value in said
    )


def chat_url(base_url: str) -> str:
    """Where chat completions are asked for: below the path of an address, with its query."""
    parts = urlsplit(base_url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/").removesuffix(CHAT) + CHAT))


def key_header(base_url: str, key: str) -> dict[str, str]:
    """The header that bears the key for an address."""
    if AZURE in dict(parse_qsl(urlsplit(base_url).query)):
        return {"api-key": key}
    return {"authorization": f"Bearer {key}"}
