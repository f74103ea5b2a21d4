"""JSON of other tools within bounds: what a few bytes of it would unpack to is found out before it is unpacked."""

import io
import itertools
import re
import string
from collections.abc import Sequence
from typing import IO

LARGEST = 256 * 2**20
"""Bytes of one piece that is held in memory whole: a line, a member of an archive, a small JSON file, one item of a large one."""
MOST_VALUES = 2**23
"""Values of such a piece. An empty list takes three bytes of JSON and some twenty times as much memory."""
DEEPEST = 1000
"""Levels of JSON in JSON: ijson keeps the path of each."""
_ODD_NUMBER = re.compile(rb"NaN|-?Infinity|(?<![\w.+-])-?[0-9]{19,}(?![0-9.eE])")
"""What Python writes into JSON, and its `json` reads, but not ijson: it knows integers of 63 bits, and no more than the standard says."""
_BEGINS = bytes.maketrans(b"0123456789 \n\r\t:[-", b"0" * 10 + b"," * 7)
_LONG = b"," + b"0" * 19
"""How so large an integer begins, by `_BEGINS`: nearly every piece with floats has as many digits behind a point."""
LONGEST_NUMBER = 1000
"""Bytes of a number that stands in two chunks and is still seen as one."""
_OF_NUMBERS = b"+-.0123456789" + string.ascii_letters.encode()
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

    Reading raises ValueError for an item of more bytes or values than a piece may have, and for what is nested too deeply. Numbers that Python
    reads and writes and ijson does not, such as NaN, come as texts.
    """

    def __init__(self, stream: IO[bytes]):
        self._stream, self._bytes, self._values, self._depth = stream, 0, 0, 0
        self._in_text, self._left = False, b""

    def next_item(self) -> None:
        """Begins to count anew."""
        self._bytes = self._values = 0

    def read(self, size: int) -> bytes:
        """About so many bytes; none at the end."""
        while chunk := self._stream.read(size):
            self._bytes += len(chunk)
            if ready := self._ready(self._left + chunk):
                return ready
        left, self._left = self._left, b""
        return left if self._in_text else _ODD_NUMBER.sub(rb'"\g<0>"', left)

    def _ready(self, content: bytes) -> bytes:
        """What can be read now; the end of it is left where it depends on what follows."""
        parts = _ESCAPED.sub(b"__", content).split(b'"')
        ends_in_text = self._in_text ^ (len(parts) % 2 == 0)
        tail = parts[-1][-LONGEST_NUMBER:]
        keep = len(tail) - len(tail.rstrip(_OF_NUMBERS)) if not ends_in_text else int(tail.endswith(b"\\"))
        content, self._left = content[: len(content) - keep], content[len(content) - keep :]
        parts[-1] = parts[-1][: len(parts[-1]) - keep]
        bare = b"".join(itertools.islice(parts, int(self._in_text), None, 2))
        self._check(bare)
        # Sooner found than where each of them ends.
        if b"N" in bare or b"I" in bare or _LONG in (b"," + bare).translate(_BEGINS):
            content = _with_texts(content, parts, self._in_text)
        self._in_text = ends_in_text
        return content

    def _check(self, bare: bytes) -> None:
        self._values += _values(bare)
        if self._bytes > LARGEST or self._values > MOST_VALUES:
            raise ValueError(f"a piece of more than {LARGEST:,} bytes or {MOST_VALUES:,} values")
        for bracket in bare.translate(None, _NO_BRACKETS):
            self._depth += 1 if bracket in b"[{" else -1
            if self._depth > DEEPEST:
                raise ValueError(f"nested more than {DEEPEST:,} deep")


def _with_texts(content: bytes, parts: Sequence[bytes], in_text: bool) -> bytes:
    """Content with its odd numbers as texts; `parts` are as long as what stands between its quotes, the first of them a text if `in_text`."""
    pieces, start = [], 0
    for part in parts:
        piece = content[start : start + len(part)]
        pieces.append(piece if in_text else _ODD_NUMBER.sub(rb'"\g<0>"', piece))
        start, in_text = start + len(part) + 1, not in_text
    return b'"'.join(pieces)
