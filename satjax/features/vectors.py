"""Vectors of texts, kept on disk: computed once, found again by the text, whatever else is asked for at the same time."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from satjax.errors import SatjaxError
from satjax.files import replacing_file
from satjax.progress import Progress, unheard

VECTORS_PER_SEGMENT = 256

log = logging.getLogger("satjax")


class Store(Protocol):
    """Where vectors of texts are found and kept."""

    def find(self, texts: Sequence[str]) -> dict[int, np.ndarray]:
        """The vectors of those texts that are kept, by their index."""

    def keep(self, texts: Sequence[str], vector_BF: np.ndarray) -> None:
        """Keeps some more."""


class VectorStore:
    """A directory of segments, each with digests of texts and their vectors, float32.

    What a segment holds never changes; processes that write at the same time write segments of their own. A segment that
    cannot be read is computed again, and a directory that cannot be written costs time only.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    def find(self, texts: Sequence[str]) -> dict[int, np.ndarray]:
        """The vectors of those texts that are kept, by their index."""
        digests = [_digest(text) for text in texts]
        wanted, kept = set(digests), dict[bytes, np.ndarray]()
        for path in sorted(self.directory.glob("*.npz")):
            if len(kept) == len(wanted):
                break
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as segment:
                    names = [bytes(name) for name in segment["digest"]]
                    rows = [row for row, name in enumerate(names) if name in wanted]
                    vectors = segment["vector"] if rows else None
            except Exception:  # whatever a damaged file makes NumPy and zipfile raise
                continue
            if vectors is not None and vectors.ndim == 2 and vectors.dtype == np.float32 and len(names) == len(vectors):
                kept |= {names[row]: vectors[row].copy() for row in rows}  # the segment itself is let go
        return {i: kept[digest] for i, digest in enumerate(digests) if digest in kept}

    def keep(self, texts: Sequence[str], vector_BF: np.ndarray) -> None:
        """Adds a segment, whole or not at all."""
        digest = np.array([np.frombuffer(_digest(text), np.uint8) for text in texts])
        name = hashlib.sha256(digest.tobytes()).hexdigest()[:32]
        try:
            with replacing_file(self.directory / f"{name}.npz") as fresh, fresh.open("wb") as stream:
                np.savez(stream, digest=digest, vector=np.asarray(vector_BF, np.float32))
        except (OSError, SatjaxError) as error:
            log.warning("%d vectors are not kept (%s)", len(texts), error)


Computed = Iterator[tuple[np.ndarray, np.ndarray]]
"""Indices of some texts and their vectors, batch by batch."""


def vectors_of(
    texts: Sequence[str],
    compute: Callable[[list[str]], Computed],
    store: Store | None = None,
    on_progress: Progress = unheard,
) -> np.ndarray:
    """Vectors float32 `[B, F]` of at least one text: those that `store` holds, and the rest from `compute`, which keeps them as they come.

    `on_progress` hears how many of how many are done. What was computed before an interruption is kept.
    """
    kept = {} if store is None else store.find(texts)
    missing = [i for i in range(len(texts)) if i not in kept]
    vector_BF, fresh, done = np.empty((0, 0), np.float32), list[int](), len(kept)
    on_progress(done, len(texts))

    def put(where: Sequence[int], found: np.ndarray) -> None:
        nonlocal vector_BF
        if not len(vector_BF):
            vector_BF = np.empty((len(texts), found.shape[1]), np.float32)
        vector_BF[where] = found

    def keep() -> None:
        if store is not None and fresh:
            store.keep([texts[i] for i in fresh], vector_BF[fresh])
            fresh.clear()

    while kept:  # each is let go as it is copied: all of them twice may be more than there is memory
        i, row = kept.popitem()
        put([i], row[None])
    try:
        for index, found in compute([texts[i] for i in missing]) if missing else ():
            where = [missing[i] for i in index]
            put(where, found)
            fresh += where
            done += len(where)
            if len(fresh) >= VECTORS_PER_SEGMENT:
                keep()
            on_progress(done, len(texts))
    finally:
        keep()
    return vector_BF


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
