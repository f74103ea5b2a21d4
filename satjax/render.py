"""What the command line shows people: tables and progress."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from satjax.aptitude import CapabilityProfile
from satjax.calibration import Calibration
from satjax.router import Ranked
from satjax.run_log import SECONDS_BETWEEN_LINES, duration

BAR_WIDTH = 24
EXAMPLES = 3
"""Replies without an answer that are shown."""
MANY = 0.1
"""Share of replies without an answer that is worth a warning."""


def ranking_table(instruction: str, ranked: Sequence[Ranked], num_candidates: int) -> None:
    """One instruction and its ranking, the probability also as a bar."""
    console = Console(highlight=False)
    shown = instruction if len(instruction) <= 200 else f"{instruction[:120]} … {instruction[-70:]}"
    console.print()
    console.print(Text(shown, style="bold"))
    table = _plain_table()
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("candidate", overflow="fold")  # the one column that may take several lines: a name is never cut
    table.add_column("P(handles it)", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for place, entry in enumerate(ranked, start=1):
        bar = "█" * round(entry.probability * BAR_WIDTH)
        table.add_row(str(place), Text(entry.candidate), f"{entry.probability:.3f}", bar)
    console.print(table)
    if len(ranked) < num_candidates:
        console.print(f"({num_candidates - len(ranked)} more candidates)", style="dim")


def assessment_table(profile: CapabilityProfile, unparsed: Mapping[str, str], unanswered: Mapping[str, str]) -> None:
    """What a model made of the aptitude test, how sure that is, the replies that hold no answer, and why items have none, both by item."""
    console, table, said = Console(highlight=False), _plain_table(show_header=False), profile.assessment or {}
    table.add_row("candidate", Text(profile.candidate))
    table.add_row(
        "items answered", f"{said['items']:,} of {said['of']:,}{', each in all rotations' if said['rotated'] else ''}"
    )
    table.add_row(
        "right", f"{100 * said['accuracy']:.1f} % (standard error {100 * said['accuracy_standard_error']:.1f})"
    )
    if "probability_deviation" in said:
        sure, before = said["probability_deviation"], said["probability_deviation_before"]
        table.add_row("probabilities known to", f"± {sure:.3f} (standard deviation; before any item ± {before:.3f})")
    cost = f", ${said['cost_usd']:.4f}" if "cost_usd" in said else ""
    table.add_row("tokens", f"{said['tokens_in']:,} read, {said['tokens_out']:,} written{cost}")
    table.add_row(
        "without an answer",
        f"{said['unparsed']} replies, which count as wrong; {said['cut_short']} of them cut short by --max-tokens",
    )
    console.print(table)
    for item, reply in list(unparsed.items())[:EXAMPLES]:
        shown = " ".join(reply.split())
        console.print(
            Text(f"  {item}: {f'… {shown[-100:]}' if len(shown) > 100 else shown or 'an empty reply'}", style="dim")
        )
    if said["unparsed"] > MANY * said["items"]:
        console.print(
            "many replies hold no answer: this profile may tell more of form than of ability",
            style="yellow",
            soft_wrap=True,
        )
    if unanswered:
        item, reason = next(iter(unanswered.items()))
        console.print(
            Text(
                f"{len(unanswered)} items got no reply and count as unobserved ({item}: {reason}); the same command asks them again"
            ),
            style="yellow",
            soft_wrap=True,
        )


def report_table(figures: dict[str, Any]) -> None:
    """The figures of a report in short."""
    console = _about(figures)
    table = _plain_table(show_header=False)
    for name, value in figures["correctness"].items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    for zoo, routing in figures["routing"].items():
        for name in ("router", "best_single", "random", "oracle"):
            table.add_row(f"routing accuracy ({zoo}): {name}", _percent(routing[name]))
        if routing["n"] < figures["instructions"]:
            table.add_row(f"routing accuracy ({zoo}): on", f"{routing['n']} instructions")
    console.print(table)


def calibration_tables(calibration: Calibration, figures: dict[str, Any]) -> None:
    """Probabilities before and after, and what thresholds cost and save.

    A router's own calibration was fitted on the split `val`: measured there, it is not measured on other instructions, as the rest is.
    """
    console, table = Console(highlight=False), _plain_table()
    marks = {figures["method"]: " (written)"} | ({"before": " (fitted on these)"} if figures["split"] == "val" else {})
    but = ", but for before" if "before" in marks else ""
    console.print(
        f"{figures['instructions']} instructions ({figures['split']}), {len(figures['candidates'])} candidates; measured on other folds than fitted on{but}"
    )
    for column in ("probabilities", "Brier", "ECE", "log loss"):
        table.add_column(column, justify="left" if column == "probabilities" else "right")
    for name, found in figures["correctness"].items():
        table.add_row(
            f"{name}{marks.get(name, '')}", *(_number(found[figure]) for figure in ("brier", "ece", "log_loss"))
        )
    console.print(table)
    if not calibration.thresholds:
        if "missed_shares" in figures:
            return console.print("no threshold keeps that much of the best candidate's outcomes", style="yellow")
        return console.print(
            "no thresholds: neither the outcome table nor a --zoo says what candidates cost", style="dim"
        )
    best = calibration.thresholds[0]
    console.print()
    console.print(
        Text(
            f"always {figures['best_candidate']}: {_percent(best.best_outcome)} at ${1000 * best.best_cost_usd:.4g} per 1,000 "
            f"({figures['priced_instructions']} instructions)"
        )
    )
    table = _plain_table()
    for column in ("to keep", "cheapest above", "outcome", "kept", "$ per 1,000", "saved"):
        table.add_column(column, justify="right")
    at = {each.share: each for each in calibration.thresholds}
    for share in sorted([*at, *figures["missed_shares"]], reverse=True):
        if share not in at:
            table.add_row(f"{100 * share:g} %", "none does")
            continue
        each = at[share]
        kept = each.outcome / each.best_outcome if each.best_outcome else None
        saved = 1 - each.cost_usd / each.best_cost_usd if each.best_cost_usd else None
        cells = (_percent(each.outcome), _percent(kept), f"{1000 * each.cost_usd:.4g}", _percent(saved))
        table.add_row(f"{100 * share:g} %", f"{each.threshold:.3f}", *cells)
    console.print(table)


def bench_table(figures: dict[str, Any]) -> None:
    """Every method of a bench in short: AUROCs and Brier score, routing accuracy by zoo, and cost where that is known."""
    console = _about(figures)
    measures = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
    correctness, routing = _plain_table(), _plain_table()
    correctness.add_column("mean over seeds", overflow="fold")
    for measure in measures:
        correctness.add_column(measure.removeprefix("auroc_").replace("_", " "), justify="right")
    routing.add_column("routing accuracy", overflow="fold")
    first = next(iter(figures["methods"].values()))["routing"]
    for zoo in first:
        routing.add_column(zoo, justify="right")
    for name, method in figures["methods"].items():
        values = [method["correctness"][measure]["mean"] for measure in measures]
        correctness.add_row(Text(name), *("None" if value is None else f"{value:.4f}" for value in values))
        seeds = [found["by_seed"] for found in method["routing"].values()]
        routing.add_row(Text(name), *(_percent(None if None in each else sum(each) / len(each)) for each in seeds))
    for label in ("best_single", "oracle"):
        routing.add_row(label, *(_percent(found[label]) for found in first.values()))
    if any(found["n"] < figures["instructions"] for found in first.values()):
        routing.add_row("instructions", *(str(found["n"]) for found in first.values()))
    console.print(correctness)
    console.print()
    console.print(routing)
    if "cost" in figures or "pair" in figures:
        console.print()
        _cost_table(console, figures)


def _cost_table(console: Console, figures: dict[str, Any]) -> None:
    """AIQ where there are costs, APGR and CPT where there is a pair; says what they are of."""
    cost, pair = figures.get("cost"), figures.get("pair")
    table = _plain_table()
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
            cells += [_number(method["cost"]["aiq"]["mean"]), _number(method["cost"]["above_zero_router"]["mean"], "+")]
        if pair:
            found = method["pair"]
            cells += [_number(found["apgr"]["mean"]), *(_percent(found[key]["mean"]) for key in ("cpt50", "cpt80"))]
        table.add_row(Text(name), *cells)
    for label in ("zero_router", "oracle"):
        cells = [_number(cost[label]["aiq"]), ""] if cost else []
        if pair and label == "oracle":
            cells += [_number(pair[label]["apgr"]), *(_percent(pair[label][key]) for key in ("cpt50", "cpt80"))]
        if any(cells):
            table.add_row(label, *cells)
    console.print(table)
    if cost:
        low, high = (1000 * end for end in cost["range"])
        console.print(f"AIQ: over budgets of ${low:.3g} to ${high:.3g} per 1,000 calls")
        if "reason" in cost["zero_router"]:
            console.print(f"no zero router: {cost['zero_router']['reason']}", soft_wrap=True)
    if pair:
        strong, weak = pair["strong"]["candidate"], pair["weak"]["candidate"]
        console.print(Text(f"APGR, CPT: calls shared out between {strong} and {weak}"))


def _number(value: float | None, sign: str = "") -> str:
    return "None" if value is None else f"{value:{sign}.4f}"


def protocol_tables(figures: dict[str, Any]) -> None:
    """What a protocol found, in short."""
    console, table = Console(highlight=False), _plain_table()
    match figures["protocol"]:
        case "onboarding":
            for column in (
                "aptitude items",
                "pooled AUROC",
                "per candidate",
                "within instruction",
                "Brier",
                "routed, all",
            ):
                table.add_column(column, justify="right")
            for size, found in figures["sizes"].items():
                names = ("auroc_pooled", "auroc_per_candidate", "auroc_within_instruction", "brier")
                mean = f" (mean {found['mean_items']:.1f})" if "mean_items" in found else ""
                table.add_row(f"{size}{mean}", *(_number(found[name]) for name in names), _percent(found["routed"]))
        case "release stream":
            for column in ("release", "newest", "router", "best single", "random", "oracle"):
                table.add_column(column, overflow="fold")
            for step in figures["releases"]:
                values = (_percent(step[name]) for name in ("router", "best_single", "random", "oracle"))
                table.add_row(step["release_date"], Text(step["newest"]), *values)
        case "coverage":
            console.print(
                f"{figures['best_candidate']} is right on {_percent(figures['best_candidate_right'])} of {figures['instructions']} instructions"
            )
            for column in ("weaker candidates", "cover of its right answers: mean", "best", "oracle: mean", "best"):
                table.add_column(column, justify="right")
            for size, found in figures["sizes"].items():
                cells = [_percent(found[name][kind]) for name in ("covers_best", "oracle") for kind in ("mean", "best")]
                table.add_row(size, *cells)
        case _:
            return bench_table(figures)
    console.print(table)


def description_tables(figures: dict[str, Any]) -> None:
    """What `satjax.outcomes.describe` found of a table."""
    console, facts = Console(highlight=False), _plain_table(show_header=False)
    splits = ", ".join(f"{count} {name}" for name, count in figures["splits"].items())
    median, most, longest = figures["text_length"]
    facts.add_row("items", f"{figures['items']} ({splits})")
    facts.add_row(
        "of", f"{figures['tasks']} tasks, {figures['categories']} categories; {', '.join(figures['sources'])}"
    )
    facts.add_row("text length", f"{median} characters (median), {most} (90th percentile), {longest} (longest)")
    facts.add_row(
        "outcomes", f"{figures['outcomes']}, {figures['soft_outcomes']} of them soft; {figures['costs']} costs"
    )
    facts.add_row("random, oracle", f"{_percent(figures['random'])}, {_percent(figures['oracle'])}")
    candidates = _plain_table()
    candidates.add_column("candidate", overflow="fold")
    for column in ("mean", "observed", "billions", "family", "released"):
        candidates.add_column(column, justify="left" if column == "family" else "right")
    for entry in figures["candidates"]:
        size, known = entry["params_b"], (entry["family"] or "", entry["release_date"] or "")
        row = (_percent(entry["mean"]), _percent(entry["observed"]), "" if size is None else f"{size:g}", *known)
        candidates.add_row(Text(entry["id"]), *row)
    console.print(facts)
    console.print()
    console.print(candidates)
    for line in figures["missing"]:
        console.print(f"missing: {line}", style="yellow", markup=False, soft_wrap=True)


def preflight_tables(figures: dict[str, Any]) -> None:
    """Whether a slice does, and how fast: memory, time and collectives of both steps; meshes, batches and slices where they were compared."""
    console = Console(highlight=False)
    console.print(
        f"{figures['topology']}: {figures['chips']} chips, stage {figures['stage']!r}, "
        f"{figures['bucket']} tokens, {figures['candidates']} candidates; meshes are data x fsdp x tensor, figures are of one chip and one step"
    )
    for name in ("train", "rank"):
        found, memory = figures[name], figures[name]["memory"]
        verdict = f"fits, {_gib(memory['spare'])} to spare" if memory["fits"] else "does not fit"
        console.print(
            Text(f"{name} step, mesh {_mesh(found)}: {verdict}", style="bold" if memory["fits"] else "bold red")
        )
        table = _plain_table(show_header=False)
        for label in ("parameters", "optimizer", "activations", "total", "hbm"):
            table.add_row(label if label != "hbm" else "HBM of the chip", _gib(memory[label]))
        if memory["fits"]:
            seconds = found["seconds"]
            table.add_row("FLOPs", f"{found['flops']:.3e}, of that the model's {found['model_flops']:.3e}")
            table.add_row("HBM traffic", _gib(found["hbm_bytes"]))
            parts = ", ".join(f"{label} {1000 * seconds[key]:.1f}" for key, label in SECONDS.items())
            table.add_row("least time", f"{1000 * seconds['step']:.1f} ms ({parts}), bound by {found['bound']}")
            table.add_row("predicted MFU", _percent(found["mfu"]))
            for row in (row for row in found["collectives"] if row["bytes"] >= SHOWN):
                where = ("in a loop" if row["in_loop"] else "once") + (", hidden" if row["hidden"] else ", exposed")
                table.add_row(
                    row["kind"], f"{_gib(row['bytes'])} in {row['runs']} runs over {row['chips']} chips, {where}"
                )
        console.print(table)
    for title in ("sweep", "scaling"):
        if title not in figures:
            console.print(f"--{title} compares more", style="dim")
            continue
        table = _plain_table()
        for column in (title, "mesh", "rows", "memory", "least ms", "MFU", "efficiency"):
            table.add_column(column)
        for row in figures[title]:
            speed = (f"{1000 * row['step_seconds']:.1f}", _percent(row["mfu"])) if row["fits"] else ("does not fit", "")
            efficiency = row.get("efficiency")
            last = "" if efficiency is None else f"{efficiency:.3f}"
            table.add_row(
                row["topology"], _mesh(row), f"{row['rows_per_chip']:g}", _gib(row["total_bytes"]), *speed, last
            )
        console.print(table)
    if "sweep" in figures:
        best = figures["suggestion"]
        console.print(
            f"suggested mesh: {_mesh(best)}, {best['rows_per_chip']:g} rows on a chip" if best else "no mesh fits"
        )


SHOWN = 2**20
"""Collectives that move less in a step are left to the JSON."""

SECONDS = {"compute": "compute", "hbm": "HBM", "ici_hidden": "hidden collectives", "ici_exposed": "exposed collectives"}


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"


def _mesh(figures: dict[str, Any]) -> str:
    return "x".join(map(str, figures["mesh"].values()))


def _about(figures: dict[str, Any]) -> Console:
    """Says what the figures are of; returns the console for the rest."""
    console = Console(highlight=False)
    if figures["synthetic"]:
        console.print("synthetic zoo: generated instructions, planted abilities", style="yellow")
    drawn = f", drawn at random from {figures['drawn']['of']}" if "drawn" in figures else ""
    console.print(
        f"{figures['instructions']} instructions ({figures['split']}{drawn}), {len(figures['candidates'])} candidates"
    )
    return console


def _plain_table(**options: Any) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), **options)


def _percent(value: float | None) -> str:
    return "None" if value is None else f"{100 * value:.2f} %"


class OnStep(Protocol):
    """Hears how far a kind of work is."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps of the work that is called `what`; `note` stands beside."""


