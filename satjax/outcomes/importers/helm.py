"""Importer of HELM's runs: a directory with `run_spec.json`, `scenario_state.json` and `per_instance_stats.json` per scenario and candidate."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError
from satjax.outcomes.importers.collector import Collector
from satjax.outcomes.importers.upstream import found, json_items, json_object, listed, number
from satjax.outcomes.lettered import with_options
from satjax.outcomes.splits import split_of
from satjax.outcomes.table import Item, OutcomeTable

WHAT = "a HELM run"
DEFAULT = "exact_match"
OF_MODEL = re.compile(r"(?<=[:,])(model|model_deployment|stop|global_prefix)=[^,]*,?")
"""Arguments in the name of a run that HELM sets for particular models: what they are asked is the same."""
SOLUTION = re.compile(r"\S\s+The answer is (\S+?)\.\s*\Z")
"""How the reference of a word problem ends (scenario `gsm`): a whole solution, with its answer last."""


def import_helm(paths: Sequence[Path | str], metric: str | None = None) -> OutcomeTable:
    """Outcomes of the candidates of all runs at or below these directories.

    The score is the mean of the stat `metric` (`exact_match` unless given) over the trials of an instance; perturbed copies are left out.
    The text is the instance's input, with the options below where the candidate saw them. Scenario and instance are the id, whatever HELM
    set for the model (`stop=none`); the run's first group is the category. The answer is the first right reference; of a solution that ends with “The answer is 14.” it is the 14. Raises
    SatjaxError naming file and instance for anything that is not such a run.
    """
    collector = Collector()
    for path in found(paths, "run_spec.json"):
        _read(path, metric or DEFAULT, collector)
    return collector.table("no runs found; name directories that helm-run wrote")


def _read(path: Path, metric: str, collector: Collector) -> None:
    spec = json_object(path, WHAT)
    adapter, groups = spec.get("adapter_spec"), spec.get("groups")
    candidate = adapter.get("model") if isinstance(adapter, dict) else None
    if not isinstance(spec.get("name"), str) or not isinstance(candidate, str):
        raise SatjaxError(f"{path} is no run_spec.json of HELM: it does not name a run and its model")
    # A run is named `scenario:argument=value,model=NAME`.
    scenario = OF_MODEL.sub("", spec["name"]).rstrip(":,")
    category = str(groups[0]) if isinstance(groups, list) and groups else scenario
    items = _items(path.with_name("scenario_state.json"), scenario, category)
    stats = path.with_name("per_instance_stats.json")
    totals: dict[str, tuple[float, int]] = {}
    names: dict[str, None] = {}
    for place, entry in enumerate(json_items(stats, "item", WHAT)):
        where = f"{stats} entry {place}"
        if not isinstance(entry, dict) or not isinstance(entry.get("stats"), list):
            raise SatjaxError(f"{where} has no stats; it is no result of HELM")
        if entry.get("perturbation"):
            continue
        instance = str(entry.get("instance_id"))
        if instance not in items:
            raise SatjaxError(f"{where}: instance {instance!r} is not in scenario_state.json; copy the run whole")
        for stat in entry["stats"]:
            name = stat.get("name") if isinstance(stat, dict) else None
            if not isinstance(name, dict) or name.get("perturbation"):
                continue
            names[str(name.get("name"))] = None
            if name.get("name") == metric and stat.get("mean") is not None:
                total, count = totals.get(instance, (0.0, 0))
                totals[instance] = total + number(stat["mean"], where, metric), count + 1
    if names and metric not in names:
        raise SatjaxError(f"{stats} has no stat {metric!r}; choose one with --metric: {listed(sorted(names))}")
    for instance, item in items.items():
        total, count = totals.get(instance, (0.0, 0))
        collector.add(candidate, item, total / count if count else float("nan"), f"{stats} instance {instance!r}")


def _items(path: Path, scenario: str, category: str) -> dict[str, Item]:
    """Items by their instance id, in the order of the requests."""
    items: dict[str, Item] = {}
    for place, state in enumerate(json_items(path, "request_states.item", WHAT)):
        where = f"{path} request {place}"
        instance = state.get("instance") if isinstance(state, dict) else None
        given = instance.get("input") if isinstance(instance, dict) else None
        if not isinstance(instance, dict) or not isinstance(given, dict) or "id" not in instance:
            raise SatjaxError(f"{where} has no instance; it is no request of HELM")
        name = str(instance["id"])
        if name in items or instance.get("perturbation"):
            continue
        options = state.get("output_mapping")
        text = str(given.get("text") or "")
        if isinstance(options, dict):
            text = with_options(text, options.items())
        items[name] = Item(
            id=f"helm/{scenario}/{name}",
            text=text,
            task=scenario,
            category=category,
            source="helm",
            split=split_of(text),
            answer=_answer(instance),
        )
    return items


def _answer(instance: dict[str, Any]) -> str | None:
    references = instance.get("references")
    for reference in references if isinstance(references, list) else ():
        tags = reference.get("tags") if isinstance(reference, dict) else None
        output = reference.get("output") if isinstance(reference, dict) else None
        if isinstance(tags, list) and "correct" in tags and isinstance(output, dict):
            text = str(output.get("text"))
            solution = SOLUTION.search(text)
            return solution[1] if solution else text
    return None
