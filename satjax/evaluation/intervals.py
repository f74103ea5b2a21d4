"""Bootstrap confidence intervals over instructions (Efron 1979; percentile method).

Instructions are what a test set samples, so they are what is drawn again, with all their outcomes: candidates that fail on the same
instruction are not independent evidence, and two routers compared on the same instructions share their luck.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import bootstrap

LEVEL = 0.95
SEED = 0
"""One drawing for everybody: figures of the same instructions share their luck."""
NUMBERS_AT_ONCE = 2**22
RESAMPLES = 200
"""For figures that are no means."""
RESAMPLES_OF_MEANS = 2000
"""They cost less."""

Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval from `n` instructions; ends are None where resampling cannot tell (see each function)."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


def mean_interval(a_B: Float[ndarray, "b"]) -> Interval:
    """Interval for the mean of one value per instruction, NaN left out; a single value has no ends, none at all no mean either."""
    a_B = a_B[~np.isnan(a_B)].astype(np.float64)
    n = len(a_B)
    if n < 2:
        return Interval(float(a_B[0]) if n else None, None, None, n)
    found = bootstrap(
        (a_B,),
        np.mean,
        n_resamples=RESAMPLES_OF_MEANS,
        batch=max(1, NUMBERS_AT_ONCE // n),
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Interval(float(a_B.mean()), float(found.low), float(found.high), n)


def paired_interval(a_B: Float[ndarray, "b"], b_B: Float[ndarray, "b"]) -> Interval:
    """Interval for the mean of `a - b`, outcomes of two routers on the same instructions; one where either is NaN is left out.

    Both are drawn together, so what an instruction does to both alike cancels out: the interval is far narrower than the two single
    ones suggest. `a` is better at the 95 % level where `low` is above 0.
    """
    if a_B.shape != b_B.shape:
        raise ValueError(
            f"outcomes of shapes {a_B.shape} and {b_B.shape} are not paired; give both for the same instructions"
        )
    return mean_interval(a_B - b_B)


def figure_intervals(figures: Callable[[Int[ndarray, "n"]], Sequence[float | None]], n: int) -> list[Interval]:
    """Intervals for figures of n instructions; `mean` is each figure of all of them.

    `figures(rows)` gives them for the instructions with the indices `rows`, int `[n]`, one as often as it stands there. Each resample is
    drawn once for all figures, and the same for every call with this n. Resamples in which a figure is None (a single class, say)
    are left out of its interval, and where that is more than half of them, or n is below 2, it has no ends.

    The ends are the percentiles' distances from the resamples' mean, set about the figure. Resampling adds noise, and a figure that grows with
    noise, such as ECE, would else have it twice and could lie below its own interval. A figure that stays within [0, 1] has its ends there.
    """
    values = figures(np.arange(n))
    draws = resampled(figures, n) if any(value is not None for value in values) else []
    return [interval_about(value, [drawn[i] for drawn in draws], n) for i, value in enumerate(values)]


def resampled(figures: Callable[[Int[ndarray, "n"]], Drawn], n: int) -> list[Drawn]:
    """What `figures(rows)` gives for each resample of n instructions, the same ones in every call with this n; nothing for fewer than 2."""
    # Not scipy's bootstrap: there, one resample without a figure makes both ends NaN.
    rng = np.random.default_rng(SEED)
    return [figures(rng.integers(n, size=n)) for _ in range(RESAMPLES if n > 1 else 0)]


def interval_about(
    value: float | None, drawn: Sequence[float | None], n: int, *, is_difference: bool = False
) -> Interval:
    """The interval of `figure_intervals` about a figure of n instructions, by what it is in each resample.

    A difference of figures has no range that its ends would have to stay in.
    """
    known = [figure for figure in drawn if figure is not None]
    if value is None or not known or 2 * len(known) < len(drawn):
        return Interval(value, None, None, n)
    ends = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + (value - np.mean(known))
    if not is_difference and min(known) >= 0 and max(known) <= 1:
        ends = ends.clip(0, 1)
    return Interval(value, float(ends[0]), float(ends[1]), n)
