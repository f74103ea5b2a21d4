"""How a text encoder sums up its tokens, as the files beside its weights state it (the layout of sentence-transformers)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError
from satjax.models.text_encoder import Pooling
from satjax.weights.digests import weights_sha256
from satjax.weights.errors import unreadable
from satjax.weights.packages import PACKAGES

FILE = "1_Pooling/config.json"
MODULES = "modules.json"
READ = ("Transformer", "Pooling", "Normalize")
"""Kinds of modules that satjax reads, or whose work changes nothing of what it makes."""
PREFIX = "pooling_mode_"
KNOWN: dict[str, Pooling] = {"mean_tokens": "mean", "mean": "mean", "cls_token": "cls", "cls": "cls"}


def stated_pooling(directory: Path) -> Pooling:
    """The pooling that `1_Pooling/config.json` of an encoder's directory states; the mean where there is no such file.

    Raises SatjaxError where it cannot be read, or states one that satjax does not have.
    """
    path = directory / FILE
    if not path.is_file():
        return "mean"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        modes = sorted(set(_modes(config)))
        whole = config.get("include_prompt", True)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise unreadable(directory, FILE, error) from error
    if len(modes) == 1 and modes[0] in KNOWN and whole:
        return KNOWN[modes[0]]
    stated = (", ".join(modes) or "none") + ("" if whole else " without the prompt")
    raise SatjaxError(
        f"base weights {directory}: {FILE} states the pooling {stated}, which satjax does not have; use a text encoder that takes the mean "
        "of all tokens or the first one (cls)"
    )


def check_modules(directory: Path) -> None:
    """Raises SatjaxError where `modules.json` of an encoder's directory names what is not read: modules of other kinds, or a pooling that is not there.

    To be asked where something new is made of it: a router that was trained on what is read of an encoder reads the same of it ever after.
    """
    path = directory / MODULES
    if not path.is_file():
        return
    try:
        modules = [(module["type"].rpartition(".")[2], module["path"]) for module in json.loads(path.read_bytes())]
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise unreadable(directory, MODULES, error) from error
    if other := next((kind for kind, _ in modules if kind not in READ), None):
        raise SatjaxError(
            f"base weights {directory}: {MODULES} names a module {other}, which satjax does not have; use a text encoder of "
            f"{', '.join(READ)} alone"
        )
    named = [folder for kind, folder in modules if kind == "Pooling"]
    if not named or (directory / FILE).is_file():
        return
    # The packages leave out that of theirs, which is the mean.
    if weights_sha256(directory) not in {package.sha256 for package in PACKAGES.values()}:
        raise SatjaxError(
            f"base weights {directory}: {MODULES} names the pooling {named[0]}, and there is no {FILE}; copy or download it, too"
        )


def _modes(config: dict[str, Any]) -> Iterator[str]:
    """Those that are switched on, or are named by newer files."""
    yield from (key.removeprefix(PREFIX) for key, on in config.items() if key.startswith(PREFIX) and on)
    named = config.get("pooling_mode", ())
    yield from (str(mode) for mode in ([named] if isinstance(named, str) else named))
