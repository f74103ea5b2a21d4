"""How a text encoder sums up its tokens, as the files beside its weights state it (the layout of sentence-transformers)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from satjax.errors import SatjaxError
from satjax.models.text_encoder import Pooling

FILE = "1_Pooling/config.json"
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
        reason = " ".join(str(error).split())
        raise SatjaxError(
            f"base weights {directory}: {FILE} cannot be read ({reason}); copy or download it again"
        ) from error
    if len(modes) == 1 and modes[0] in KNOWN and whole:
        return KNOWN[modes[0]]
    stated = (", ".join(modes) or "none") + ("" if whole else " without the prompt")
    raise SatjaxError(
        f"base weights {directory}: {FILE} states the pooling {stated}, which satjax does not have; use a text encoder that takes the mean "
        "of all tokens or the first one (cls)"
    )


def _modes(config: dict[str, Any]) -> Iterator[str]:
    """Those that are switched on, or are named by newer files."""
    yield from (key.removeprefix(PREFIX) for key, on in config.items() if key.startswith(PREFIX) and on)
    named = config.get("pooling_mode", ())
    yield from (str(mode) for mode in ([named] if isinstance(named, str) else named))
