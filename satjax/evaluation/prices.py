"""What instructions are expected to cost at the prices of a zoo file."""

from collections.abc import Sequence

import numpy as np

from satjax.policy.price import price_usd, request_size
from satjax.policy.zoo_file import ZooFile


def expected_prices(zoo: ZooFile, instructions: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """Expected US dollars of each call, float64 `[B, M]` (`satjax.policy.price`); NaN for candidates that the zoo file does not have."""
    output, known = zoo.settings.expected_output_tokens, zoo.candidates
    sizes = [request_size(len(text.encode()), output) for text in instructions]
    rows = [[price_usd(known[name], size) if name in known else np.nan for name in candidates] for size in sizes]
    return np.array(rows, np.float64).reshape(len(sizes), len(candidates))
