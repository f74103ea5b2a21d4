"""Where satjax keeps what it fetched or made and can have again."""

import os
from pathlib import Path

from satjax.files import local_path


def cache_dir() -> Path:
    """`$SATJAX_CACHE`, or `~/.cache/satjax`. Raises SatjaxError for a URL."""
    return local_path(os.environ.get("SATJAX_CACHE") or Path.home() / ".cache" / "satjax")
