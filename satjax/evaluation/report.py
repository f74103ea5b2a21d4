"""`report.html`: the figures of `satjax bench` as one page that needs no other file."""

import base64
import io
from importlib.resources import files
from pathlib import Path
from typing import Any

from satjax.evaluation.bench import CORRECTNESS, ROUTER
from satjax.files import write_text

LESS_IS_BETTER = ("brier", "ece", "log_loss")


def write_html(figures: dict[str, Any], path: Path) -> None:
    """Writes the page for what `satjax.evaluation.bench.compare` returned."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(
        files("satjax.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8")
    )
    methods = figures["methods"]
    first = next(iter(methods.values()))["routing"]
    page = template.render(
        figures=figures,
        zoos=[{"name": zoo, "n": found["n"]} for zoo, found in first.items()],
        references=[
            {"name": label, "cells": [_percent(found[key]) for found in first.values()]}
            for label, key in (("random", "random"), ("best single candidate", "best_single"), ("oracle", "oracle"))
        ],
        routing=_routing_rows(methods, list(first)),
        gains=_gain_rows(methods, list(first)),
        measures=list(CORRECTNESS),
        correctness=_correctness_rows(methods),
        reliability=_reliability_plot(methods),
    )
    write_text(path, page)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _interval(low: float | None, high: float | None, scale: float, digits: int) -> str:
    return "" if low is None or high is None else f"[{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _routing_rows(methods: dict[str, Any], zoos: list[str]) -> list[dict[str, Any]]:
    mean = {name: [_mean(m["routing"][zoo]["by_seed"]) for zoo in zoos] for name, m in methods.items()}
    best = [max(row[i] for row in mean.values()) for i in range(len(zoos))]
    rows = []
    for name, method in methods.items():
        cells = []
        for i, zoo in enumerate(zoos):
            interval = method["routing"][zoo]["router_interval"]
            cells.append(
                {
                    "value": _percent(mean[name][i]),
                    "interval": _interval(interval["low"], interval["high"], 100, 1),
                    "best": mean[name][i] == best[i],
                }
            )
        rows.append({"name": name, "ours": name == ROUTER, "cells": cells})
    return rows


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _gain_rows(methods: dict[str, Any], zoos: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name, method in methods.items():
        gains = [method["routing"][zoo].get("router_gain") for zoo in zoos]
        if all(gains):
            cells = [
                {"value": f"{100 * gain['mean']:+.2f}", "interval": _interval(gain["low"], gain["high"], 100, 1)}
                for gain in gains
            ]
            rows.append({"name": name, "cells": cells})
    return rows


def _correctness_rows(methods: dict[str, Any]) -> list[dict[str, Any]]:
    best = {}
    for measure in CORRECTNESS:
        values = [m["correctness"][measure]["mean"] for m in methods.values()]
        known = [value for value in values if value is not None]
        best[measure] = (min if measure in LESS_IS_BETTER else max)(known, default=None)
    rows = []
    for name, method in methods.items():
        cells = []
        for measure in CORRECTNESS:
            found = method["correctness"][measure]
            spread = "" if found["deviation"] is None else f" ± {found['deviation']:.4f}"
            cells.append(
                {
                    "value": "–" if found["mean"] is None else f"{found['mean']:.4f}{spread}",
                    "interval": _interval(found["low"], found["high"], 1, 3),
                    "best": found["mean"] is not None and found["mean"] == best[measure],
                }
            )
        rows.append(
            {
                "name": name,
                "ours": name == ROUTER,
                "cells": cells,
                "seeds": method["seeds"],
                "seconds": method["fit_seconds"],
            }
        )
    return rows


def _reliability_plot(methods: dict[str, Any]) -> str:
    """Base64 of a PNG: one curve per method, the router's in front."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 5.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#999", linewidth=1, linestyle="--")
    for name, method in sorted(methods.items(), key=lambda entry: entry[0] == ROUTER):
        found, ours = method["reliability"], name == ROUTER
        axes.plot(
            found["probability"],
            found["outcome"],
            label=name,
            marker="o" if ours else None,
            linewidth=2.5 if ours else 1,
            color="black" if ours else None,
            alpha=1 if ours else 0.7,
        )
    axes.set(xlabel="mean probability", ylabel="mean outcome", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return base64.b64encode(picture.getvalue()).decode()
