"""Importer of lm-evaluation-harness: `samples_TASK_TIME.jsonl` as `--log_samples` writes them, a directory per candidate."""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError
from satjax.outcomes.importers.collector import Collector
from satjax.outcomes.importers.comparable import FirstSaid
from satjax.outcomes.importers.upstream import chat_text, found, json_lines, json_object, listed, number
from satjax.outcomes.lettered import LETTERS, lettered_runs
from satjax.outcomes.splits import folded, split_of
from satjax.outcomes.table import Item, OutcomeTable

log = logging.getLogger("satjax")
WHAT = "samples of lm-evaluation-harness"
NAME = re.compile(r"samples_(?P<task>.+)_(?P<time>\d{4}-\d\d-\d\dT\d\d[-:]\d\d[-:]\d\d(?:\.\d+)?)\.jsonl")
PREFERRED = ("acc", "exact_match")
NO_METRIC = "none that is 0 or 1"
FIELDS = (
    "doc_id",
    "doc",
    "target",
    "arguments",
    "resps",
    "filtered_resps",
    "filter",
    "metrics",
    "doc_hash",
    "prompt_hash",
    "target_hash",
)
"""What a sample holds beside its metrics."""


def import_lm_eval(paths: Sequence[Path | str], metric: str | None = None) -> OutcomeTable:
    """Outcomes of the candidates of these directories, or files; the latest run of a task counts where a directory has several.

    The score is `metric`, a name in the samples or `NAME,FILTER` as results name it; unless given, `acc`, `exact_match`, or the first
    that is 0 or 1 in a file's first sample, by the file's first filter; it is logged. A task that has none, as of perplexities, is left out and named. The text is the prompt (`arguments`) of the first candidate: a
    document is the same by its hash, since chat templates differ between candidates. Task and document number are the id, the group of the task is
    the category. The answer is the target: where it is the index of an option, that option's letter if the text shows lettered options, else what
    its request continues with; where it is a solution that ends with `#### ANSWER`, that. A candidate is named as `results_TIME.json` names it, or else as its directory. Raises SatjaxError naming file and line for anything that
    is not such a result, and naming two files of one task that would be scored by different metrics, or are of different numbers of shots or versions of it.
    """
    collector, first = Collector(), FirstSaid()
    nothing = "no samples given; name a directory with samples_TASK_TIME.jsonl (lm_eval --log_samples)"
    for path, named in _latest(paths):
        results = _results(path, named["time"])
        candidate = str(results.get("model_name") or path.absolute().parent.name.replace("__", "/"))
        if _beside(path, named["time"]).is_file():
            _check_run(path, named["task"], results, first)
        if unfit := _read(path, named["task"], candidate, results, metric, collector, first):
            nothing = unfit
    table = collector.table(nothing)
    _log_metrics(first)
    return table


def _latest(paths: Iterable[Path | str]) -> list[tuple[Path, re.Match[str]]]:
    """Files and what their names say: those given, and of a directory the last of each task."""
    chosen: dict[Any, tuple[Path, re.Match[str]]] = {}
    for given in paths:
        for path in found([given], "samples_*.jsonl"):
            if not (named := NAME.fullmatch(path.name)):
                raise SatjaxError(
                    f"{path}: samples are expected as samples_TASK_TIME.jsonl; give the file its name back"
                )
            # Names sort by their time.
            chosen[(path.parent, named["task"]) if Path(given).is_dir() else path] = path, named
    return list(chosen.values())


def _results(path: Path, time: str) -> dict[str, Any]:
    """What stands beside the samples of a run, or of another run into the same directory; nothing where only samples were kept."""
    beside = _beside(path, time)
    if not beside.is_file():
        others = sorted(path.absolute().parent.glob("results_*.json"))
        if not others:
            return {}
        beside = others[-1]
    return json_object(beside, "results of lm-evaluation-harness")


def _beside(path: Path, time: str) -> Path:
    return path.with_name(f"results_{time}.json")


def _check_run(path: Path, task: str, results: dict[str, Any], first: FirstSaid) -> None:
    for key, what in (("n-shot", "number of shots"), ("versions", "version")):
        value = _mapping(results, key).get(task)
        if isinstance(value, int | float | str):
            first.check(what, task, value, path, "these are different questions: leave one of them out")


def _log_metrics(first: FirstSaid) -> None:
    for score, tasks in first.tasks("metric").items():
        if score == NO_METRIC:
            log.warning(
                "left out: %s has no metric that is 0 or 1; --metric says which one counts, of all tasks", tasks
            )
            continue
        name, _, filtered = score.partition(",")
        log.info("the score is %s, by filter %s, of %s", name, filtered, tasks)


