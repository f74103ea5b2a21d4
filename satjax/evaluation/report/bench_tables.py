"""The tables of a bench's page: methods by rows, as text.

A table is `columns` (name, note) and `rows` (name, ours, cells), a cell is value, interval and whether it is the best of its column, which rows that are `APART` cannot be.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from satjax.evaluation.comparison import APART, ROUTER
from satjax.evaluation.report.formats import ends, figure, gain, percent, spread
from satjax.metrics import CORRECTNESS

LESS_IS_BETTER = ("brier", "ece", "log_loss", "cpt50", "cpt80")

Figures = dict[str, Any]


def routing(methods: Figures) -> Figures:
    """Routing accuracy by zoo in percent, below random, best single candidate and oracle."""
    zoos = next(iter(methods.values()))["routing"]
    references = [
        _row(label, [_share(found[key], found[f"{key}_interval"]) for found in zoos.values()])
        for label, key in (("random", "random"), ("best single candidate", "best_single"), ("oracle", "oracle"))
    ]
    return _by_zoo(methods, "router", "router_interval", references)


def gaps(methods: Figures) -> Figures:
    """Share of the oracle's gain over the best single candidate that routing recovers, by zoo in percent."""
    return _by_zoo(methods, "gap_recovered", "gap_interval", [])


def entropies(methods: Figures) -> Figures:
    """Selection entropy by zoo in percent: 0 where one candidate is always chosen, 100 where all are as often. None of them is best."""
    table = _by_zoo(methods, "selection_entropy", "entropy_interval", [])
    for row in table["rows"]:
        for cell in row["cells"]:
            cell["best"] = False
    return table


def _by_zoo(methods: Figures, key: str, interval: str, references: list[Figures]) -> Figures:
    zoos = next(iter(methods.values()))["routing"]
    rows = {name: [method["routing"][zoo] for zoo in zoos] for name, method in methods.items()}
    rivals = [row for name, row in rows.items() if name not in APART]
    best = [
        max((found[key] for found in column if found[key] is not None), default=None)
        for column in zip(*rivals, strict=True)
    ]
    shown = [
        _row(
            name,
            [
                _share(
                    found[key], found[interval], best=name not in APART and found[key] is not None and found[key] == top
                )
                for found, top in zip(row, best, strict=True)
            ],
        )
        for name, row in rows.items()
    ]
    return _table([(zoo, f"n = {found['n']}") for zoo, found in zoos.items()], references + shown)


def _share(value: float | None, interval: Figures | None, best: bool = False) -> Figures:
    return _cell(percent(value), ends(interval["low"], interval["high"], 100, 1) if interval else "", best=best)


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
    """Every figure of the probabilities, with seeds and seconds of a fit, a dash where nothing is fitted."""
    cells = _of_figures(methods, "correctness", dict.fromkeys(CORRECTNESS, (1, 4)))
    rows = [
        _row(name, [*cells[name], _cell(_fits(method)), _cell(figure(method["fit_seconds"], digits=1))])
        for name, method in methods.items()
    ]
    return _table([(name, "") for name in (*CORRECTNESS, "seeds", "fit, s")], rows)


def differences(methods: Figures) -> Figures | None:
    """The router's figures of the probabilities less those of each method; None where no router is among them."""
    rows = [
        _row(name, [_difference(method["router_less_it"][figure]) for figure in CORRECTNESS])
        for name, method in methods.items()
        if "router_less_it" in method
    ]
    columns = [(name, "less is better" if name in LESS_IS_BETTER else "") for name in CORRECTNESS]
    return _table(columns, rows) if rows else None


def _difference(found: Figures) -> Figures:
    return _cell(gain(found, 1, 4), ends(found["low"], found["high"], 1, 4))


def _fits(method: Figures) -> str:
    """How many fits the figures are means of, with what they differ in where that is not their seeds."""
    differ_in = method.get("differ_in", "seeds")
    return str(method["seeds"]) if differ_in == "seeds" else f"{method['seeds']} {differ_in}"


def cost(references: Figures, methods: Figures) -> Figures:
    """AIQ, below those of zero router and oracle, and how far it is above the zero router's."""
    aiq = _of_figures(methods, "cost", {"aiq": (1, 4)})
    rows = [
        _row(label.replace("_", " "), [_cell(figure(references[label]["aiq"])), _cell("")])
        for label in ("zero_router", "oracle")
    ]
    for name in aiq:
        rows.append(_row(name, [*aiq[name], _difference(methods[name]["cost"]["above_zero_router"])]))
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


def reliability(methods: Figures) -> Figures:
    """Mean probability, mean outcome and number of pairs of each bin that holds a pair of any method."""
    of_bin: dict[str, dict[tuple[float, float], tuple[float, float, int]]] = {}
    for name, method in methods.items():
        low, high, *numbers = (method["reliability"][key] for key in ("low", "high", "probability", "outcome", "count"))
        of_bin[name] = dict(zip(zip(low, high, strict=True), zip(*numbers, strict=True), strict=True))
    bins = sorted({ends for found in of_bin.values() for ends in found})
    rows = [_row(name, [_of_bin(found.get(ends)) for ends in bins]) for name, found in of_bin.items()]
    return _table([(f"{low:.2f} – {high:.2f}", "") for low, high in bins], rows)


def _of_bin(found: tuple[float, float, int] | None) -> Figures:
    if found is None:
        return _cell(figure(None))
    predicted, observed, count = found
    return _cell(f"{figure(predicted, digits=3)} → {figure(observed, digits=3)}", f"n = {count}")


def _of_figures(methods: Figures, group: str, scales: Mapping[str, tuple[float, int]]) -> dict[str, list[Figures]]:
    """Cells of the figures of one group, by method that has it: mean and deviation over seeds, interval; `scales` are factor and digits by figure."""
    methods = {name: method for name, method in methods.items() if group in method}
    best = {}
    for name in scales:
        values = [method[group][name]["mean"] for rival, method in methods.items() if rival not in APART]
        known = [value for value in values if value is not None]
        best[name] = (min if name in LESS_IS_BETTER else max)(known, default=None)
    cells: dict[str, list[Figures]] = {}
    for method_name, method in methods.items():
        cells[method_name] = []
        for name, (scale, digits) in scales.items():
            found = method[group][name]
            is_best = method_name not in APART and found["mean"] is not None and found["mean"] == best[name]
            value = figure(found["mean"], scale, digits) + spread(found["deviation"], scale, digits)
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
