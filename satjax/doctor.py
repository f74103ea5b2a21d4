"""`satjax doctor`: versions, devices and base weights, and what to do where something is amiss."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from satjax.cache.compiled import compilation_cache_dir
from satjax.cache.folder import cache_dir
from satjax.config import EncoderWeights, LLMConfig
from satjax.errors import first_line, how_to_install
from satjax.render.console import open_console
from satjax.weights.fetch import is_present

PACKAGES = (
    "satjax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "transformers",
    "tensorflow-datasets",
    "ml-collections",
    "numpy",
)


class Finding(NamedTuple):
    """Lines to show, and what to do where they say that something is amiss."""

    lines: str
    mend: str | None = None


def doctor() -> int:
    """Prints what is there; 0 where training and ranking can start, 1 where something is to be mended first."""
    console = open_console(markup=False, emoji=False, soft_wrap=True)
    mends = []
    for check in CHECKS:
        for lines, mend in check():
            console.print(lines, style=None if mend is None else "red")
            mends += [] if mend is None else [mend]
    for mend in mends:
        console.print(f"to mend: {mend}", style="red")
    return 1 if mends else 0


def packages() -> Iterator[Finding]:
    """Python, and what satjax needs."""
    yield Finding(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    version = {name: _version(name) for name in PACKAGES}
    yield Finding("\n".join(f"{name} {found}" for name, found in version.items() if found))
    if absent := [name for name, found in version.items() if not found]:
        # With the versions that satjax needs, and the package itself is on no index.
        mend = f"install {', '.join(absent)}: {sys.executable} -m pip install -e . in the checkout"
        yield Finding("\n".join(f"{name} is not installed" for name in absent), mend)


def devices() -> Iterator[Finding]:
    """What jax computes on, and whether that keeps compiled programs."""
    on_cpu = True
    try:
        import jax

        found = jax.devices()
        on_cpu = found[0].platform == "cpu"
        yield Finding(f"devices: {len(found)} x {found[0].device_kind} ({found[0].platform})")
    except Exception as error:  # of jax, or of a plugin for a device: they have no exception in common
        mend = f"jax finds no device: check drivers, {how_to_install('cuda')} (or '.[tpu]'), or set JAX_PLATFORMS=cpu"
        yield Finding(f"devices: none ({first_line(error, 300)})", mend)
    yield Finding(f"compiled programs: {compilation_cache_dir(on_cpu) or 'not kept'}")


def weights() -> Iterator[Finding]:
    """Base weights, or whether there is a place for them; the LLM's are all that training and ranking need."""
    llm, encoder, cache = LLMConfig().weights, EncoderWeights().weights, cache_dir()
    mend = None
    if not is_present(llm) and not _can_be_written(cache):
        mend = f"the cache {cache} cannot be written: let SATJAX_CACHE name a directory that can"
    yield Finding(f"cache: {cache}", mend)
    for part, source, reader in (
        ("LLM", llm, "the first train or rank fetches it"),
        ("text encoder", encoder, "bench, protocol and recipes that read profiles by it fetch it"),
    ):
        yield Finding(f"{part} {source}: {'present' if is_present(source) else f'not here yet; {reader}'}")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (packages, devices, weights)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _can_be_written(directory: Path) -> bool:
    """Whether files can be made there, or the directory itself."""
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
