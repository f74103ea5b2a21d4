"""What a report is of: so that it can be told from another one."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from satjax import __version__
from satjax.config import TrainConfig
from satjax.export.directory import router_sha256
from satjax.files import canonical_json
from satjax.outcomes import OutcomeTable
from satjax.pretrained import is_shipped, router_directory


def made_of(
    outcomes: str | Path,
    table: OutcomeTable,
    routers: Sequence[str | Path] = (),
    config: TrainConfig | None = None,
    **more: Any,
) -> dict[str, Any]:
    """JSON-ready: the version of satjax, outcomes and routers as they were named, each with the sha256 of what it holds, that of the config of their
    training, and `more` of the command.
    """
    found = [router_directory(router) for router in routers]
    named = [{"path": each.name if is_shipped(each) else str(each), "sha256": router_sha256(each)} for each in found]
    return {
        "satjax": __version__,
        "outcomes": {"path": str(outcomes), "sha256": table_sha256(table)},
        **({"routers": named} if named else {}),
        **({"config_sha256": _sha256(canonical_json(asdict(config)).encode())} if config else {}),
        **more,
    }


def table_sha256(table: OutcomeTable) -> str:
    """Of items, candidates, outcomes and costs, in their order."""
    items, candidates = map(asdict, table.items), map(asdict, table.candidates)
    described = canonical_json([*items, *candidates]).encode()
    costs = b"" if table.cost_usd_MN is None else table.cost_usd_MN.tobytes()
    return _sha256(b"\n".join([described, table.scores_MN.tobytes(), costs]))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
