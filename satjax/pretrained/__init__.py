"""The routers that come with the package; the README.md of each is its card."""

from pathlib import Path

HERE = Path(__file__).parent
DEFAULT = HERE / "default"
"""The directory of the one that is used where none is named, as `satjax.Router.load` reads any other."""
SHIPPED = ("default", "large")


def router_directory(router: str | Path) -> Path:
    """The directory of a router: one that is there, or else a shipped one by its name."""
    path = Path(router)
    return HERE / path if str(router) in SHIPPED and not (path / "config.json").exists() else path


def is_shipped(directory: Path) -> bool:
    """Whether this is the directory of a router of the package, which stays as it is."""
    return directory.resolve().parent == HERE.resolve()
