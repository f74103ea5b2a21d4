"""What an outcome table holds."""

from typing import Any

from rich.text import Text

from satjax.render.console import open_console, percent, plain_table


def description_tables(figures: dict[str, Any]) -> None:
    """What `satjax.outcomes.describe` found of a table."""
    console, facts = open_console(), plain_table(show_header=False)
    splits = ", ".join(f"{count} {name}" for name, count in figures["splits"].items())
    median, most, longest = figures["text_length"]
    facts.add_row("items", f"{figures['items']} ({splits})")
    tasks = {0: "no tasks", 1: "1 task"}.get(figures["tasks"], f"{figures['tasks']} tasks")
    categories = {0: "no categories", 1: "1 category"}.get(figures["categories"], f"{figures['categories']} categories")
    sources = ", ".join(filter(None, figures["sources"]))
    facts.add_row("of", Text(f"{tasks}, {categories}{sources and '; '}{sources}"))
    facts.add_row("text length", f"{median} characters (median), {most} (90th percentile), {longest} (longest)")
    facts.add_row(
        "outcomes", f"{figures['outcomes']}, {figures['soft_outcomes']} of them soft; {figures['costs']} costs"
    )
    facts.add_row("random, oracle", f"{percent(figures['random'])}, {percent(figures['oracle'])}")
    candidates = plain_table()
    candidates.add_column("candidate", overflow="fold")
    for column in ("mean", "observed", "billions", "family", "released"):
        candidates.add_column(column, justify="left" if column == "family" else "right")
    for entry in figures["candidates"]:
        size, known = entry["params_b"], (Text(entry["family"] or ""), entry["release_date"] or "")
        row = (percent(entry["mean"]), percent(entry["observed"]), "" if size is None else f"{size:g}", *known)
        candidates.add_row(Text(entry["id"]), *row)
    console.print(facts)
    console.print()
    console.print(candidates)
    for line in figures["missing"]:
        console.print(f"missing: {line}", style="yellow", markup=False, soft_wrap=True)
