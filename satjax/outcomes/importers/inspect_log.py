"""Importer of Inspect's evaluation logs, `.eval` archives and `.json` files, one per task and candidate."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError
from satjax.outcomes.importers.collector import Collector
from satjax.outcomes.importers.comparable import FirstSaid, apart
from satjax.outcomes.importers.upstream import (
    chat_text,
    found,
    json_items,
    listed,
    no_number,
    number,
    parsed_object,
    zip_members,
)
from satjax.outcomes.lettered import with_letters
from satjax.outcomes.splits import split_of
from satjax.outcomes.table import Item, OutcomeTable

log = logging.getLogger("satjax")
WHAT = "an Inspect log"
HEADERS = ("header.json", "_journal/start.json")
"""What a finished log says of itself, and what an interrupted one does."""
ABSENT = "not given"
NO_LOGS = ("logs.json", "eval-set.json")
"""What an `eval_set` writes of itself beside its logs."""
VALUES = {"c": 1.0, "i": 0.0, "p": 0.5, "n": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Values of scores that are words, as Inspect counts them: correct, incorrect, partial, no answer."""


def import_inspect(paths: Sequence[Path | str], metric: str | None = None) -> OutcomeTable:
    """Outcomes of the candidates of these logs, or of all logs below a directory; a sample without a score is unobserved.

    The score is that of the scorer `metric`, or `SCORER.KEY` where a scorer gives several; it may be left out where there is only
    one, and is logged. A sample that this scorer gave no score is unobserved. Epochs are averaged. The text is the sample's input with its choices below, lettered. The task of the log and the sample's id are the id, the
    dataset is the category. Raises SatjaxError naming file and sample for anything that is not such a log, and for two logs of one task by one candidate,
    and naming two logs of one task that would be scored by different scorers, or are of different versions of it. Logs of a task with different arguments are warned of.
    """
    collector, first = Collector(), FirstSaid()
    named = set(map(Path, paths))
    for path in found(paths, "*.eval", "*.json"):
        if path.name in NO_LOGS and path not in named:
            continue
        if path.suffix == ".eval":
            header = next(_objects(path, _headers), {}).get("eval")
            samples = _objects(path, _samples)
        else:
            header = next(json_items(path, "eval", WHAT), None)
            samples = json_items(path, "samples.item", WHAT)
        _read(path, header, samples, metric, collector, first)
    for scorer, tasks in first.tasks("scorer").items():
        log.info("the score is %s, of %s", scorer, tasks)
    return collector.table("no samples in these logs; name .eval or .json files of Inspect, or a directory of them")


def _objects(path: Path, choose: Callable[[list[str]], list[str]]) -> Iterator[dict[str, Any]]:
    return (parsed_object(text, where, WHAT) for where, text in zip_members(path, WHAT, choose))


def _headers(names: list[str]) -> list[str]:
    return [name for name in HEADERS if name in names]


def _samples(names: list[str]) -> list[str]:
    return [name for name in names if name.startswith("samples/") and name.endswith(".json")]


