"""API keys: read from the environment or a file, compared in constant time, never shown."""

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from satjax.errors import SatjaxError

SHORTEST = 16


class KeyRing:
    """Some keys, of which digests are kept; without any it lets nobody in."""

    def __init__(self, keys: Iterable[str] = ()):
        self._digests = [_digest(key) for key in keys]

    def __len__(self) -> int:
        return len(self._digests)

    def holds(self, authorization: str | None) -> bool:
        """Whether an `Authorization` header bears one of the keys; takes as long for any header of its length."""
        scheme, _, key = (authorization or "").partition(" ")
        digest = _digest(key.strip())
        found = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(found) and scheme.lower() == "bearer"


def read_keys(variable: str, file: Path | None = None) -> KeyRing:
    """The keys of an environment variable, between commas or on lines of their own, and of a file, one a line (`#` begins a comment).

    Raises SatjaxError naming variable or file where it cannot be read, or a key is too short to be safe; it never shows one.
    """
    keys = _checked(os.environ.get(variable, "").replace(",", "\n"), f"environment variable {variable}")
    if file is not None:
        try:
            in_file = _checked(file.read_text(encoding="utf-8-sig"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
            raise SatjaxError(f"{file} cannot be read ({reason}); give a file with one key a line") from error
        if not in_file:
            raise SatjaxError(f"{file} holds no key; write one a line")
        keys += in_file
    return KeyRing(keys)


def secret(variable: str, where: str) -> str:
    """The secret that an environment variable holds. Raises SatjaxError, without showing it, where it is not there or cannot be a header."""
    value = os.environ.get(variable, "").strip()
    if not value:
        raise SatjaxError(f"{where}: environment variable {variable} is not set; export it before `satjax serve`")
    if not (value.isascii() and value.isprintable()):
        raise SatjaxError(f"{where}: environment variable {variable} holds characters that no key has; set it again")
    return value


def _checked(text: str, where: str) -> list[str]:
    keys = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if any(len(key) < SHORTEST for key in keys):
        raise SatjaxError(
            f"{where} holds a key of fewer than {SHORTEST} characters; make longer ones: openssl rand -hex 32"
        )
    return keys


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
