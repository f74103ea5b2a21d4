"""Where satjax keeps what it fetched or made and can have again."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$SATJAX_CACHE`, or `~/.cache/satjax`."""
    return Path(os.environ.get("SATJAX_CACHE") or Path.home() / ".cache" / "satjax")
