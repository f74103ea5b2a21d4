"""`satjax assess`: a live model takes the aptitude test."""

import argparse
import json
import logging
import math
import os
from typing import TYPE_CHECKING, Any

from satjax.cli.candidates import add_target_flags, profile_file, routers, say_written
from satjax.cli.parser import ROUTER_HELP, Verb
from satjax.errors import SatjaxError
from satjax.files import local_path
from satjax.pretrained import DEFAULT, router_directory

if TYPE_CHECKING:
    from satjax.aptitude import AptitudeTest
    from satjax.assess.endpoint import Endpoint

log = logging.getLogger("satjax")


def add_verbs(verb: Verb) -> None:
    """Adds `assess`."""
    assess = verb(
        "assess",
        _assess,
        "Give a model its aptitude test, behind any OpenAI-compatible endpoint. Interrupted, the same command goes on where it stopped.",
        "satjax assess --base-url http://localhost:8000/v1 --model my-model --outcomes DIR --limit 256 --out-router runs/mine",
    )
    where = assess.add_argument_group("the model")
    where.add_argument(
        "--base-url", required=True, metavar="URL", help="address of the endpoint; usually ends with /v1"
    )
    where.add_argument("--model", required=True, metavar="NAME", help="as the endpoint calls it")
    where.add_argument("--candidate", metavar="NAME", help="as the router is to call it (default: --model)")
    where.add_argument(
        "--api-key-env", metavar="VAR", help="the environment variable that holds the key (default: no key)"
    )
    where.add_argument("--max-tokens", type=int, default=2048, metavar="N", help="of one reply (default: 2048)")
    where.add_argument(
        "--body",
        type=_json_object,
        default={},
        metavar="JSON",
        help='fields for every request; null takes one out: {"max_tokens": null, "max_completion_tokens": 4096, "temperature": null}',
    )
    where.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="of one request (default: 300); one that takes longer is sent three times at most",
    )
    where.add_argument("--concurrency", type=int, default=8, metavar="N", help="requests at once (default: 8)")
    where.add_argument(
        "--price-in",
        type=float,
        metavar="USD",
        help="of a million tokens read, to show what it costs, where the endpoint tells tokens",
    )
    where.add_argument("--price-out", type=float, metavar="USD", help="of a million tokens written")

    test = assess.add_argument_group("the test")
    test.add_argument("--router", default=DEFAULT, type=router_directory, metavar="DIR", help=ROUTER_HELP)
    test.add_argument(
        "--outcomes",
        required=True,
        metavar="DIR",
        help="your own copy of the data that the router was trained on: an outcome table with texts and answers of the test's items",
    )
    test.add_argument(
        "--limit",
        type=int,
        metavar="K",
        help="ask K items, spread over the tasks (default: all); a larger K later asks only the missing ones. docs/results.md says what fewer items cost",
    )
    test.add_argument(
        "--rotate",
        action="store_true",
        help="ask each item with its options in every rotation; it counts as right only if it is right in all (circle test). Harder than the test that "
        "the shipped router's candidates took",
    )

    result = assess.add_argument_group("the result")
    result.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="the profile (default: CANDIDATE.json, with _ and a digest where its name holds characters such as /); FILE.journal keeps the replies, and "
        "whatever is in it is not asked again: remove it where another model answers to the name",
    )
    add_target_flags(result)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def _assess(options: argparse.Namespace) -> int:
    from satjax.assess.endpoint import Endpoint
    from satjax.assess.journal import open_journal
    from satjax.assess.result import add_to_router, check_enough, profile_of
    from satjax.assess.run import other_measurement, questions_in_order, run
    from satjax.outcomes import read_outcomes
    from satjax.processes.interruption import stop_requests
    from satjax.render.assessment import assessment_table
    from satjax.render.progress import assessment_progress

    prices = _checked_numbers(options)
    candidate = options.candidate or options.model
    endpoint = Endpoint(
        options.base_url, options.model, _key(options.api_key_env), options.max_tokens, options.body, options.timeout
    )
    source, files, target = routers(options, candidate)
    table = read_outcomes(options.outcomes)
    questions = questions_in_order(files.test, table)[: options.limit]
    if doubt := other_measurement(questions, table):
        log.warning("%s", doubt)
    out = profile_file(options.out, candidate)
    kept = out.with_name(f"{out.name}.journal")
    job, most_tokens = _job(endpoint, files.test)
    with (
        stop_requests() as stop,
        open_journal(kept, job, most_tokens) as journal,
        assessment_progress(prices) as on_progress,
    ):
        # Another model may answer to the same name by now.
        known = [question for question in questions if journal.knows(question.item_id)]
        others = [each.item_id for each in known if not journal.reply(each.item_id, 0, each.prompt())]
        if same := len(known) - len(others):
            log.warning("%d of %d items have their replies from %s; remove it to ask anew", same, len(questions), kept)
        if others:
            log.warning(
                "%d items, such as %r, have another text now than the one that %s holds a reply to, and are asked again",
                len(others),
                others[0],
                kept,
            )
        found = run(
            endpoint,
            questions,
            journal,
            concurrency=options.concurrency,
            rotate=options.rotate,
            stop=stop,
            on_progress=on_progress,
        )
    settings: dict[str, Any] = {"model": options.model, "rotated": options.rotate}
    if prices and found.tokens_in is not None and found.tokens_out is not None:
        settings["cost_usd"] = round(found.tokens_in * prices[0] + found.tokens_out * prices[1], 6)
    profile = profile_of(found, files, source, candidate, settings)
    profile.write(out)
    assessment_table(profile, found.unparsed, found.undelivered, found.unanswered)
    if target is not None:
        check_enough(found, out)
        add_to_router(profile, options.router, target)
    say_written(out, target)
    return 0


def _checked_numbers(options: argparse.Namespace) -> tuple[float, float] | None:
    """What a token read and one written cost, where that is said. Raises SatjaxError for numbers of any flag that cannot be."""
    for name in ("concurrency", "limit", "max_tokens", "timeout"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise SatjaxError(f"--{name.replace('_', '-')} {value:g}: give a number above 0")
    for name in ("price_in", "price_out"):
        if (value := getattr(options, name)) is not None and not 0 <= value < math.inf:
            raise SatjaxError(f"--{name.replace('_', '-')} {value:g}: give US dollars, at least 0")
    if (options.price_in is None) != (options.price_out is None):
        raise SatjaxError("--price-in and --price-out go together: give both, or none")
    return None if options.price_in is None else (options.price_in / 1e6, options.price_out / 1e6)


def _job(endpoint: "Endpoint", test: "AptitudeTest") -> tuple[dict[str, Any], int]:
    """What replies depend on, for the journal, and the most tokens that one may have."""
    from satjax.assess.endpoint import TOKEN_LIMITS
    from satjax.assess.journal import UNLIMITED
    from satjax.assess.prompts import CHOOSE, WRITE

    request = {key: value for key, value in endpoint.request("").items() if key != "messages"}
    limits = [limit for name in TOKEN_LIMITS if isinstance(limit := request.pop(name, None), int)]
    job = {"aptitude_test": test.fingerprint, "request": request, "endings": [CHOOSE, WRITE]}
    return job, min(limits, default=UNLIMITED)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise SatjaxError(f"--api-key-env {variable}: there is no such environment variable, or it is empty")
    return key
