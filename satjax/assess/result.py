"""What an assessment ends with: the candidate's profile, how sure it is, and the router that knows it."""

import datetime
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from satjax.aptitude import CapabilityProfile, profile_from_scores
from satjax.aptitude.measurement import PREFIX, AbilityScale
from satjax.assess.run import Assessment
from satjax.checkpoint import load_arrays
from satjax.errors import SatjaxError, unknown_name
from satjax.export.directory import RouterFiles, rewrite_router
from satjax.export.model_card import with_section
from satjax.files import safe_name, write_text
from satjax.pretrained import is_shipped

ADDED = "Added after training"
MOST_UNANSWERED = 0.1
"""Share of the items that were asked, without which a candidate still goes into a router: those that fail are seldom like the others."""


def profile_of(
    found: Assessment, files: RouterFiles, directory: Path, candidate: str, settings: dict[str, Any]
) -> CapabilityProfile:
    """The profile of a candidate, for the router that was read from `directory`; `settings` are told in its `assessment` beside what was found.

    Raises SatjaxError where no item was answered.
    """
    if not found.outcomes:
        first = next(iter(found.unanswered.values()), "none was asked")
        raise SatjaxError(f"no item of the aptitude test was answered ({first}); there is nothing to make a profile of")
    profile = profile_from_scores(found.outcomes, files.test, candidate)
    items, right = len(found.outcomes), sum(found.outcomes.values())
    return with_assessment(
        profile,
        files,
        directory,
        {
            **settings,
            "unparsed": len(found.unparsed),
            "cut_short": len(found.cut_short),
            "undelivered": len(found.undelivered),
            "unanswered": len(found.unanswered),
            "tokens_in": found.tokens_in,
            "tokens_out": found.tokens_out,
            "accuracy": right / items,
            "accuracy_standard_error": standard_error(right, items),
        },
    )


def with_assessment(
    profile: CapabilityProfile, files: RouterFiles, directory: Path, about: dict[str, Any]
) -> CapabilityProfile:
    """The profile with what `about` tells of it, its date and number of items, and how far it lets the router of `directory` know probabilities."""
    assessment = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "items": int(profile.count_T.sum()),
        "of": files.test.num_tasks * files.test.shots,
        **about,
    }
    scale = {path: shape for path, shape in files.learned.items() if path.startswith(PREFIX)}
    if scale:
        measure = AbilityScale.from_params(load_arrays(directory / "params", scale))
        nothing = np.full((files.test.num_tasks, files.test.shots), np.nan, np.float32)
        known = {"probability_deviation": profile.outcomes_TK, "probability_deviation_before": nothing}
        assessment |= {
            name: round(measure.deviation(outcome_TK, files.calibration.probability), 4)
            for name, outcome_TK in known.items()
        }
    return replace(profile, assessment=assessment)


def check_enough(found: Assessment, profile: Path) -> None:
    """Raises SatjaxError where too many of the items that were asked have no outcome for the candidate to go into a router, or none got a reply."""
    asked = len(found.outcomes) + len(found.unanswered)
    if found.undelivered and len(found.undelivered) == len(found.outcomes):
        item, reason = next(iter(found.undelivered.items()))
        raise SatjaxError(
            f"no item got a reply ({item}: {reason}), so that the candidate goes into no router; mend what is the matter and run the same command again"
        )
    if len(found.unanswered) > MOST_UNANSWERED * asked:
        item, reason = next(iter(found.unanswered.items()))
        raise SatjaxError(
            f"{len(found.unanswered)} of {asked} items got no reply ({item}: {reason}), so that the candidate goes into no router; mend what is the "
            f"matter and run the same command again, which asks only these ({profile} is the profile of the others)"
        )


def standard_error(right: float, items: int) -> float:
    """Of the share of items that are right, from a sample of items; two of each kind are added, so that a perfect sample is not certain
    (Agresti and Coull 1998).
    """
    share = (right + 2) / (items + 4)
    return math.sqrt(share * (1 - share) / (items + 4))


def check_addable(files: RouterFiles, candidate: str) -> None:
    """Raises SatjaxError for a candidate that the router knows by its training or export, and not because it was added."""
    if any(profile.candidate == candidate and profile.assessment is None for profile in files.profiles):
        raise SatjaxError(
            f"the router knows a candidate {candidate!r} already, from its training; name this one otherwise (--candidate of `satjax assess`, or "
            "model_id in the outcomes)"
        )


def add_to_router(profile: CapabilityProfile, directory: Path, target: Path) -> None:
    """Writes the router of `directory` with one candidate more to `target`, whole or not at all; one that was added before is replaced.

    `target` may be `directory` itself, or that router with other candidates, which stay, written by anybody until now. The card names what was
    added.
    """
    with rewrite_router(directory, target, extend=True) as (fresh, files):
        check_addable(files, profile.candidate)
        _take_out(fresh, profile.candidate)
        profile.write(fresh / "profiles" / f"{safe_name(profile.candidate)}.json")
        _write_card(fresh, (*files.profiles, profile))


def remove_from_router(candidate: str, directory: Path) -> None:
    """Takes a candidate that was added to the router of `directory` out of it again, and off its card.

    Raises SatjaxError for one that it was trained or exported with, and for one that it does not know.
    """
    if is_shipped(directory):
        raise SatjaxError(
            "a router that comes with satjax stays as it is; candidates are taken out of the copies that --out-router has made"
        )
    with rewrite_router(directory, directory) as (fresh, files):
        known = {profile.candidate: profile for profile in files.profiles}
        if candidate not in known:
            raise unknown_name("candidate", candidate, list(known))
        if known[candidate].assessment is None:
            raise SatjaxError(
                f"the router knows {candidate!r} from its training; only candidates that were added to it can be taken out "
                "(`satjax rank --candidates` ranks some only)"
            )
        _take_out(fresh, candidate)
        _write_card(fresh, [profile for profile in files.profiles if profile.candidate != candidate])


def _take_out(fresh: Path, candidate: str) -> None:
    for path in (fresh / "profiles").iterdir():  # whatever an earlier version called its file
        if CapabilityProfile.read(path).candidate == candidate:
            path.unlink()


def _write_card(fresh: Path, profiles: Iterable[CapabilityProfile]) -> None:
    added = {each.candidate: each.assessment for each in profiles if each.assessment is not None}
    about = "\n".join(
        f"- `{name}`: {said.get('items')} items, {said.get('date')}" for name, said in sorted(added.items())
    )
    card = fresh / "README.md"
    write_text(card, with_section(card.read_text(encoding="utf-8"), ADDED, about))
