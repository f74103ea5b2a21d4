"""Token rows of many lengths as full batches of few shapes, so that few programs are compiled and little is padding."""

from collections.abc import Callable, Iterator

import numpy as np

from satjax.instructions import TokenRows

TOKENS_PER_CALL = 4096
"""Text tokens of one full batch: enough to keep the matrix units busy, little enough for any memory."""


def row_batches(
    rows: TokenRows, bucket: Callable[[int], int], multiple_of: int = 0
) -> Iterator[tuple[np.ndarray, TokenRows]]:
    """Every row once, by bucket: `(index, padded)`, where `padded` may go on with copies that have no index.

    At most two shapes of each bucket: a full batch, and a single row for a rest that would leave a batch mostly empty. With `multiple_of`
    every batch is full and its rows a multiple of that, for a mesh to divide.
    """
    width_B = np.array([bucket(length) for length in rows.length])
    for width in sorted(set(width_B.tolist())):
        waiting, full = np.flatnonzero(width_B == width), max(1, TOKENS_PER_CALL // width)
        if multiple_of:
            full = -(-full // multiple_of) * multiple_of
        whole = len(waiting) // full * full
        rest = waiting[whole:]
        batches = [(index, full) for index in waiting[:whole].reshape(-1, full)]
        if multiple_of or len(rest) > full // 2:
            batches += [(rest, full)] if len(rest) else []
        else:
            batches += [(rest[i : i + 1], 1) for i in range(len(rest))]
        for index, size in batches:
            yield index, rows.take(np.resize(index, size), width)
