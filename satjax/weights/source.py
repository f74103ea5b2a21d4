"""Base weights by the name that a config gives them."""

from dataclasses import dataclass

from satjax.errors import SatjaxError

FORMS = "package:NAME==VERSION, hub:ORG/NAME[@REVISION] or dir:PATH"
REVISION = {"package": "==", "hub": "@"}
"""What stands before the revision of a source."""


@dataclass(frozen=True)
class Source:
    """A source in its parts: its `kind`, the `name` of a package or of a model on the hub, or a path, and the `revision`, empty for none."""

    kind: str
    name: str
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Raises SatjaxError for what has none of the forms."""
        kind, _, name = text.partition(":")
        if kind not in (*REVISION, "dir") or not name:
            raise SatjaxError(f"base weights {text!r}: give {FORMS}")
        if kind == "dir":
            return cls(kind, name)
        name, _, revision = name.partition(REVISION[kind])
        return cls(kind, name, revision)

    def __str__(self) -> str:
        """As a config names it."""
        return f"{self.kind}:{self.full_name}"

    @property
    def full_name(self) -> str:
        """The name with its revision."""
        return f"{self.name}{REVISION[self.kind]}{self.revision}" if self.revision else self.name
