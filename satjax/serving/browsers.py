"""What browsers let pages of others do to a server that asks for no key: make it spend money, though they cannot read its answers."""

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

OTHER_SITES = ("cross-site", "same-site")


def from_another_site(headers: Mapping[str, str], server: str | None) -> bool:
    """Whether a page of another site may have sent this request to `server`, the address that took it.

    Browsers say so themselves, unless the page's own name was made to point here (DNS rebinding). Then it is the name in `host`: who means the
    server on a machine's loopback address calls it so.
    """
    if headers.get("sec-fetch-site") in OTHER_SITES:
        return True
    host = headers.get("host")  # which every browser gives
    return host is not None and is_loopback(server or "") and not is_loopback(host_of(host))


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
