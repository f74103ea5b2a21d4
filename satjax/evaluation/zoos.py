"""Zoos as data: named sets of candidates that routing is measured on."""

import logging
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError, some

log = logging.getLogger("satjax")

ALL = "all"
"""The zoo of every candidate that is there; it needs no entry in the file."""


def read_zoos(path: Path) -> dict[str, tuple[str, ...]]:
    """Candidates by zoo from a TOML file: a table each, with `candidates`, `includes` (zoos further up) and `about`.

    Raises SatjaxError naming file and zoo for anything else.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SatjaxError(
            f"zoos {path} cannot be read ({error}); give a TOML file such as configs/zoos.toml"
        ) from error
    served = tables.get("candidates")
    if isinstance(served, dict) and any(isinstance(each, dict) for each in served.values()):
        raise SatjaxError(
            f"zoos {path} says how candidates are served, which is for --zoo; give a file such as configs/zoos.toml"
        )
    zoos: dict[str, tuple[str, ...]] = {}
    for name, table in tables.items():
        where = f"zoos {path}: {name}"
        if name == ALL:
            raise SatjaxError(f"{where} stands for every candidate and needs no entry; name this zoo otherwise")
        if not isinstance(table, dict) or not set(table) <= {"about", "candidates", "includes"}:
            raise SatjaxError(f"{where} is no zoo; give it candidates, includes and about, and nothing else")
        members: list[str] = []
        for other in _names(table.get("includes", []), f"{where}.includes"):
            if other not in zoos:
                raise SatjaxError(
                    f"{where}.includes: no zoo {other!r} stands further up in the file; name one that does"
                )
            members += zoos[other]
        members += _names(table.get("candidates", []), f"{where}.candidates")
        if len(set(members)) < 2:
            raise SatjaxError(f"{where} has fewer than two candidates; there is nothing to route between")
        zoos[name] = tuple(dict.fromkeys(members))
    return zoos


def _names(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise SatjaxError(f"{where}: a list of names is expected")
    return value


def columns_of_zoos(zoos: Mapping[str, tuple[str, ...]], candidates: Sequence[str]) -> dict[str, list[int]]:
    """Columns of each zoo that `candidates` holds whole, and of `all`; a zoo that lacks one is left out (`warn_of_zoos_left_out`)."""
    column = {name: i for i, name in enumerate(candidates)}
    found = {name: [column[c] for c in members] for name, members in zoos.items() if set(members) <= set(column)}
    return {**found, ALL: list(range(len(candidates)))}


def warn_of_zoos_left_out(zoos: Mapping[str, tuple[str, ...]], candidates: Sequence[str]) -> None:
    """Logs which zoos `candidates` does not hold whole, and what they lack: a zoo of another table, or a name with a typing error."""
    for name, members in zoos.items():
        if missing := [repr(member) for member in members if member not in candidates]:
            log.warning("zoo %r is left out: no candidate %s", name, some(missing))
