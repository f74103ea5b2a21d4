"""What the best candidate for a request is: pure functions of probabilities and prices."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from satjax.errors import SatjaxError

FORMS = (
    "'quality', 'probability - LAMBDA * price' (LAMBDA per USD, at least 0) or 'cheapest above THRESHOLD' (in [0, 1])"
)
NUMBER = r"([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)"
VALUE = re.compile(rf"\s*probability\s*-\s*{NUMBER}\s*\*\s*price\s*", re.ASCII)
CHEAPEST = re.compile(rf"\s*cheapest\s+above\s+{NUMBER}\s*", re.ASCII)
LONGEST = 200
PATTERN = rf"^\s*(quality|{VALUE.pattern}|{CHEAPEST.pattern})\s*$"
"""All three, for descriptions of the API; a threshold is at most 1."""


@dataclass(frozen=True)
class Offer:
    """What one candidate offers for one request: the probability that it handles it, and the expected price in USD."""

    candidate: str
    probability: float
    price_usd: float


@dataclass(frozen=True)
class Objective:
    """`quality`: the likeliest. `value`: the largest `probability - number * price_usd`. `cheapest`: the cheapest of those whose probability is at
    least `number`.
    """

    kind: Literal["quality", "value", "cheapest"] = "quality"
    number: float = 0.0

    def __str__(self) -> str:
        match self.kind:
            case "value":
                return f"probability - {self.number:g} * price"
            case "cheapest":
                return f"cheapest above {self.number:g}"
            case _:
                return "quality"


def parse_objective(text: str) -> Objective:
    """Reads one of the three forms. Raises SatjaxError for anything else."""
    if len(text) <= LONGEST:
        if text.strip() == "quality":
            return Objective()
        if (found := VALUE.fullmatch(text)) and math.isfinite(float(found[1])):
            return Objective("value", float(found[1]))
        if (found := CHEAPEST.fullmatch(text)) and float(found[1]) <= 1:
            return Objective("cheapest", float(found[1]))
    raise SatjaxError(f"objective {text[:40]!r} is unknown: give {FORMS}")


def in_order(objective: Objective, offers: Iterable[Offer]) -> list[Offer]:
    """The offers from the best to the last resort: the order in which they are tried.

    Below the threshold of `cheapest` the likelier goes first. What is equal goes by price, then probability, then as given.
    """

    def key(offer: Offer) -> tuple[float, ...]:
        probability, price = offer.probability, offer.price_usd
        match objective.kind:
            case "value":
                return (objective.number * price - probability, price, -probability)
            case "cheapest":
                return (0.0, price, -probability) if probability >= objective.number else (1.0, -probability, price)
            case _:
                return (-probability, price)

    return sorted(offers, key=key)
