"""Whether exported routers are seeds of one recipe, whose figures may be averaged."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError
from satjax.export.directory import RouterFiles, learned_digests, read_router


def check_seeds(directories: Sequence[Path]) -> None:
    """Raises SatjaxError where routers differ in their config, base weights or aptitude test, or two of them hold the same learned files."""
    if len(directories) < 2:
        return
    first, *others = directories
    of_first = _recipe(read_router(first))
    learned = {learned_digests(first): first}
    for directory in others:
        recipe = _recipe(read_router(directory))
        for name in sorted(of_first.keys() | recipe.keys()):
            ours, theirs = of_first.get(name), recipe.get(name)
            if ours != theirs:
                raise SatjaxError(
                    f"bench: routers {first} and {directory} are no seeds of one recipe: {name} is {ours!r} and {theirs!r}; "
                    "give each recipe a bench of its own"
                )
        files = learned_digests(directory)
        if files in learned:
            raise SatjaxError(
                f"bench: routers {learned[files]} and {directory} learned the same, to the byte, and are no two seeds; leave one of them out"
            )
        learned[files] = directory


def _recipe(files: RouterFiles) -> dict[str, Any]:
    """What seeds of a recipe have in common, by name. Base weights go by their digests: where they lay says nothing."""
    config = {name: value for name, value in _flat(asdict(files.config)).items() if not name.endswith(".weights")}
    return {
        **{f"router.{name}": value for name, value in config.items()},
        **{f"base_sha256.{name}": digest for name, digest in files.base_sha256.items()},
        "aptitude_test.fingerprint": files.test.fingerprint,
    }


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= {f"{name}.{k}": v for k, v in _flat(value).items()} if isinstance(value, Mapping) else {name: value}
    return found