def _read(
    path: Path,
    task: str,
    candidate: str,
    results: dict[str, Any],
    metric: str | None,
    collector: Collector,
    first: FirstSaid,
) -> str | None:
    """Adds the samples of a file, or returns what keeps them out."""
    wanted, _, filtered = (metric or "").partition(",")
    up = _mapping(_mapping(results, "higher_is_better"), task)
    lower = {name for name, higher in up.items() if higher is False}
    category = _group(results, task)
    filters: set[str] = set()
    name = wanted
    for where, record in json_lines(path, WHAT):
        missing = [key for key in ("doc_id", "doc", "arguments") if key not in record]
        if missing:
            raise SatjaxError(f"{where} lacks {', '.join(missing)}; it is none of the {WHAT}")
        own = str(record.get("filter", "none"))
        filtered = filtered or own
        filters.add(own)
        if own != filtered:
            continue
        name = name or _default(record, lower)
        if not name:
            first.check("metric", task, NO_METRIC, path, "choose one with --metric NAME,FILTER")
            return f"{where} has no metric that is 0 or 1; choose one with --metric: {listed(n for n in _metrics(record) if n not in lower)}"
        if name not in record or name in FIELDS:
            raise SatjaxError(f"{where} has no metric {name!r}; choose one with --metric: {listed(_metrics(record))}")
        if name in lower:
            raise SatjaxError(f"{where}: of metric {name!r} less is better; choose another with --metric")
        first.check("metric", task, f"{name},{filtered}", path, "choose one with --metric NAME,FILTER")
        text = _prompt(record["arguments"])
        item = Item(
            id=f"lm_eval/{task}/{record['doc_id']}",
            text=text,
            task=task,
            category=category,
            source="lm_eval",
            split=split_of(text),
            answer=_answer(record, text),
        )
        collector.add(candidate, item, number(record[name], where, f"metric {name}"), where, fingerprint=_hash(record))
    if filters and filtered not in filters:
        raise SatjaxError(f"{path} has no filter {filtered!r}; it has {listed(sorted(filters))}")
    return None


def _mapping(values: dict[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def _group(results: dict[str, Any], task: str) -> str:
    for group, members in _mapping(results, "group_subtasks").items():
        if isinstance(members, list) and task in members:
            return group
    return task


def _metrics(record: dict[str, Any]) -> list[str]:
    listed = record.get("metrics")
    if isinstance(listed, list):
        return [name for name in listed if isinstance(name, str) and name in record]
    return [name for name in record if name not in FIELDS]


def _default(record: dict[str, Any], lower: set[str]) -> str:
    """The metric that is taken where nobody says which; empty where none is a score of one item."""
    names = [name for name in _metrics(record) if name not in lower]
    for name in PREFERRED:
        if name in names:
            return name
    for name in names:
        if isinstance(record[name], bool | int | float) and record[name] in (0, 1):
            return name
    return ""


def _prompt(arguments: Any) -> str:
    """Contexts of all requests of a document: one and the same, or one per option where options are filled into the question."""
    return "\n".join(dict.fromkeys(_chat(context) for context, _ in _requests(arguments)))


def _requests(arguments: Any) -> list[tuple[str, Any]]:
    """Context of each request, and what goes with it: a continuation, or how to generate one. Those without a context only measure an option by itself."""
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    pairs = []
    for request in requests if isinstance(requests, list) else []:
        values = list(request.values()) if isinstance(request, dict) else request
        context, *rest = values if isinstance(values, list) and values else [values]
        if isinstance(context, str) and context.strip():
            pairs.append((context, rest[0] if rest else None))
    return pairs


def _answer(record: dict[str, Any], text: str) -> str | None:
    target = record.get("target")
    if target is None:
        return None
    options = [rest.strip() for _, rest in _requests(record["arguments"]) if isinstance(rest, str)]
    # Where options are filled into the question instead, all requests continue alike, and the target is no index.
    if len(set(options)) > 1 and not isinstance(target, bool) and re.fullmatch(r"[0-9]{1,3}", str(target)):
        index = int(target)
        if index < len(options):
            return _letter(options, index, text) or options[index]
    # Solutions of GSM8K, and of what is written like it, end with the answer after four hashes.
    _, hashes, last = str(target).rpartition("####")
    return last.strip() if hashes and len(last.strip().splitlines()) == 1 else str(target)


def _letter(options: list[str], index: int, text: str) -> str | None:
    """The letter of an option in the text, where it shows one for each, and the request continues with it or with what stands there."""
    _, shown = next(lettered_runs(text), (0, ()))
    if len(shown) != len(options):
        return None
    option, letter = options[index], LETTERS[index]
    return letter if option.strip("().") == letter or folded(shown[index]) in folded(option) else None


def _chat(context: str) -> str:
    """Chat requests log their messages as JSON."""
    if context.startswith("[{"):
        try:
            messages = json.loads(context)
        except (ValueError, RecursionError):
            return context
        return chat_text(messages) or context
    return context


def _hash(record: dict[str, Any]) -> str:
    return str(record.get("doc_hash") or hashlib.sha256(json.dumps(record["doc"], sort_keys=True).encode()).hexdigest())