@contextlib.contextmanager
def steps() -> Iterator[OnStep]:
    """Progress on standard error for each kind of work, with the time left; yields `on_progress(what, done, total, note)`.

    Bars that are gone at the end; where that is no terminal, a line now and then.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def on_progress(what: str, done: int, total: int, note: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total, note=note)
            bars.update(tasks[what], completed=done, total=total, note=note)

        yield on_progress


@contextlib.contextmanager
def assessment_progress(prices: tuple[float, float] | None) -> Iterator[Callable[[int, int, int, int], Any]]:
    """`steps` for an assessment: beside the bar what is spent, and what all of it will come to, where the prices of a token are known."""
    with steps() as on_progress:

        def on_items(done: int, total: int, tokens_in: int, tokens_out: int) -> None:
            spent = ""
            if prices and done:
                cost = tokens_in * prices[0] + tokens_out * prices[1]
                spent = f"${cost:.2g} of about ${cost / done * total:.2g}"
            on_progress("items", done, total, spent)

        yield on_items


def _lines() -> OnStep:
    started: dict[str, float] = {}
    last = time.monotonic()

    def on_progress(what: str, done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        first = started.setdefault(what, now)
        if done < total and done and now - last > SECONDS_BETWEEN_LINES:
            last = now
            left = duration((now - first) / done * (total - done))
            print(f"{what}: {done} of {total}, about {left} left{note and ', '}{note}", file=sys.stderr)

    return on_progress


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], Any]]:
    """A bar on standard error with the time left, gone at the end; yields `on_progress(done, total)`."""
    with steps() as on_progress:
        yield lambda done, total: on_progress(what, done, total)
