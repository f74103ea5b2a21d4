"""`satjax profile` and `remove`: how a candidate comes into a router directory, and out of it again."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from satjax.cli.parser import ROUTER_HELP, Verb
from satjax.errors import SatjaxError
from satjax.files import local_path
from satjax.pretrained import DEFAULT, is_shipped, router_directory

if TYPE_CHECKING:
    from satjax.export.directory import RouterFiles

log = logging.getLogger("satjax")


def add_verbs(verb: Verb) -> None:
    """Adds `profile`, `remove`."""
    profile = verb(
        "profile",
        _profile,
        "Make a new candidate's capability profile from its outcomes, and put the candidate into a router.",
        "satjax profile --outcomes DIR --candidate NAME --out-router runs/mine",
    )
    profile.add_argument("--outcomes", required=True, metavar="DIR", help="an outcome table, or 'synthetic'")
    profile.add_argument("--router", default=DEFAULT, type=router_directory, metavar="DIR", help=ROUTER_HELP)
    profile.add_argument("--candidate", required=True, metavar="NAME", help="the model_id in the outcome table")
    profile.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="where the profile goes, as JSON (default: CANDIDATE.json, with _ and a digest where its name holds characters such as /)",
    )
    add_target_flags(profile)

    remove = verb(
        "remove",
        _remove,
        "Take a candidate out of a router that `assess` or `profile` has put it into.",
        "satjax remove my-model --router runs/mine",
    )
    remove.add_argument("candidate", metavar="NAME", help="as the router calls it")
    remove.add_argument(
        "--router", required=True, type=router_directory, metavar="DIR", help="the router that is to lose it"
    )


def add_target_flags(parser: argparse._ActionsContainer) -> None:
    """Adds the flags that say which router the candidate goes into, if any."""
    into = parser.add_mutually_exclusive_group()
    into.add_argument("--add", action="store_true", help="put the candidate into --router")
    into.add_argument(
        "--out-router",
        type=local_path,
        metavar="DIR",
        help="write a copy of --router with the candidate there; a copy that is there already takes it in",
    )


def routers(options: argparse.Namespace, candidate: str) -> tuple[Path, "RouterFiles", Path | None]:
    """The router whose test is taken, what it holds, and where the one with the candidate goes, if anywhere. Raises SatjaxError where it cannot go
    there.
    """
    from satjax.assess.result import check_addable
    from satjax.export.directory import check_free, read_router, router_to_extend

    target = options.router if options.add else options.out_router
    if target is None:
        return options.router, read_router(options.router), None
    source = router_to_extend(options.router, target)
    files = read_router(source)
    check_addable(files, candidate)
    if options.add and is_shipped(options.router):
        raise SatjaxError(
            "a router that comes with satjax stays as it is; give --out-router DIR instead of --add, and DIR to `satjax rank --router`"
        )
    check_free(source, target)
    return source, files, target


def profile_file(out: Path | None, candidate: str) -> Path:
    """Where a candidate's profile goes. Raises SatjaxError where that is no file."""
    from satjax.files import safe_name

    path = out or Path(f"{safe_name(candidate)}.json")
    if not path.name or path.is_dir():
        raise SatjaxError(f"--out {path} is a directory; name a file, in it or elsewhere, for the profile")
    return path


def say_written(profile: Path, router: Path | None, about: str = "") -> None:
    """Says where the profile is, with what is to be said `about` it, and the router, if there is one."""
    print(f"profile: {profile}{about}")
    if router is not None:
        print(f"router:  {router}")


def _profile(options: argparse.Namespace) -> int:
    import numpy as np

    from satjax.aptitude import profile_from_outcomes
    from satjax.assess.result import add_to_router, with_assessment
    from satjax.outcomes import open_outcomes

    source, files, target = routers(options, options.candidate)
    table, test = open_outcomes(options.outcomes), files.test
    if options.router == router_directory(DEFAULT) and test.item_ids.isdisjoint(table.item_ids):
        raise SatjaxError(
            f"{options.outcomes} holds none of the {len(test.item_ids)} aptitude items of the default router; name yours with --router DIR"
        )
    out = profile_file(options.out, options.candidate)
    profile = profile_from_outcomes(table, test, options.candidate)
    if others := test.with_other_texts(table.items):
        log.warning(
            "%d aptitude items, such as %r, have other texts in %s than the router was trained on; their outcomes count all the same",
            len(others),
            others[0],
            options.outcomes,
        )
    accuracy = round(float(np.nanmean(profile.outcomes_TK)), 4)
    profile = with_assessment(profile, files, source, {"by": "outcomes", "accuracy": accuracy})
    profile.write(out)
    if target is not None:
        add_to_router(profile, options.router, target)
    observed = (profile.assessment or {})["items"]
    say_written(out, target, f" ({observed} of {test.num_tasks * test.shots} aptitude items observed)")
    return 0


def _remove(options: argparse.Namespace) -> int:
    from satjax.assess.result import remove_from_router

    remove_from_router(options.candidate, options.router)
    print(f"router: {options.router} (without {options.candidate})")
    return 0
