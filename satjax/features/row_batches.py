"""Token rows of many lengths as full batches of few shapes, so that few programs are compiled and little is padding."""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from satjax.instructions import TokenRows

TOKENS_PER_CALL = 4096
"""Text tokens of one full batch: enough to keep a CPU's matrix units busy, little enough for any memory."""
TOKENS_OF_AN_ACCELERATOR = 32_768
"""The same where texts alone are read, without candidates, by what takes longer to start a small batch than to compute it."""


MIDDLE_OF_AN_ACCELERATOR = (8,)
"""Sizes of batches between one row and a full batch, where a call takes as long for one row as for a few."""


def middle_sizes() -> tuple[int, ...]:
    """Those of this machine, where nobody asks for others: on a CPU a row takes as long as it is, in any batch."""
    return () if jax.default_backend() == "cpu" else MIDDLE_OF_AN_ACCELERATOR


def row_batches(
    rows: TokenRows,
    bucket: Callable[[int], int],
    multiple_of: int = 0,
    sizes: Sequence[int] | None = None,
    largest_tokens: int = 0,
) -> Iterator[tuple[np.ndarray, TokenRows]]:
    """Every row once, in batches of one bucket: `(index, padded)`, where `padded` may go on with copies that have no index.

    Buckets come mixed, the same way each time: the share of rows that are done is then about the share of the work. The rest is as in `batch_sizes`.
    """
    width_B = np.array([bucket(length) for length in rows.length])
    batches: list[tuple[int, int, np.ndarray]] = []
    for width in sorted(set(width_B.tolist())):
        waiting = np.flatnonzero(width_B == width)
        for size in sizes_for(len(waiting), batch_sizes(width, multiple_of, sizes, largest_tokens)):
            batches.append((width, size, waiting[:size]))
            waiting = waiting[size:]
    for i in np.random.default_rng(0).permutation(len(batches)):
        width, size, index = batches[i]
        yield index, rows.take(np.resize(index, size), width)


def batch_sizes(
    width: int, multiple_of: int = 0, sizes: Sequence[int] | None = None, largest_tokens: int = 0
) -> tuple[int, ...]:
    """How many rows of `width` tokens a batch of `row_batches` can have, rising: few, since each is a program to compile.

    A full batch, one of `largest_tokens` where that is more, one row alone, and `sizes` between (`middle_sizes` if None). With `multiple_of`, for a mesh
    to divide, all are multiples of that: `sizes`, and the largest there is.
    """
    full = max(1, TOKENS_PER_CALL // width)
    more = max(full, largest_tokens // width)
    between = {size for size in (middle_sizes() if sizes is None else sizes) if size < full}
    if multiple_of:
        return tuple(sorted({-(-size // multiple_of) * multiple_of for size in (*between, more)}))
    return tuple(sorted({1, *between, full, more}))


def sizes_for(count: int, allowed: Sequence[int]) -> list[int]:
    """Sizes of the batches that so many rows of a bucket become: each the largest of those `allowed` that is more than half full, or else the smallest."""
    found = []
    while count > 0:
        found.append(max((size for size in allowed if 2 * count > size), default=allowed[0]))
        count -= found[-1]
    return found
