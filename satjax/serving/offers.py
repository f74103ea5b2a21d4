"""What candidates offer for one request, in the order in which they are tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from satjax.policy.objective import Objective, order


@dataclass(frozen=True)
class Offer:
    """What one candidate offers for one request."""

    candidate: str
    probability: Annotated[float, Field(description="That it handles the instruction; calibrated.")]
    price_usd: Annotated[float, Field(description="What the request is expected to cost there.")]


def in_order(objective: Objective, offers: Sequence[Offer]) -> list[Offer]:
    """The offers from the best to the last resort (`satjax.policy.objective.order`)."""
    chances, prices = [offer.probability for offer in offers], [offer.price_usd for offer in offers]
    return [offers[index] for index in order(chances, prices, objective)]
