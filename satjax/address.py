"""Addresses of OpenAI-compatible APIs, as people give them."""

from urllib.parse import urlsplit

import httpx

from satjax.errors import SatjaxError


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
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SatjaxError(f"{at} holds more than an address; a key belongs into {key_place}")
