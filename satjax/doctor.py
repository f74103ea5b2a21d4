"""`satjax doctor`: versions, devices and base weights, and what to do where something is amiss."""

import importlib.metadata
import platform
import sys

from rich.console import Console

from satjax.compilation_cache import compilation_cache_dir
from satjax.config import EncoderWeights, LLMConfig
from satjax.errors import SatjaxError
from satjax.weights.fetch import cache_dir, is_present

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


def doctor() -> int:
    """Prints what is there; 0 where training and ranking can start, 1 where something is to be mended first."""
    console, amiss, absent = Console(highlight=False, markup=False, emoji=False, soft_wrap=True), [], []
    console.print(f"python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        try:
            console.print(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            console.print(f"{name} is not installed", style="red")
            absent.append(name)
    if absent:  # with the versions that satjax needs, and the package itself is on no index
        amiss.append(f"install {', '.join(absent)}: {sys.executable} -m pip install . in the checkout")
    on_cpu = True
    try:
        import jax

        devices = jax.devices()
        on_cpu = devices[0].platform == "cpu"
        console.print(f"devices: {len(devices)} x {devices[0].device_kind} ({devices[0].platform})")
    except (ImportError, RuntimeError) as error:
        console.print(f"devices: none ({str(error).splitlines()[0]})", style="red")
        amiss.append("jax finds no device: check drivers, or set JAX_PLATFORMS=cpu")
    console.print(f"cache: {cache_dir()}")
    console.print(f"compiled programs: {compilation_cache_dir(on_cpu) or 'not kept'}")
    for part, source, reader in (
        ("LLM", LLMConfig().weights, "the first train or rank fetches it"),
        ("text encoder", EncoderWeights().weights, "bench, protocol and recipes that read profiles by it fetch it"),
    ):
        try:
            present = is_present(source)
        except SatjaxError as error:
            amiss.append(str(error))
            continue
        console.print(f"{part} {source}: {'present' if present else f'not here yet; {reader}'}")
    for line in amiss:
        console.print(f"to mend: {line}", style="red")
    return 1 if amiss else 0
