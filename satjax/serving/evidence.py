"""Which aptitude tasks speak for a candidate and against it, for one instruction.

The router multiplies what it reads that the instruction demands with the candidate's ability (`satjax.models.ability_head`); aptitude tasks do not
enter that product one by one. What is shown is the profile behind the ability: of the tasks whose demands are the most like the instruction's, those on
which the candidate did better, or worse, than the mean of the zoo.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from satjax.aptitude import CapabilityProfile

NEAREST = 10
SHOWN = 3


@dataclass(frozen=True)
class Task:
    """An aptitude task that is like the instruction."""

    task: str
    likeness: Annotated[
        float, Field(description="Cosine of its demands and the instruction's, as the router reads them.")
    ]
    accuracy: Annotated[float, Field(description="The first candidate's mean outcome on it.")]
    zoo_accuracy: Annotated[float, Field(description="The mean over the router's candidates.")]


@dataclass(frozen=True)
class Evidence:
    """Tasks on which the first candidate did better (`spoke_for`) or worse (`against`) than the zoo."""

    spoke_for: list[Task]
    against: list[Task]


def evidence(likeness_T: np.ndarray, profiles: Sequence[CapabilityProfile], candidate: str) -> Evidence:
    """Tasks for a candidate, and against it: up to three each of the ten most alike, the largest difference from the zoo's mean first.

    `likeness_T` float32 `[T]` (`Router.task_likeness`); tasks without outcomes of the candidate, or unlike the instruction, are left out.
    """
    profile = next(profile for profile in profiles if profile.candidate == candidate)
    with np.errstate(invalid="ignore"):
        accuracy_MT = np.stack([profile.accuracy_T for profile in profiles])
        observed_T = (~np.isnan(accuracy_MT)).sum(axis=0)
        zoo_T = np.nansum(accuracy_MT, axis=0) / np.maximum(observed_T, 1)
    told = ~np.isnan(profile.accuracy_T) & (likeness_T > 0)
    nearest = [t for t in np.argsort(-likeness_T, kind="stable").tolist() if told[t]][:NEAREST]
    found = [
        Task(profile.tasks[t], float(likeness_T[t]), float(profile.accuracy_T[t]), float(zoo_T[t])) for t in nearest
    ]
    by_difference = sorted(found, key=lambda task: task.zoo_accuracy - task.accuracy)
    spoke_for = [task for task in by_difference if task.accuracy > task.zoo_accuracy][:SHOWN]
    against = [task for task in reversed(by_difference) if task.accuracy < task.zoo_accuracy][:SHOWN]
    return Evidence(spoke_for, against)
