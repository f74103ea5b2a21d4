"""Where compiled programs are kept, so that a run that starts again does not compile again."""

import os
from pathlib import Path

from satjax.weights.fetch import cache_dir

VARIABLE = "JAX_COMPILATION_CACHE_DIR"


def compilation_cache_dir(on_cpu: bool) -> str:
    """JAX's own variable where it is set, else a folder of satjax's cache, or, `on_cpu`, none; empty: nothing is kept."""
    return os.environ.get(VARIABLE, "" if on_cpu else str(cache_dir() / "compiled"))


def use_compilation_cache(workdir: Path | None = None) -> None:
    """Turns the cache on, for accelerators; starts JAX's backend.

    In a run of several processes JAX lets the first one write for all, so it lies in the `workdir`, which all of them see; without
    one it stays off there. What XLA compiles
    for a CPU fits that very processor: in a home directory that different machines share it could crash one of them, so there only the variable
    turns it on.
    """
    import jax

    if VARIABLE in os.environ or jax.default_backend() == "cpu":
        return
    if jax.process_count() == 1:
        jax.config.update("jax_compilation_cache_dir", compilation_cache_dir(on_cpu=False))
    elif workdir is not None:
        jax.config.update("jax_compilation_cache_dir", str(workdir.absolute() / "compiled"))
