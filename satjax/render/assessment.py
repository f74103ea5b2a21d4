"""What came of an assessment."""

from collections.abc import Mapping

from rich.text import Text

from satjax.aptitude import CapabilityProfile
from satjax.render.console import open_console, plain_table

EXAMPLES = 3
"""Replies without an answer that are shown."""
MANY = 0.1
"""Share of replies without an answer that is worth a warning."""


def assessment_table(
    profile: CapabilityProfile,
    unparsed: Mapping[str, str],
    undelivered: Mapping[str, str],
    unanswered: Mapping[str, str],
) -> None:
    """What a model made of the aptitude test, how sure that is, the replies that hold no answer, and why items have none: these by item."""
    console, table, said = open_console(), plain_table(show_header=False), profile.assessment or {}
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
    told = said["tokens_in"] is not None
    table.add_row(
        "tokens",
        f"{said['tokens_in']:,} read, {said['tokens_out']:,} written{cost}" if told else "not told by the endpoint",
    )
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
    if undelivered:
        item, reason = next(iter(undelivered.items()))
        console.print(
            Text(
                f"{len(undelivered)} items count as wrong: no reply came in time, or a filter declined them, as it would whoever asks "
                f"({item}: {reason}); the same command asks them again"
            ),
            style="yellow",
            soft_wrap=True,
        )
    if unanswered:
        item, reason = next(iter(unanswered.items()))
        console.print(
            Text(
                f"{len(unanswered)} items got no reply and count as unobserved ({item}: {reason}), so that this profile is of the others, which may "
                "be easier; the same command asks them again"
            ),
            style="yellow",
            soft_wrap=True,
        )
