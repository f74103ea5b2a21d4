"""What a report is of: so that it can be told from another one."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from satjax import __version__
from satjax.export import router_sha256
from satjax.outcomes import OutcomeTable
from satjax.pretrained import is_shipped, router_directory
from satjax.training.job import outcome_bytes


def made_of(
    outcomes: str | Path, table: OutcomeTable, routers: Sequence[str | Path] = (), **more: Any
) -> dict[str, Any]:
    """JSON-ready: the version of satjax, outcomes and routers as they were named, with the sha256 of what they hold, and `more` of the command."""
    found = [router_directory(router) for router in routers]
    named = [{"path": each.name if is_shipped(each) else str(each), "sha256": router_sha256(each)} for each in found]
    return {
        "satjax": __version__,
        "outcomes": {"path": str(outcomes), "sha256": hashlib.sha256(outcome_bytes(table)).hexdigest()},
        **({"routers": named} if named else {}),
        **more,
    }
