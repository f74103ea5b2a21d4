"""What the verbs share: a parser that says what is wrong in one line, how a verb is added, and words that several of them use."""

import argparse
import difflib
import sys
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

from satjax.errors import SatjaxError
from satjax.processes.distributed import JOIN_TIMEOUT
from satjax.processes.interruption import Interrupted

ROUTER_HELP = "an exported router, or one of those that come with satjax: default, large (default: default)"
SEVERAL_HOSTS = """Start the same command on every host. On TPU pods (also on GKE), under SLURM and Open MPI 4, and in indexed Kubernetes jobs (with the
kubernetes package) nothing more is needed; elsewhere give the first three flags. Where a host is lost, or one process gets SIGTERM, all end with exit
code 75: start them again, on as many hosts as there are then, and the work goes on from what is saved."""

WIDTH = 78
"""Characters of a line of help; argparse wraps the options by itself."""

Run = Callable[[argparse.Namespace], int]
"""Runs a verb with its options; returns the exit code."""


class Verb(Protocol):
    """Adds a verb."""

    def __call__(
        self, name: str, run: Run, help: str, example: str, *, takes_config_flags: bool = False
    ) -> argparse.ArgumentParser:
        """By its name, what runs it, its help and an example; `--config.a.b=v` comes in `options.config_flags` where it takes such flags."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Raises SatjaxError."""
        raise SatjaxError(f"{message} (see `{self.prog} --help`)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Adds the choice that was likely meant; argparse does so from Python 3.14 on."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            if nearest := difflib.get_close_matches(str(value), [str(choice) for choice in action.choices or ()], n=1):
                error.message += f"; did you mean {nearest[0]!r}?"
            raise


def verb_adder(parser: Parser) -> Verb:
    """What adds verbs to a parser."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str, run: Run, help: str, example: str, *, takes_config_flags: bool = False
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(
            name,
            help=help,
            description=textwrap.fill(help, WIDTH),
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run, takes_config_flags=takes_config_flags)
        return added

    return verb


def say_interrupted(error: Interrupted) -> int:
    """Says what an interrupted run has saved; returns the exit code."""
    print(f"satjax: {error}", file=sys.stderr)
    return error.exit_code


def names_in(text: str | None, flag: str) -> tuple[str, ...] | None:
    """The names of a flag's list with commas, at least one; None where the flag is not given. Raises SatjaxError for a name that stands twice."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise SatjaxError(f"{flag} names nobody; give names with commas between them, or leave it out for all")
    if twice := [name for name in names if names.count(name) > 1]:
        raise SatjaxError(f"{flag} names {twice[0]!r} twice; name it once")
    return names


def add_host_flags(parser: argparse.ArgumentParser, description: str) -> None:
    """The flags by which several processes find each other (`satjax.processes.distributed.find_cluster`)."""
    hosts = parser.add_argument_group("several hosts", textwrap.fill(description, WIDTH))
    hosts.add_argument("--coordinator", metavar="HOST:PORT", help="process 0, at a free port that all others reach")
    hosts.add_argument("--num-processes", type=int, metavar="N", help="how many there are; 1: this host alone")
    hosts.add_argument("--process-id", type=int, metavar="I", help="which of them this is, from 0")
    hosts.add_argument(
        "--join-timeout",
        type=float,
        default=JOIN_TIMEOUT,
        metavar="SECONDS",
        help="how long to wait for all of them to come (default: %(default)g); then those missing are named, and the exit code is 75",
    )
