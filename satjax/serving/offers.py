"""What candidates offer for one request, in the order in which they are tried."""

from collections.abc import Sequence
from dataclasses import dataclass

from satjax.policy.objective import Objective, order


@dataclass(frozen=True)
class Offer:
    """What one candidate offers for one request: the probability that it handles it, and the expected price in USD."""

    candidate: str
    probability: float
    price_usd: float


def in_order(objective: Objective, offers: Sequence[Offer]) -> list[Offer]:
    """The offers from the best to the last resort (`satjax.policy.objective.order`)."""
    chances, prices = [offer.probability for offer in offers], [offer.price_usd for offer in offers]
    return [offers[index] for index in order(chances, prices, objective)]
