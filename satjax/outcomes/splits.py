"""Which split an instruction belongs to, by its text alone: one question never stands in two splits."""

import hashlib

TRAIN, VAL = 0.7, 0.8
"""Cumulative shares: 70 % train, 10 % val, the rest test."""


def split_of(text: str) -> str:
    """Split by the sha256 of the text, blanks folded."""
    digest = hashlib.sha256(" ".join(text.split()).encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if place < TRAIN else "val" if place < VAL else "test"
