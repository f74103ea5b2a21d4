"""What the best candidate is: the likeliest, the one that is most worth its price, or the cheapest that is likely enough."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from satjax.errors import SatjaxError

FORMS = (
    "'quality', 'probability - LAMBDA * price' (LAMBDA per USD, at least 0) or 'cheapest above THRESHOLD' (in [0, 1])"
)
NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)"
WORTH = re.compile(rf"\s*probability\s*-\s*{NUMBER}\s*\*\s*price\s*", re.ASCII)
CHEAPEST = re.compile(rf"\s*cheapest\s+above\s+{NUMBER}\s*", re.ASCII)
LONGEST = 200
PATTERN = rf"^\s*(quality|{WORTH.pattern}|{CHEAPEST.pattern})\s*$"
"""All three, for descriptions of the API; a threshold is at most 1."""


@dataclass(frozen=True)
class Quality:
    """The likeliest candidate, whatever it costs."""

    def __str__(self) -> str:
        return "quality"


@dataclass(frozen=True)
class Worth:
    """The candidate with the largest `probability - weight * price`; `weight` is the probability that a US dollar has to buy."""

    weight: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise SatjaxError(f"objective: the weight of the price is {self.weight:g}; give a number of at least 0")

    def __str__(self) -> str:
        return f"probability - {_shortest(self.weight)} * price"


@dataclass(frozen=True)
class Cheapest:
    """The cheapest candidate whose probability is at least `above`, as `satjax calibrate` finds it; where none is, the likeliest."""

    above: float

    def __post_init__(self) -> None:
        if not 0 <= self.above <= 1:
            raise SatjaxError(f"objective: the threshold is {self.above:g}; give a probability, from 0 to 1")

    def __str__(self) -> str:
        return f"cheapest above {_shortest(self.above)}"


Objective = Quality | Worth | Cheapest


def _shortest(number: float) -> str:
    """The number with as many digits as it takes to read the same one again."""
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))


def parse_objective(text: str) -> Objective:
    """Reads what `str` of an objective writes. Raises SatjaxError for anything else."""
    if len(text) <= LONGEST:
        if text.strip() == "quality":
            return Quality()
        if (found := WORTH.fullmatch(text)) and math.isfinite(float(found[1])):
            return Worth(float(found[1]))
        if (found := CHEAPEST.fullmatch(text)) and float(found[1]) <= 1:
            return Cheapest(float(found[1]))
    raise SatjaxError(f"objective {text[:40]!r} is unknown: give {FORMS}")


def order(probability_M: Sequence[float], price_M: Sequence[float], objective: Objective) -> list[int]:
    """Candidates by index, from the best to the last resort: the order in which they are tried.

    Args:
        probability_M: of handling the instruction, in [0, 1].
        price_M: expected US dollars of the call; NaN, unknown, is dearer than everything.
        objective: what is best. Equals go by price, then by probability, then as they are given.
    """
    if len(probability_M) != len(price_M):
        raise ValueError(f"{len(probability_M)} probabilities and {len(price_M)} prices")

    def key(m: int) -> tuple[float, ...]:
        probability, price = float(probability_M[m]), float(price_M[m])
        price = math.inf if math.isnan(price) else price
        match objective:
            case Worth(weight):
                return (weight * price - probability if weight else -probability, price, -probability)
            case Cheapest(above):
                return (0.0, price, -probability) if probability >= above else (1.0, -probability, price)
            case _:
                return (-probability, price)

    return sorted(range(len(probability_M)), key=key)
