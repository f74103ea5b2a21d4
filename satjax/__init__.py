"""satjax: capability instruction tuning in JAX. Rank candidate LLMs for an instruction without running any of them."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from satjax.aptitude import AptitudeTest, CapabilityProfile
    from satjax.errors import SatjaxError
    from satjax.outcomes import OutcomeTable, open_outcomes
    from satjax.router import Ranked, Router

_HOME = {
    "AptitudeTest": "satjax.aptitude",
    "CapabilityProfile": "satjax.aptitude",
    "OutcomeTable": "satjax.outcomes",
    "Ranked": "satjax.router",
    "Router": "satjax.router",
    "SatjaxError": "satjax.errors",
    "open_outcomes": "satjax.outcomes",
}
__all__ = ["AptitudeTest", "CapabilityProfile", "OutcomeTable", "Ranked", "Router", "SatjaxError", "open_outcomes"]


def __getattr__(name: str) -> Any:
    """Imports the public names when they are first used, so that `import satjax` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'satjax' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
