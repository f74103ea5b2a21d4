"""Lettered options, each on a line of its own: how they are written, and those that a text shows as `A. one`, `B) two`, `(C) three`, `D、四`."""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, count

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_EAST_ASIAN = r"\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef"
_MARKER = re.compile(rf"^[(（]?([A-ZＡ-Ｚ])(?:[.)](?:[ \t]+|(?=[{_EAST_ASIAN}]))|[．）、][ \t\u3000]*)", re.MULTILINE)
"""Marks that are as wide as East Asian letters stand without a blank, and so does such a text after any mark."""
_FULL_WIDTH = {ord("Ａ") + n: letter for n, letter in enumerate(LETTERS)}


def with_options(question: str, options: Iterable[tuple[str, object]]) -> str:
    """A question and its options, each with the letter that stands before it."""
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in options)])


def with_letters(question: str, options: Iterable[object]) -> str:
    """A question and its options, lettered; numbers from 1 come after Z, as where Inspect asks them."""
    return with_options(question, zip(chain(LETTERS, map(str, count(1))), options, strict=False))


def lettered_runs(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Runs of two or more options lettered from A, the last in the text first: where each begins, and the texts of its options.

    An option goes on to the next one's letter, the last one to the end of the text, less a line such as `Answer:` that asks for the answer there.
    """
    nearest: dict[str, list[re.Match[str]]] = {}
    for marker in reversed(list(_MARKER.finditer(text))):
        letter = marker[1].translate(_FULL_WIDTH)
        run = [marker, *nearest.get(chr(ord(letter) + 1), ())]
        nearest[letter] = run
        if letter == "A" and len(run) > 1:
            ends = [later.start() for later in run[1:]] + [len(text)]
            *options, last = (text[one.end() : end].strip() for one, end in zip(run, ends, strict=True))
            yield run[0].start(), (*options, _without_cue(last))


def _without_cue(option: str) -> str:
    before, _, line = option.rpartition("\n")
    return before.rstrip() if before and line.endswith((":", "：")) else option
