"""The synthetic zoo: generated instructions and candidates with planted abilities. It says nothing about real models."""

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.splits import split_of
from satjax.outcomes.synthetic_skills import GROUPS, SKILLS
from satjax.outcomes.table import Candidate, Item, OutcomeTable

SOURCE = "synthetic"
NICKNAMES = [
    "abacus",
    "badger",
    "cobalt",
    "dahlia",
    "ember",
    "falcon",
    "garnet",
    "heron",
    "indigo",
    "juniper",
    "kestrel",
    "lotus",
    "marble",
    "nectar",
    "onyx",
    "poplar",
    "quartz",
    "raven",
    "saffron",
    "tulip",
    "umber",
    "violet",
    "willow",
    "xenon",
    "yarrow",
    "zephyr",
    "acorn",
    "birch",
    "clover",
    "drift",
    "elm",
    "fern",
    "grove",
    "hazel",
    "iris",
    "jade",
    "kelp",
    "lark",
    "moss",
    "nova",
]
ABLE, UNABLE, SPREAD = 0.95, 0.05, 0.03
"""P(right) of a skill mastered and of one not, and how far a candidate's own ability lies from them at most."""
DEVIATION = 0.12
"""Share of single skills that go against the rest of their group."""
MOST_DRAWS = 1000
"""Draws for one new text before a skill counts as exhausted."""


def planted_abilities(seed: int = 0, num_candidates: int = 12) -> tuple[tuple[str, ...], np.ndarray]:
    """Skill names, and each candidate's P(right) on them, `float32[M, num_skills]`: what `synthetic_zoo` draws outcomes from.

    A candidate masters whole groups of skills with a few single exceptions; how many groups is its overall strength. Raises
    SatjaxError for a number of candidates that is not in 1..40.
    """
    if not 1 <= num_candidates <= len(NICKNAMES):
        raise SatjaxError(
            f"the synthetic zoo has no {num_candidates} candidates; num_candidates goes from 1 to {len(NICKNAMES)}"
        )
    rng = np.random.default_rng((seed, 1))
    skills = tuple(SKILLS)
    groups = sorted(set(GROUPS.values()))
    ability = np.empty((num_candidates, len(skills)), np.float32)
    for m in range(num_candidates):
        mastered = rng.permutation(groups)[: 1 + m % (len(groups) - 1)]
        inside = np.array([GROUPS[skill] in mastered for skill in skills])
        able = inside != (rng.random(len(skills)) < DEVIATION)
        ability[m] = np.where(able, ABLE, UNABLE) + rng.uniform(-SPREAD, SPREAD, len(skills))
    return skills, ability


def synthetic_zoo(seed: int = 0, num_items: int = 2400, num_candidates: int = 12) -> OutcomeTable:
    """A table of generated instructions whose outcomes are drawn from `planted_abilities`; the same for the same arguments.

    Items, tasks and candidates all carry `synthetic` in their ids. Texts are distinct and skills take turns; splits go by the text
    (`split_of`). Raises SatjaxError for more candidates than there are names, or more items than the skills have texts.
    """
    skills, ability = planted_abilities(seed, num_candidates)
    if num_items < 1:
        raise SatjaxError(f"the synthetic zoo has no {num_items} items; num_items starts at 1")
    rng = np.random.default_rng((seed, 2))
    seen: set[str] = set()
    items = tuple(_item(n, skills[n % len(skills)], rng, seen) for n in range(num_items))
    ability_MN = ability[:, np.arange(num_items) % len(skills)]
    scores_MN = (rng.random(ability_MN.shape) < ability_MN).astype(np.float32)
    names = NICKNAMES[:num_candidates]
    candidates = tuple(Candidate(f"synthetic-{name}", family=SOURCE, source=SOURCE) for name in names)
    return OutcomeTable(items, candidates, scores_MN)


def _item(number: int, skill: str, rng: np.random.Generator, seen: set[str]) -> Item:
    for _ in range(MOST_DRAWS):
        text, answer = SKILLS[skill](rng)
        if text not in seen:
            seen.add(text)
            return Item(
                f"synthetic/{number}", text, f"synthetic/{skill}", GROUPS[skill], SOURCE, split_of(text), answer
            )
    raise SatjaxError(f"the synthetic zoo runs out of new texts for {skill!r} at item {number}; lower num_items")