def _read(
    path: Path, header: Any, samples: Iterator[Any], metric: str | None, collector: Collector, first: FirstSaid
) -> None:
    if not isinstance(header, dict) or not all(isinstance(header.get(key), str) for key in ("task", "model")):
        raise SatjaxError(f"{path} is no Inspect log: it does not say which task and model it is of")
    _check_task(path, header, first)
    dataset = header.get("dataset")
    category = str(dataset.get("name") or "") if isinstance(dataset, dict) else ""
    items: dict[str, Item] = {}
    scores: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    epochs: set[tuple[str, str]] = set()
    scorers: dict[str, None] = {}
    for sample in samples:
        if not isinstance(sample, dict) or "id" not in sample or "input" not in sample:
            raise SatjaxError(f"{path}: sample {len(epochs) + 1} has no id or no input; it is no sample of Inspect")
        name, epoch = str(sample["id"]), str(sample.get("epoch", 1))
        where = f"{path} sample {name!r} epoch {epoch}"
        if (name, epoch) in epochs:
            raise SatjaxError(f"{where} stands twice; keep one")
        epochs.add((name, epoch))
        text = _text(sample)
        target = sample.get("target")
        item = Item(
            id=f"inspect/{header['task']}/{name}",
            text=text,
            task=header["task"],
            category=category or header["task"],
            source="inspect",
            split=split_of(text),
            answer=target if isinstance(target, str) else None,
        )
        items[name] = collector.item(item, where)
        scorer, score = _score(sample, metric, where, scorers)
        if score == score:
            first.check("scorer", header["task"], scorer, path, "choose one with --metric")
        for values, value in (
            (scores.setdefault(name, []), score),
            (costs.setdefault(name, []), _cost(sample, where)),
        ):
            if value == value:
                values.append(value)
    if metric is not None and scorers and metric not in scorers:
        raise SatjaxError(f"{path} has no score {metric!r}; choose one with --metric: {listed(scorers)}")
    for name, item in items.items():
        collector.add(
            header["model"],
            item,
            _mean(scores[name]),
            f"{path} sample {name!r}",
            cost=_mean(costs[name]),
        )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _text(sample: dict[str, Any]) -> str:
    given = sample["input"]
    text = chat_text(given if isinstance(given, list) else [given])
    attachments = sample.get("attachments")
    if text.startswith("attachment://") and isinstance(attachments, dict):
        text = str(attachments.get(text.removeprefix("attachment://"), text))
    choices = sample.get("choices")
    return with_letters(text, choices) if isinstance(choices, list) and choices else text


def _check_task(path: Path, header: dict[str, Any], first: FirstSaid) -> None:
    """Raises SatjaxError for another version of the task than in the first log of it; another argument may be of no account, and is warned of."""
    task, version, arguments = header["task"], header.get("task_version"), header.get("task_args")
    if isinstance(version, int | float | str):
        first.check("version", task, version, path, "these are different questions: leave one of them out")
    if not isinstance(arguments, dict):
        return
    said = {name: json.dumps(value, sort_keys=True) for name, value in sorted(arguments.items())}
    before, there = first.first("arguments", task, said, path)
    pairs = {
        name: apart(said.get(name, ABSENT), before.get(name, ABSENT))
        for name in said | before
        if said.get(name) != before.get(name)
    }
    if pairs:
        log.warning(
            "%s: arguments of task %r differ from those in %s: %s; where that makes them different questions, leave one of them out",
            path,
            task,
            there,
            ", ".join(f"{name} is {here} ({other} there)" for name, (here, other) in pairs.items()),
        )


def _score(sample: dict[str, Any], metric: str | None, where: str, scorers: dict[str, None]) -> tuple[str, float]:
    """The chosen scorer and its score, NaN where it gave none; samples that failed have no scores at all. All that there are go to `scorers`."""
    values: dict[str, Any] = {}
    given = sample.get("scores")
    for scorer, score in given.items() if isinstance(given, dict) else ():
        value = score.get("value") if isinstance(score, dict) else None
        if isinstance(value, dict):
            values |= {f"{scorer}.{key}": part for key, part in value.items()}
        else:
            values[scorer] = value
    scorers |= dict.fromkeys(values)
    if metric is None and len(values) > 1:
        raise SatjaxError(f"{where} has the scores {listed(values)}; choose one with --metric")
    name = metric or next(iter(values), "")
    value = values.get(name)
    if isinstance(value, str) and value.lower() in VALUES:
        return name, VALUES[value.lower()]
    if isinstance(value, list):
        no_number(value, where, f"score {name}")
    return name, number(value, where, f"score {name}")


def _cost(sample: dict[str, Any], where: str) -> float:
    """US dollars of all model calls of the sample, NaN where the log has none."""
    usage = sample.get("model_usage")
    costs = [u.get("total_cost") for u in (usage.values() if isinstance(usage, dict) else ()) if isinstance(u, dict)]
    known = [number(cost, where, "total_cost") for cost in costs if cost is not None]
    return sum(known) if known else float("nan")
