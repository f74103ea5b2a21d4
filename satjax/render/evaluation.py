"""The figures of `satjax evaluate` and of every method of `satjax bench`, in short."""

from typing import Any

from rich.console import Console
from rich.text import Text

from satjax.evaluation.figures import mean_of_known
from satjax.render.console import number, open_console, percent, plain_table


def report_table(figures: dict[str, Any]) -> None:
    """The figures of a report in short."""
    console = _about(figures)
    table = plain_table(show_header=False)
    for name, value in figures["correctness"].items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    for zoo, routing in figures["routing"].items():
        for name in ("router", "best_single", "random", "oracle"):
            table.add_row(Text(f"routing accuracy ({zoo}): {name}"), percent(routing[name]))
        if routing["n"] < figures["instructions"]:
            table.add_row(Text(f"routing accuracy ({zoo}): on"), f"{routing['n']} instructions")
        if routing["n_with_a_choice"] < figures["instructions"]:
            table.add_row(Text(f"routing accuracy ({zoo}): two answered"), f"{routing['n_with_a_choice']} instructions")
    console.print(table)
    _why_not(console, figures["routing"])


def bench_table(figures: dict[str, Any]) -> None:
    """Every method of a bench in short: AUROCs and Brier score, routing accuracy by zoo, and cost where that is known."""
    console = _about(figures)
    measures = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
    correctness, routing = plain_table(), plain_table()
    correctness.add_column("mean over seeds", overflow="fold")
    for measure in measures:
        correctness.add_column(measure.removeprefix("auroc_").replace("_", " "), justify="right")
    routing.add_column("routing accuracy", overflow="fold")
    first = next(iter(figures["methods"].values()))["routing"]
    for zoo in first:
        routing.add_column(Text(zoo), justify="right")
    for name, method in figures["methods"].items():
        values = [method["correctness"][measure]["mean"] for measure in measures]
        correctness.add_row(Text(name), *("None" if value is None else f"{value:.4f}" for value in values))
        seeds = [found["by_seed"] for found in method["routing"].values()]
        routing.add_row(Text(name), *(percent(mean_of_known(each)) for each in seeds))
    for label in ("best_single", "oracle"):
        routing.add_row(label, *(percent(found[label]) for found in first.values()))
    if any(found["n"] < figures["instructions"] for found in first.values()):
        routing.add_row("instructions", *(str(found["n"]) for found in first.values()))
    if any(found["n_with_a_choice"] < figures["instructions"] for found in first.values()):
        routing.add_row("two candidates answered", *(str(found["n_with_a_choice"]) for found in first.values()))
    console.print(correctness)
    console.print()
    console.print(routing)
    _why_not(console, first)
    for name, method in figures["methods"].items():
        if method.get("differ_in", "seeds") != "seeds":
            count, differ_in = method["seeds"], method["differ_in"]
            console.print(
                Text(f"{name}: means over the {count} {differ_in} that were left out in turn, not over seeds")
            )
    if "cost" in figures or "pair" in figures:
        console.print()
        _cost_table(console, figures)


def _why_not(console: Console, routing: dict[str, Any]) -> None:
    """The zoos on which routing could not be measured, with the reason."""
    for zoo, found in routing.items():
        if "reason" in found:
            console.print(Text(f"no routing accuracy ({zoo}): {found['reason']}", style="yellow"), soft_wrap=True)


def _cost_table(console: Console, figures: dict[str, Any]) -> None:
    """AIQ where there are costs, APGR and CPT where there is a pair; says what they are of."""
    cost, pair = figures.get("cost"), figures.get("pair")
    table = plain_table()
    table.add_column("quality against cost", overflow="fold")
    for column in (
        *(("AIQ", "above zero router") if cost else ()),
        *(("APGR", "CPT(50 %)", "CPT(80 %)") if pair else ()),
    ):
        table.add_column(column, justify="right")
    for name, method in figures["methods"].items():
        if not method.keys() & {"cost", "pair"}:
            continue
        cells = []
        if cost:
            cells += [number(method["cost"]["aiq"]["mean"]), number(method["cost"]["above_zero_router"]["mean"], "+")]
        if pair:
            found = method["pair"]
            cells += [number(found["apgr"]["mean"]), *(percent(found[key]["mean"]) for key in ("cpt50", "cpt80"))]
        table.add_row(Text(name), *cells)
    for label in ("zero_router", "oracle"):
        cells = [number(cost[label]["aiq"]), ""] if cost else []
        if pair and label == "oracle":
            cells += [number(pair[label]["apgr"]), *(percent(pair[label][key]) for key in ("cpt50", "cpt80"))]
        if any(cells):
            table.add_row(label, *cells)
    console.print(table)
    if cost:
        low, high = (1000 * end for end in cost["range"])
        console.print(f"AIQ: over budgets of ${low:.3g} to ${high:.3g} per 1,000 calls")
        if "reason" in cost["zero_router"]:
            console.print(f"no zero router: {cost['zero_router']['reason']}", soft_wrap=True)
        if cost["left_out"]:
            names = ", ".join(cost["left_out"])
            console.print(Text(f"left out there, for want of costs: {names}"), soft_wrap=True)
    if pair:
        strong, weak = pair["strong"]["candidate"], pair["weak"]["candidate"]
        console.print(Text(f"APGR, CPT: calls shared out between {strong} and {weak}"))


def _about(figures: dict[str, Any]) -> Console:
    """Says what the figures are of; returns the console for the rest."""
    console = open_console()
    if figures["synthetic"]:
        console.print("synthetic zoo: generated instructions, planted abilities", style="yellow")
    drawn = f", drawn at random from {figures['drawn']['of']}" if "drawn" in figures else ""
    console.print(
        f"{figures['instructions']} instructions ({figures['split']}{drawn}), {len(figures['candidates'])} candidates"
    )
    if left_out := figures.get("left_out"):
        console.print(Text(f"left out: {', '.join(left_out)}"), soft_wrap=True)
    if new := figures.get("new_to_the_router"):
        console.print(Text(f"known to the router by their aptitude tests alone: {', '.join(new)}"), soft_wrap=True)
    return console
