"""Importer of LLMRec's `capit` files: profiles as text, each with instructions that the model managed and others that it did not."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError
from satjax.outcomes.importers.collector import Collector
from satjax.outcomes.importers.upstream import found, json_items
from satjax.outcomes.splits import digest, split_of
from satjax.outcomes.table import Item, OutcomeTable

WHAT = "a capit file of LLMRec"
SIDES = {"pos": True, "neg": False}
"""Where instructions stand, and whether those were managed."""
CLAUSES = re.compile(r"(?<=[.;:!?])\s+|\n")


def import_capit(paths: Sequence[Path | str]) -> OutcomeTable:
    """Outcomes of files with a list of `{"model_repr": TEXT, "data_repr": {"pos": [TEXT, …], "neg": [TEXT, …]}}`, the training data of the paper's code.

    A model has no name there, only its profile: `model-` and a digest of the profile's sentences in any order, since the paper shuffles them. Groups are
    drawn with repetition, so that a pair may stand there often: once it counts, and where it stands on both sides its score is 0.5. Instructions
    have no task (`aptitude.clusters` makes some). Raises SatjaxError naming file and record for anything else.
    """
    sides: dict[str, dict[str, set[bool]]] = {}
    texts: dict[str, tuple[str, str]] = {}
    for path in found(paths, "capit*.json"):
        for where, candidate, text, managed in _pairs(path):
            item = digest(text).hex()[:16]
            texts.setdefault(item, (text, where))
            sides.setdefault(candidate, {}).setdefault(item, set()).add(managed)
    collector = Collector()
    for candidate, of_item in sides.items():
        for item, managed_or_not in of_item.items():
            text, where = texts[item]
            collector.add(candidate, _item(item, text), sum(managed_or_not) / len(managed_or_not), where)
    return collector.table("no files given; name at least one capit file of LLMRec")


def _pairs(path: Path) -> Iterator[tuple[str, str, str, bool]]:
    """Where each instruction stands, the candidate, the text, and whether it was managed."""
    seen = False
    for number, record in enumerate(json_items(path, "item", WHAT), start=1):
        where, seen = f"{path} record {number}", True
        sides = record.get("data_repr") if isinstance(record, dict) else None
        profile = record.get("model_repr") if isinstance(record, dict) else None
        if not isinstance(profile, str) or not profile.strip() or not isinstance(sides, dict):
            raise SatjaxError(f"{where} has no profile as `model_repr` and no `data_repr`; is it {WHAT}?")
        candidate = _name(profile)
        for side, managed in SIDES.items():
            for text in _texts(sides.get(side), f"{where} {side}"):
                yield where, candidate, text, managed
    if not seen:
        raise SatjaxError(f"{path} has no records; is it {WHAT}?")


def _texts(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise SatjaxError(f"{where} is no list of texts; is it {WHAT}?")
    return value


def _name(profile: str) -> str:
    clauses = sorted(clause.strip(" .;") for clause in CLAUSES.split(profile))
    return f"model-{hashlib.sha256(' '.join(clauses).encode(errors='surrogatepass')).hexdigest()[:8]}"


def _item(name: str, text: str) -> Item:
    return Item(id=name, text=text, task="", category="", source="capit", split=split_of(text), answer=None)
