"""Importer of OpenCompass: `results/MODEL/DATASET.json` with details, and `predictions/MODEL/DATASET.json` beside them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError
from satjax.outcomes.importers.collector import Collector
from satjax.outcomes.importers.upstream import chat_text, found, json_items, number
from satjax.outcomes.splits import split_of
from satjax.outcomes.table import Item, OutcomeTable

WHAT = "results of OpenCompass"
CORRECT = ("correct", "is_correct", "cascade_correct")
"""Where evaluators put what they found of one item."""


def import_opencompass(paths: Sequence[Path | str]) -> OutcomeTable:
    """Outcomes of all candidates and datasets at or below these working directories.

    The score is what the details of an item say (`correct`, as of OpenCompass 0.5), averaged over repeated runs. Predictions alone hold no
    correctness, nor do results without details or those of evaluators that judge no single item. The text is the prompt of the first candidate, since chat
    templates differ; dataset and number are the id. Raises SatjaxError naming file and item for anything that is not such a result.
    """
    collector = Collector()
    for path in found(paths, "results/*/*.json"):
        _read(path, collector)
    return collector.table("no results given; name the working directory of an OpenCompass run")


def _read(path: Path, collector: Collector) -> None:
    given, path = path, path.absolute()
    if path.parent.parent.name != "results" or path.suffix != ".json":
        raise SatjaxError(
            f"{given} is no results/MODEL/DATASET.json of OpenCompass; name the working directory of a run"
        )
    dataset, candidate = path.stem, path.parent.name
    judged = False
    predictions = _predictions(path.parents[2] / "predictions" / candidate, dataset)
    items = []
    for name, detail in _details(path):
        where = f"{path} detail {name!r}"
        if name not in predictions or not isinstance(detail, dict):
            raise SatjaxError(f"{where} has no prediction in predictions/{candidate}; copy the run whole")
        value = next((detail[key] for key in CORRECT if key in detail), None)
        judged = judged or value is not None
        values = [number(part, where, "correct") for part in (value if isinstance(value, list) else [value])]
        items.append((predictions[name], sum(values) / len(values) if values else float("nan"), where))
    if not judged:
        raise SatjaxError(
            f"{path} says of no item whether it was right: evaluate with --dump-eval-details and an evaluator that gives details"
        )
    for (item, gold), score, where in items:
        collector.add(candidate, item, score, where, fingerprint=gold)


def _details(path: Path) -> Iterator[tuple[str, Any]]:
    """By the number of the item; evaluators give a list, or an object with a `type` beside the numbers."""
    listed = False
    for place, detail in enumerate(json_items(path, "details.item", WHAT)):
        listed = True
        yield str(place), detail
    if not listed:
        yield from (pair for pair in json_items(path, "details", WHAT, pairs=True) if pair[0] != "type")


def _predictions(folder: Path, dataset: str) -> dict[str, tuple[Item, str]]:
    """Items by their number, with what tells them apart from others: their gold answer. Large datasets lie in parts, each numbered from 0."""
    whole = folder / f"{dataset}.json"
    parts = [whole] if whole.exists() else []
    while not whole.exists() and (part := folder / f"{dataset}_{len(parts)}.json").exists():
        parts.append(part)
    items: dict[str, tuple[Item, str]] = {}
    for path in parts or [whole]:
        for number_, prediction in json_items(path, "", WHAT, pairs=True):
            name = str(len(items))
            prompt = prediction.get("origin_prompt") if isinstance(prediction, dict) else None
            if prompt is None:
                raise SatjaxError(
                    f"{path} item {number_!r} has no origin_prompt; only generated answers can be imported"
                )
            text, gold = chat_text(prompt if isinstance(prompt, list) else [prompt]), prediction.get("gold")
            item = Item(
                id=f"opencompass/{dataset}/{name}",
                text=text,
                task=dataset,
                category=dataset,
                source="opencompass",
                split=split_of(text),
                answer=_answer(gold),
            )
            items[name] = item, json.dumps(gold, sort_keys=True)
    return items


def _answer(gold: Any) -> str | None:
    first = gold[0] if isinstance(gold, list) and gold else gold
    return first if isinstance(first, str) else None
