"""`zoo.toml`: the backend, prices and limits of every candidate that is served, and the server's settings."""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from satjax.config.mapping import from_mapping
from satjax.endpoints.address import check_address
from satjax.errors import SatjaxError, unknown_name
from satjax.policy.objective import Objective, Quality, parse_objective

ROUTED = "satjax"
"""The model name that is routed; no candidate may have it."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
BIGGEST_FILE = 2**24
LEAST = dict.fromkeys(("batch_wait_ms", "cooldown_seconds", "shutdown_seconds"), 0)
"""Of settings that may be 0; the least of others is 1, or a thousandth where parts count."""


@dataclass(frozen=True)
class ServedCandidate:
    """One candidate as it is served.

    `base_url` of an OpenAI-compatible API, up to and with `/v1`; `model`: what the candidate is called there; `api_key_env`: the environment
    variable with the key, empty for none; `context_tokens`: the longest request and answer together; `tools`: whether it can call tools;
    `profile`: a profile file, relative to the zoo file, of a candidate that the router does not know.
    """

    name: str
    base_url: str
    model: str
    usd_per_million_input_tokens: float
    usd_per_million_output_tokens: float
    context_tokens: int
    tools: bool
    api_key_env: str = ""
    profile: str = ""


@dataclass(frozen=True)
class Settings:
    """The `[serve]` table; every setting has a default.

    Of a backend: seconds to connect (`connect_timeout_seconds`), until a stream's first byte and between its bytes
    (`first_byte_timeout_seconds`), for a whole answer that is not streamed (`answer_timeout_seconds`), and how long one that failed is asked
    last (`cooldown_seconds`). Of a request: seconds in all (`request_timeout_seconds`) and for its body to arrive (`body_timeout_seconds`), bytes
    (`max_body_bytes`; `max_answer_bytes` of an answer that is not streamed), how many run (`max_requests`) and wait for the router (`max_queue`)
    before the rest is turned away, and how many candidates are tried (`max_attempts`). Of the router: how many are scored at once (`max_batch`) and
    how long the first of them waits for others (`batch_wait_ms`). `shutdown_seconds`: how long running requests may take to finish.
    """

    objective: str = "quality"
    expected_output_tokens: int = 512
    connect_timeout_seconds: float = 5.0
    first_byte_timeout_seconds: float = 30.0
    answer_timeout_seconds: float = 300.0
    request_timeout_seconds: float = 600.0
    body_timeout_seconds: float = 10.0
    cooldown_seconds: float = 10.0
    shutdown_seconds: float = 30.0
    max_attempts: int = 3
    max_body_bytes: int = 4 * 2**20
    max_answer_bytes: int = 16 * 2**20
    max_requests: int = 1024
    max_queue: int = 512
    max_batch: int = 32
    batch_wait_ms: float = 2.0


@dataclass(frozen=True)
class ZooFile:
    """What a zoo file says; candidates by name, in the order of the file."""

    candidates: dict[str, ServedCandidate]
    settings: Settings = field(default_factory=Settings)
    objective: Objective = field(default_factory=Quality)


def read_zoo_file(path: Path) -> ZooFile:
    """Reads and checks a zoo file. Raises SatjaxError naming file and key for anything that is not as it should be."""
    try:
        if path.is_file() and path.stat().st_size > BIGGEST_FILE:
            raise ValueError(f"more than {BIGGEST_FILE >> 20} MiB")
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SatjaxError(f"{path} cannot be read ({reason}); give a file such as configs/serve_zoo.toml") from error
    for key, table in tables.items():
        if key not in ("candidates", "serve"):
            if isinstance(table, dict) and isinstance(table.get("candidates", table.get("includes")), list):
                raise SatjaxError(
                    f"{path} holds named sets of candidates, which is for --zoos; give a file such as configs/serve_zoo.toml"
                )
            raise unknown_name("key", f"{path}: {key}", (f"{path}: candidates", f"{path}: serve"))
    listed, serve = tables.get("candidates", {}), tables.get("serve", {})
    if not isinstance(listed, dict) or not listed:
        raise SatjaxError(f'{path} names no candidate; give at least one table [candidates."NAME"]')
    if not isinstance(serve, dict):
        raise SatjaxError(f"{path}: serve is no table; begin it with [serve]")
    settings = from_mapping(Settings, serve, f"{path}: serve")
    _check_settings(settings, f"{path}: serve")
    try:
        objective = parse_objective(settings.objective)
    except SatjaxError as error:
        raise SatjaxError(f"{path}: serve.objective: {error}") from error
    return ZooFile(
        {name: read_candidate(name, table, str(path)) for name, table in listed.items()}, settings, objective
    )


def read_candidate(name: str, table: Any, where: str) -> ServedCandidate:
    """A candidate from its table. Raises SatjaxError naming it and the key, after `where`."""
    at = f"{where}: candidates.{name}"
    if name in ("", ROUTED) or len(name) > 200 or not name.isprintable() or "/" in (name[0], name[-1]):
        raise SatjaxError(f"{where}: {name[:40]!r} cannot be a candidate's name; {ROUTED!r} is what is routed")
    if not isinstance(table, Mapping):
        raise SatjaxError(f"{at} is no table; give it base_url, model, prices, context_tokens and tools")
    if "name" in table:
        raise SatjaxError(f"{at}.name is an unknown key; the name is in the table's head")
    candidate: ServedCandidate = from_mapping(ServedCandidate, {"name": name, **table}, at)
    for key in ("usd_per_million_input_tokens", "usd_per_million_output_tokens"):
        if not 0 <= getattr(candidate, key) < math.inf:
            raise SatjaxError(f"{at}.{key} = {getattr(candidate, key)}: a price of at least 0 is expected")
    if candidate.context_tokens < 1:
        raise SatjaxError(f"{at}.context_tokens = {candidate.context_tokens} must be at least 1")
    if not candidate.model:
        raise SatjaxError(f"{at}.model is empty; give the name that the backend knows it by")
    if candidate.api_key_env and not VARIABLE.fullmatch(candidate.api_key_env):
        raise SatjaxError(f"{at}.api_key_env is no name of an environment variable; keys themselves do not belong here")
    check_address(candidate.base_url, f"{at}.base_url", "a variable named by api_key_env")
    return candidate


def _check_settings(settings: Settings, at: str) -> None:
    for key, value in vars(settings).items():
        if isinstance(value, str):
            continue
        least = LEAST.get(key, 1e-3 if isinstance(value, float) else 1)
        if not least <= value < math.inf:
            raise SatjaxError(f"{at}.{key} = {value} must be at least {least:g}")
