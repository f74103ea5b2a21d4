"""Where compiled programs are kept, so that a run that starts again does not compile again."""

import os
import re
from pathlib import Path

from satjax.cache.folder import cache_dir
from satjax.errors import SatjaxError, TryAgain

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
NOT_NOW = re.compile(r"UNAVAILABLE(?!: No )|DEADLINE_EXCEEDED|already in use|resource busy", re.IGNORECASE)
"""In what a backend says of a device that is there: the run before still holds it, or its host has just started."""


def compilation_cache_dir(on_cpu: bool) -> str:
    """JAX's own variable where it is set, else a folder of satjax's cache, or, `on_cpu`, none; empty: nothing is kept."""
    return os.environ.get(VARIABLE, "" if on_cpu else str(cache_dir() / "compiled"))


def use_compilation_cache(workdir: Path | None = None) -> None:
    """Turns the cache on, for accelerators; starts JAX's backend. Raises SatjaxError where it finds no device, TryAgain where
    that is there and does not answer.

    In a run of several processes JAX lets the first one write for all, so it lies in the `workdir`, which all of them see; without
    one it stays off there. What XLA compiles
    for a CPU fits that very processor: in a home directory that different machines share it could crash one of them, so there only the variable
    turns it on.
    """
    import jax

    try:
        on_cpu = jax.default_backend() == "cpu"
    except (RuntimeError, AssertionError) as error:  # the latter for a platform whose plugin is not installed
        platforms = os.environ.get("JAX_PLATFORMS")
        wanted = f" for JAX_PLATFORMS={platforms}" if platforms else ""
        if NOT_NOW.search(str(error)):
            said = " ".join(str(error).split())[:300]
            raise TryAgain(
                f"jax does not reach the device{wanted} now ({said}): end what holds it, and run the same command again"
            ) from error
        raise SatjaxError(f"jax finds no device{wanted}; see `satjax doctor`, or set JAX_PLATFORMS=cpu") from error
    if VARIABLE in os.environ or on_cpu:
        return
    if jax.process_count() == 1:
        jax.config.update("jax_compilation_cache_dir", compilation_cache_dir(on_cpu=False))
    elif workdir is not None:
        jax.config.update("jax_compilation_cache_dir", str(workdir.absolute() / "compiled"))
