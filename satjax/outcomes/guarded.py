"""JSON of other tools within bounds: what a few bytes of it would unpack to is found out before it is unpacked."""

import io
import itertools
import re
from typing import IO

LARGEST = 256 * 2**20
"""Bytes of one piece that is held in memory whole: a line, a member of an archive, a small JSON file, one item of a large one."""
MOST_VALUES = 2**23
"""Values of such a piece. An empty list takes three bytes of JSON and some twenty times as much memory."""
DEEPEST = 1000
"""Levels of JSON in JSON: ijson keeps the path of each."""
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def check_values(content: bytes) -> None:
    """Raises ValueError for JSON of more values than MOST_VALUES."""
    if _values(content) > MOST_VALUES:  # of which some may be marks in texts
        stream = Guarded(io.BytesIO(content))
        while stream.read(2**16):
            pass


def _values(bare: bytes) -> int:
    return sum(bare.count(mark) for mark in (b",", b"[", b"{"))


class Guarded:
    """A stream of JSON as ijson reads it. `next_item` says that one was read whole, so that only what comes next counts.

    Reading raises ValueError for an item of more bytes or values than a piece may have, and for what is nested too deeply.
    """

    def __init__(self, stream: IO[bytes]):
        self._stream, self._bytes, self._values, self._depth = stream, 0, 0, 0
        self._in_text, self._left = False, b""

    def next_item(self) -> None:
        """Begins to count anew."""
        self._bytes = self._values = 0

    def read(self, size: int) -> bytes:
        """Up to so many bytes."""
        chunk = self._stream.read(size)
        bare = self._without_texts(chunk)
        self._bytes += len(chunk)
        self._values += _values(bare)
        if self._bytes > LARGEST or self._values > MOST_VALUES:
            raise ValueError(f"a piece of more than {LARGEST:,} bytes or {MOST_VALUES:,} values")
        for bracket in bare.translate(None, _NO_BRACKETS):
            self._depth += 1 if bracket in b"[{" else -1
            if self._depth > DEEPEST:
                raise ValueError(f"nested more than {DEEPEST:,} deep")
        return chunk

    def _without_texts(self, chunk: bytes) -> bytes:
        chunk = _ESCAPED.sub(b"", self._left + chunk)
        self._left = b"\\" if chunk.endswith(b"\\") else b""
        parts = chunk.removesuffix(b"\\").split(b'"')
        bare = b"".join(itertools.islice(parts, int(self._in_text), None, 2))
        self._in_text ^= len(parts) % 2 == 0
        return bare
