"""Which split an instruction belongs to, by its text alone: one question never stands in two splits."""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np

from satjax.outcomes.table import Item

TRAIN, VAL = 0.7, 0.8
"""Cumulative shares: 70 % train, 10 % val, the rest test."""


def split_of(text: str) -> str:
    """Split by the sha256 of the text, blanks folded."""
    place = _place(text)
    return "train" if place < TRAIN else "val" if place < VAL else "test"


def validation_from_train(split: str, text: str) -> str:
    """The split of an item whose source has no validation split: a tenth of its training items make one, again by their text."""
    return "val" if split == "train" and _place(text) < VAL - TRAIN else split


def folded(text: str) -> str:
    """The text with its blanks folded: what makes two texts one question."""
    return " ".join(text.split())


def asking_the_same(ids: Collection[str], items: Sequence[Item]) -> np.ndarray:
    """bool `[N]`: the items of these ids, and those with the text of one of them."""
    texts = {folded(item.text) for item in items if item.id in ids}
    return np.array([folded(item.text) in texts for item in items], bool)


def digest(text: str) -> bytes:
    """The sha256 of the text, blanks folded. Halves of surrogate pairs count as they are: whoever takes the text refuses them."""
    return hashlib.sha256(folded(text).encode(errors="surrogatepass")).digest()


def _place(text: str) -> float:
    return int.from_bytes(digest(text)[:8], "big") / 2**64
