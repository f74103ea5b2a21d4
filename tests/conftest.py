"""What the tests share: where real data lies, and that nothing skips silently in CI."""

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

from tests.xla import EIGHT_DEVICES, QUICK_CODE

# What a shell runs in the background ignores Ctrl-C, and so would all that the tests start, and send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before anything imports jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {EIGHT_DEVICES} {QUICK_CODE}"
# Workers, and the processes that tests start, inherit the environment: each program is compiled once for all of them.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="satjax-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# A busy machine is no counterexample.
settings.register_profile("satjax", deadline=None)
settings.load_profile("satjax")

# Shapes in our own signatures are checked under test.
install_import_hook(["satjax.training.losses", "satjax.models", "satjax.metrics"], "beartype.beartype")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def need(present: bool, reason: str) -> None:
    """Skips with `reason` where something optional is absent; in CI, where all of it is present, fails instead."""
    if not present:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real outcomes beside the checkout."""
    need(SHARED_DATA.is_dir(), f"real outcomes are not here ({SHARED_DATA.name}/ beside the checkout)")
    return SHARED_DATA


@pytest.fixture(scope="session", autouse=True)
def _vectors_apart(tmp_path_factory):
    """What other versions of the code made of the tests' texts is not found again."""
    directory = tmp_path_factory.mktemp("vectors")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SATJAX_FEATURES", raising=False)
        patch.setattr("satjax.features.reader.cache_dir", lambda: directory)
        patch.setattr("satjax.evaluation.embed.cache_dir", lambda: directory)
        patch.setattr("satjax.evaluation.baselines.llm_text.cache_dir", lambda: directory)
        yield


@pytest.fixture(scope="session", autouse=True)
def _exact():
    """The tests' figures are the same on a CPU that multiplies bfloat16; those of narrow kernels ask for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("satjax.assembly.cpu_multiplies_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="session")
def torch():
    """PyTorch, the reference of the parity tests."""
    try:
        import torch
    except ImportError:
        need(False, "torch is not installed: pip install -e '.[parity]' in the checkout")
    return torch


from tests.families import recipe  # noqa: F401
from tests.ranked_files import ranker, small_chunks  # noqa: F401
from tests.trained import trained  # noqa: F401
from tests.wheels import index  # noqa: F401
