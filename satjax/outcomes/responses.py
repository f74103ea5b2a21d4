"""What candidates answered, word for word: data for methods that run every candidate first, and read by nothing else."""

from dataclasses import dataclass

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.table import OutcomeTable

NONE = -1
"""Place of a pair whose response was not kept."""


@dataclass(frozen=True, eq=False)
class Responses:
    """`texts[place_MN[m, n]]` is the response of candidate m to item n, by the ids of both; `NONE` where there is none.

    Equal responses stand once in `texts`. An empty text is a response. Raises SatjaxError for shapes and places that do not fit.
    """

    candidate_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    texts: tuple[str, ...]
    place_MN: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.candidate_ids), len(self.item_ids))
        if self.place_MN.shape != shape or self.place_MN.dtype != np.int32:
            raise SatjaxError(
                f"responses: places are {self.place_MN.dtype}{self.place_MN.shape}; int32{shape} is expected"
            )
        if self.place_MN.size and not NONE <= self.place_MN.min() <= self.place_MN.max() < len(self.texts):
            raise SatjaxError(f"responses: a place is outside the {len(self.texts)} texts")

    def places(self, table: OutcomeTable) -> np.ndarray:
        """Places int32 `[B, M]` for a table's B items and M candidates; `NONE` for those that are not known here."""
        row = {name: m for m, name in enumerate(self.candidate_ids)}
        column = {name: n for n, name in enumerate(self.item_ids)}
        # One more row and column, of no response, stand for what is not known.
        padded = np.pad(self.place_MN, ((0, 1), (0, 1)), constant_values=NONE)
        rows = [row.get(name, len(row)) for name in table.candidate_ids]
        columns = [column.get(name, len(column)) for name in table.item_ids]
        return padded[np.ix_(rows, columns)].T
