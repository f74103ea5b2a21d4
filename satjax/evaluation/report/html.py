"""`report.html`: what `satjax bench` or a protocol found, as one page that needs no other file."""

from pathlib import Path
from typing import Any

from satjax import metrics
from satjax.evaluation import protocols
from satjax.evaluation.comparison import APART, ONE_NEW, SEEN
from satjax.evaluation.report import bench_tables, drawings, formats
from satjax.evaluation.zoos import ALL
from satjax.files import write_text

ABOUT = {
    protocols.UNSEEN_FAMILIES: "In the rows of the router and of the baselines, every candidate is judged by one that has never met its family: its aptitude test is all that this one knows of it.",
    protocols.LEAVE_CATEGORY_OUT: "In the rows of the router and of the baselines, every instruction is judged by one that has never met its category, in training or aptitude test.",
}
"""What the pages of protocols say that give the figures of a bench."""
OF_ROWS = {
    SEEN: "was trained on what those have not met, and on all the rest.",
    ONE_NEW: "is each of those routers among all candidates: one family is new to it, and it was trained on the others.",
}
"""What these pages say of the rows to which that does not apply."""


def write_html(figures: dict[str, Any], path: Path) -> None:
    """Writes the page for what `satjax.evaluation.comparison.compare` or a function of `satjax.evaluation.protocols` returned."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("satjax.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    pages.globals |= {
        name: getattr(formats, name) for name in ("figure", "spread", "percent", "gain", "ends", "dollars")
    }
    protocol = figures.get("protocol")
    title = f"satjax protocol: {protocol}" if protocol else "satjax bench"
    found: dict[str, Any]
    match protocol:
        case protocols.RELEASE_STREAM:
            name, found = "release_stream", {"drawing": drawings.release_stream(figures["releases"])}
        case protocols.ONBOARDING:
            name, found = "onboarding", {"drawing": drawings.onboarding(figures["sizes"])}
            found["measures"] = list(metrics.CORRECTNESS)
        case protocols.COVERAGE:
            name, found = "coverage", {"drawing": drawings.coverage(figures)}
        case _:
            name, found = "bench", _of_bench(figures)
    write_text(path, pages.get_template(f"{name}.html.j2").render(title=title, figures=figures, **found))


def _about(figures: dict[str, Any]) -> list[str]:
    """Sentences on what was left out of which rows; none for a bench."""
    about = ABOUT.get(figures.get("protocol", ""))
    return [about, *(f"{name} {said}" for name, said in OF_ROWS.items() if name in figures["methods"])] if about else []


def _of_bench(figures: dict[str, Any]) -> dict[str, Any]:
    methods, cost, pair = figures["methods"], figures.get("cost"), figures.get("pair")
    zoos = next(iter(methods.values()))["routing"]
    of_all = zoos[ALL]
    return {
        "about": _about(figures),
        "apart": [name for name in methods if name in APART],
        "chosen_on": None if of_all["best_single_candidate"] is None else of_all["best_single_chosen_on"],
        "not_seeds": {name: method for name, method in methods.items() if method.get("differ_in", "seeds") != "seeds"},
        "folds": figures.get("folds"),
        "not_routed": {zoo: found["reason"] for zoo, found in zoos.items() if "reason" in found},
        "routing": bench_tables.routing(methods),
        "gains": bench_tables.gains(methods),
        "gaps": bench_tables.gaps(methods),
        "entropies": bench_tables.entropies(methods),
        "correctness": bench_tables.correctness(methods),
        "differences": bench_tables.differences(methods),
        "cost": cost and bench_tables.cost(cost, methods),
        "cost_drawing": cost and drawings.quality_against_cost(cost, methods),
        "pair": pair and bench_tables.pair(pair, methods),
        "reliability": bench_tables.reliability(methods),
        "reliability_drawing": drawings.reliability(methods),
    }
