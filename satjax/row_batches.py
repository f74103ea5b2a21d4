"""Token rows of many lengths as full batches of few shapes, so that few programs are compiled and little is padding."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from satjax.instructions import TokenRows

TOKENS_PER_CALL = 4096
"""Text tokens of one full batch: enough to keep a CPU's matrix units busy, little enough for any memory."""
TOKENS_OF_AN_ACCELERATOR = 32_768
"""The same where texts alone are read, without candidates, by what takes longer to start a small batch than to compute it."""


def row_batches(
    rows: TokenRows,
    bucket: Callable[[int], int],
    multiple_of: int = 0,
    sizes: Sequence[int] = (1,),
    largest: int = 0,
) -> Iterator[tuple[np.ndarray, TokenRows]]:
    """Every row once, in batches of one bucket: `(index, padded)`, where `padded` may go on with copies that have no index.

    Few shapes of each bucket: a full batch, one of `largest` tokens where that is more, and batches of `sizes`, the smallest of which is 1, for a
    rest that would leave it mostly empty. With `multiple_of` every batch is full and its rows a multiple of that, for a mesh to divide. Buckets come mixed, the same way each time: the
    share of rows that are done is then about the share of the work.
    """
    width_B = np.array([bucket(length) for length in rows.length])
    batches: list[tuple[int, int, np.ndarray]] = []
    for width in sorted(set(width_B.tolist())):
        waiting, allowed = np.flatnonzero(width_B == width), batch_sizes(width, multiple_of, sizes, largest)
        while len(waiting):
            size = max((size for size in allowed if 2 * len(waiting) > size), default=allowed[0])
            batches.append((width, size, waiting[:size]))
            waiting = waiting[size:]
    for i in np.random.default_rng(0).permutation(len(batches)):
        width, size, index = batches[i]
        yield index, rows.take(np.resize(index, size), width)


def batch_sizes(width: int, multiple_of: int = 0, sizes: Sequence[int] = (1,), largest: int = 0) -> tuple[int, ...]:
    """How many rows of `width` tokens a batch of `row_batches` can have, rising."""
    full = max(1, TOKENS_PER_CALL // width)
    more = max(full, largest // width)
    if multiple_of:
        return (-(-more // multiple_of) * multiple_of,)
    return (*(size for size in sizes if size < full), *sorted({full, more}))
