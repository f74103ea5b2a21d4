"""What browsers let pages of others do to a server that asks for no key: make it spend money, though they cannot read its answers."""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

OTHER_SITES = ("cross-site", "same-site")


def from_another_site(headers: Mapping[str, str], server: str | None) -> bool:
    """Whether a page of another site may have sent this request to `server`, the address that took it.

    Browsers say so themselves in `sec-fetch-site`; older ones, and all of them on plain http but for localhost, say in `origin` alone which page it was.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site in OTHER_SITES:
        return True
    if site is None and origin is not None and _authority(origin) != headers.get("host", "").lower():
        return True
    return by_another_name(headers, server)


def by_another_name(headers: Mapping[str, str], server: str | None) -> bool:
    """Whether the page's own name may have been made to point at `server` (DNS rebinding), so that the browser takes both for one site.

    It is the name in `host` then: who means the server on a machine's loopback address calls it so.
    """
    host = headers.get("host")  # which every browser gives
    return host is not None and is_loopback(server or "") and not is_loopback(host_of(host))


def _authority(origin: str) -> str:
    """What a page's `origin` would have as `host`; empty for "null", which pages without an address of their own have."""
    return origin.lower().partition("://")[2]


def host_of(header: str) -> str:
    """The name or address in a `host` header, without its port; empty where it is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_loopback(name: str) -> bool:
    """Whether a name or address means the machine itself, whatever a name server says."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
