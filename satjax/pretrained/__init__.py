"""The router that comes with the package; `default/README.md` is its card."""

from pathlib import Path

DEFAULT = Path(__file__).parent / "default"
"""Its directory, as `satjax.Router.load` reads any other."""
