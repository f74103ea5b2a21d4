"""The tables of a bench's page: methods by rows, as text.

A table is `columns` (name, note) and `rows` (name, ours, cells), a cell is value, interval and whether it is the best of its column.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from satjax.evaluation.bench import CORRECTNESS, ROUTER
from satjax.evaluation.figures import mean_of_known
from satjax.evaluation.formats import ends, figure, gain, percent

LESS_IS_BETTER = ("brier", "ece", "log_loss", "cpt50", "cpt80")

Figures = dict[str, Any]


def routing(methods: Figures) -> Figures:
    """Routing accuracy by zoo in percent, below random, best single candidate and oracle."""
    zoos = next(iter(methods.values()))["routing"]
    mean = {name: [mean_of_known(m["routing"][zoo]["by_seed"]) for zoo in zoos] for name, m in methods.items()}
    known = [[value for value in column if value is not None] for column in zip(*mean.values(), strict=True)]
    best = [max(column, default=None) for column in known]
    references = [
        _row(label, [_cell(percent(found[key])) for found in zoos.values()])
        for label, key in (("random", "random"), ("best single candidate", "best_single"), ("oracle", "oracle"))
    ]
    rows = []
    for name, method in methods.items():
        cells = []
        for i, zoo in enumerate(zoos):
            interval = method["routing"][zoo]["router_interval"]
            cells.append(
                _cell(
                    percent(mean[name][i]),
                    ends(interval["low"], interval["high"], 100, 1),
                    best=mean[name][i] is not None and mean[name][i] == best[i],
                )
            )
        rows.append(_row(name, cells))
    return _table([(zoo, f"n = {found['n']}") for zoo, found in zoos.items()], references + rows)


def gains(methods: Figures) -> Figures | None:
    """How far the router is above each method, in points; None where no router is among them."""
    zoos = next(iter(methods.values()))["routing"]
    rows = []
    for name, method in methods.items():
        found = [method["routing"][zoo].get("router_gain") for zoo in zoos]
        if all(found):
            rows.append(_row(name, [_cell(gain(above), ends(above["low"], above["high"], 100, 1)) for above in found]))
    return _table([(zoo, "") for zoo in zoos], rows) if rows else None


def correctness(methods: Figures) -> Figures:
    """Every figure of the probabilities, with seeds and seconds of a fit."""
    cells = _of_figures(methods, "correctness", dict.fromkeys(CORRECTNESS, (1, 4)))
    rows = [
        _row(name, [*cells[name], _cell(str(method["seeds"])), _cell(figure(method["fit_seconds"], digits=1))])
        for name, method in methods.items()
    ]
    return _table([(name, "") for name in (*CORRECTNESS, "seeds", "fit, s")], rows)


def cost(references: Figures, methods: Figures) -> Figures:
    """AIQ, below those of zero router and oracle, and how far it is above the zero router's."""
    aiq = _of_figures(methods, "cost", {"aiq": (1, 4)})
    rows = [
        _row(label.replace("_", " "), [_cell(figure(references[label]["aiq"])), _cell("")])
        for label in ("zero_router", "oracle")
    ]
    for name in aiq:
        above = methods[name]["cost"]["above_zero_router"]
        rows.append(_row(name, [*aiq[name], _cell(gain(above, 1, 4), ends(above["low"], above["high"], 1, 4))]))
    return _table([("AIQ", ""), ("above the zero router", "")], rows)


def pair(references: Figures, methods: Figures) -> Figures:
    """APGR, and CPT in percent of the calls, below those of random choice and oracle."""
    scales = {"apgr": (1, 4), "cpt50": (100, 1), "cpt80": (100, 1)}
    cells = _of_figures(methods, "pair", scales)
    oracle = [figure(references["oracle"][name], scale, digits) for name, (scale, digits) in scales.items()]
    rows = [
        _row("random", [_cell(value) for value in ("0.5000", "50.0", "80.0")]),
        _row("oracle", [_cell(value) for value in oracle]),
        *(_row(name, each) for name, each in cells.items()),
    ]
    return _table([("APGR", ""), ("CPT(50 %)", "% of calls"), ("CPT(80 %)", "% of calls")], rows)


def _of_figures(methods: Figures, group: str, scales: Mapping[str, tuple[float, int]]) -> dict[str, list[Figures]]:
    """Cells of the figures of one group, by method that has it: mean and deviation over seeds, interval; `scales` are factor and digits by figure."""
    methods = {name: method for name, method in methods.items() if group in method}
    best = {}
    for name in scales:
        values = [method[group][name]["mean"] for method in methods.values()]
        known = [value for value in values if value is not None]
        best[name] = (min if name in LESS_IS_BETTER else max)(known, default=None)
    cells: dict[str, list[Figures]] = {}
    for method_name, method in methods.items():
        cells[method_name] = []
        for name, (scale, digits) in scales.items():
            found = method[group][name]
            spread = "" if found["deviation"] is None else f" ± {figure(found['deviation'], scale, digits)}"
            is_best = found["mean"] is not None and found["mean"] == best[name]
            value = figure(found["mean"], scale, digits) + spread
            cells[method_name].append(
                _cell(value, ends(found["low"], found["high"], scale, max(1, digits - 1)), best=is_best)
            )
    return cells


def _table(columns: Sequence[tuple[str, str]], rows: list[Figures]) -> Figures:
    return {"columns": [{"name": name, "note": note} for name, note in columns], "rows": rows}


def _row(name: str, cells: list[Figures]) -> Figures:
    return {"name": name, "ours": name == ROUTER, "cells": cells}


def _cell(value: str, interval: str = "", best: bool = False) -> Figures:
    return {"value": value, "interval": interval, "best": best}
