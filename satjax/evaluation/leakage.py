"""Questions that a router or a baseline was fitted on, and is measured on too."""

import logging

from satjax.outcomes import OutcomeTable
from satjax.outcomes.splits import folded

log = logging.getLogger("satjax")


def warn_of_leakage(table: OutcomeTable, split: str) -> None:
    """Logs how many instructions of a split, blanks folded, stand in the training split too, where that is another one."""
    if split == "train":
        return
    learned = {folded(item.text) for item in table.items if item.split == "train"}
    asked = [folded(item.text) for item in table.items if item.split == split]
    if leaked := sum(text in learned for text in asked):
        log.warning(
            "%d of %d instructions of the split %r stand in the training split too: figures flatter whoever was fitted there; leave them out",
            leaked,
            len(asked),
            split,
        )
