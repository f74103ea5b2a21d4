"""Token rows of many lengths as full batches of few shapes, so that few programs are compiled and little is padding."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jax.sharding import Mesh

from satjax.instructions import TokenRows
from satjax.sharding import batch_shards

TOKENS_PER_CALL = 4096
"""Text tokens of one full batch on each device: enough to keep a CPU's matrix units busy, little enough for any memory."""
TOKENS_OF_AN_ACCELERATOR = 32_768
"""The same where texts alone are read, without candidates, by what takes longer to start a small batch than to compute it."""
WHOLE_AT_ONCE = 2**28
"""Bytes that come of a batch on several devices: they lie whole on each, beside the model."""

MIDDLE_OF_AN_ACCELERATOR = (8,)
"""Sizes of batches between one row and a full batch, where a call takes as long for one row as for a few."""


def middle_sizes() -> tuple[int, ...]:
    """Those of this machine, where nobody asks for others: on a CPU a row takes as long as it is, in any batch."""
    return () if jax.default_backend() == "cpu" else MIDDLE_OF_AN_ACCELERATOR


@dataclass(frozen=True)
class Batching:
    """How many rows a batch can have: few numbers, since each is a program to compile.

    Its rows are split over the data axes of `mesh`, if there is one. `sizes` are asked for between one row and a full batch. A full one has
    `largest_tokens` on each device where that is more than usual; `row_bytes` come of a row.
    """

    mesh: Mesh | None = None
    sizes: tuple[int, ...] = field(default_factory=middle_sizes)
    largest_tokens: int = 0
    row_bytes: int = 1

    @property
    def parts(self) -> int:
        """Parts that a batch is cut into."""
        return 1 if self.mesh is None else batch_shards(self.mesh)

    def sizes_at(self, width: int) -> tuple[int, ...]:
        """How many rows of `width` tokens a batch can have, rising.

        A full batch, one of `largest_tokens` where that is more, one row alone, and `sizes` between. On several devices each has as many of them, or all
        batches are as large as they can be where there are no `sizes`; on a mesh of one, there is no batch of less than its `sizes`.
        """
        full = max(1, TOKENS_PER_CALL // width)
        more = max(full, self.largest_tokens // width)
        between = {size for size in self.sizes if size < full}
        if self.mesh is None:
            return tuple(sorted({1, *between, full, more}))
        if self.parts == 1:
            return tuple(sorted({*between, more}))
        most = max(1, min(more, max(more, WHOLE_AT_ONCE // self.row_bytes) // self.parts))
        fewer = {1, *between, full} if self.sizes else set()
        return tuple(size * self.parts for size in sorted({*(size for size in fewer if size < most), most}))

    def batches(self, rows: TokenRows, bucket: Callable[[int], int]) -> Iterator[tuple[np.ndarray, TokenRows]]:
        """Every row once, in batches of one bucket: `(index, padded)`, where `padded` may go on with copies that have no index.

        Buckets come mixed, the same way each time: the share of rows that are done is then about the share of the work.
        """
        width_B = np.array([bucket(length) for length in rows.length])
        batches: list[tuple[int, int, np.ndarray]] = []
        for width in sorted(set(width_B.tolist())):
            waiting = np.flatnonzero(width_B == width)
            for size in sizes_for(len(waiting), self.sizes_at(width)):
                batches.append((width, size, waiting[:size]))
                waiting = waiting[size:]
        for i in np.random.default_rng(0).permutation(len(batches)):
            width, size, index = batches[i]
            yield index, rows.take(np.resize(index, size), width)

    def shapes(self, buckets: Iterable[int], most: int) -> Iterator[TokenRows]:
        """Rows of every shape that a batch of `most` rows or fewer can have, one of each, bucket by bucket."""
        for width in buckets:
            allowed = self.sizes_at(width)
            for size in sorted({sizes_for(count, allowed)[0] for count in range(1, most + 1)}):
                yield TokenRows(np.zeros((size, width), np.int32), np.full(size, width, np.int32))


def sizes_for(count: int, allowed: Sequence[int]) -> list[int]:
    """Sizes of the batches that so many rows of a bucket become: each the largest of those `allowed` that is more than half full, or else the smallest."""
    found = []
    while count > 0:
        found.append(max((size for size in allowed if 2 * count > size), default=allowed[0]))
        count -= found[-1]
    return found
