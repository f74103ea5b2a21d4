"""Prices of candidates' tokens, as a zoo file of `satjax serve` has them, and what an instruction is expected to cost at them."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from satjax.errors import SatjaxError

KEYS = ("usd_per_million_input_tokens", "usd_per_million_output_tokens")
BYTES_PER_TOKEN = 4
OUTPUT_TOKENS = 512


@dataclass(frozen=True)
class Prices:
    """US dollars of a million tokens read and written, by candidate, and the tokens that an answer is expected to take."""

    of_candidate: Mapping[str, tuple[float, float]]
    output_tokens: int = OUTPUT_TOKENS

    def expected(self, instructions: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
        """Expected US dollars of each call, float64 `[B, M]`, NaN for candidates without a price; a token is taken to be four bytes of UTF-8."""
        tokens_B = np.array([-(-len(text.encode()) // BYTES_PER_TOKEN) for text in instructions], np.float64)
        read_M, write_M = np.array([self.of_candidate.get(name, (np.nan, np.nan)) for name in candidates]).T
        return (tokens_B[:, None] * read_M + self.output_tokens * write_M) / 1e6


def read_prices(path: Path) -> Prices:
    """The prices of a zoo file. Raises SatjaxError naming file and key for anything that is not as it should be."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        prices = {str(name): _numbers(name, table) for name, table in tables["candidates"].items()}
        return Prices(prices, int(tables.get("serve", {}).get("expected_output_tokens", OUTPUT_TOKENS)))
    except OSError as error:
        raise SatjaxError(f"{path} cannot be read ({error.strerror}); give a zoo file") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SatjaxError(
            f'{path} is no zoo file with prices ({error}); it needs {" and ".join(KEYS)} in [candidates."NAME"]'
        ) from error


def _numbers(name: str, table: Mapping[str, object]) -> tuple[float, float]:
    read, write = (table.get(key) for key in KEYS)
    for key, value in zip(KEYS, (read, write), strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"candidates.{name}.{key} is {value!r:.40}, not a price")
    return float(read), float(write)  # type: ignore[arg-type]  # checked above
