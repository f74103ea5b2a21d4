"""The command line: verbs only; what they do lives elsewhere."""

import argparse
import logging
import sys
from collections.abc import Sequence

import absl.logging

from satjax import __version__
from satjax.cli import assessment, candidates, evaluation, outcomes, ranking, serving, training
from satjax.cli.parser import Parser, verb_adder
from satjax.errors import SatjaxError
from satjax.render.standard_output import safe_output


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code: 0, 1 where `preflight` or `doctor` finds something amiss, 2 for mistakes that the user can mend, 75 where
    the same command goes on.
    """
    code = 0
    try:
        with safe_output():
            code = _run(arguments)
    except SatjaxError as error:
        return _fail(error)
    return code


def _run(arguments: Sequence[str] | None) -> int:
    logging.basicConfig(level=logging.WARNING, format="satjax: %(message)s", stream=sys.stderr)
    logging.getLogger("satjax").setLevel(logging.INFO)
    # Where a save fails, Orbax raises; it also logs a traceback from each of its threads and futures.
    absl.logging.set_verbosity(absl.logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    parser = _build_parser()
    try:
        options, rest = parser.parse_known_args(arguments)
        if rest and not options.takes_config_flags:
            raise _unknown_argument(options, rest[0])
        options.config_flags = rest
        return options.run(options)
    except SatjaxError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("satjax: interrupted", file=sys.stderr)
        return 130


def _unknown_argument(options: argparse.Namespace, argument: str) -> SatjaxError:
    listed = [name for name in ("candidates", "baselines") if getattr(options, name, None)]
    hint = ""
    if listed:
        hint = f"; --{listed[0]} takes its names with commas between them: A,B"
    elif options.verb == "rank" and not argument.startswith("-"):  # argparse takes them in one row only
        hint = "; give all instructions in a row, with no flag between them"
    return SatjaxError(f"unknown argument {argument!r}{hint} (see `satjax {options.verb} --help`)")


def _fail(error: SatjaxError) -> int:
    print(f"{error.details}satjax: {' '.join(str(error).split())}", file=sys.stderr)
    return error.exit_code


def _build_parser() -> Parser:
    parser = Parser(prog="satjax", description="Rank candidate LLMs for an instruction without running any of them.")
    parser.add_argument("--version", action="version", version=f"satjax {__version__}")
    verb = verb_adder(parser)
    for group in (ranking, assessment, candidates, serving, training, evaluation, outcomes):
        group.add_verbs(verb)
    verb("doctor", _doctor, "Show versions, devices and base weights, and what to fix.", "satjax doctor")
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from satjax.doctor import doctor

    return doctor()
