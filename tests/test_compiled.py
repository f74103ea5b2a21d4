import importlib.metadata
import os
import subprocess
import sys

import jax
import pytest

from satjax.cache.compiled import VARIABLE, compilation_cache_dir, use_compilation_cache
from satjax.errors import SatjaxError, TryAgain


@pytest.fixture
def updates(monkeypatch, tmp_path):
    """Changes to JAX's configuration, which are not made; the cache is `tmp_path`."""
    made = {}
    monkeypatch.setattr(jax.config, "update", made.__setitem__)
    monkeypatch.setenv("SATJAX_CACHE", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return made


def test_accelerators_keep_programs_in_the_cache(updates, monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    use_compilation_cache(tmp_path / "run")
    assert updates == {"jax_compilation_cache_dir": str(tmp_path / "compiled")}
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    use_compilation_cache(tmp_path / "run")
    assert updates == {"jax_compilation_cache_dir": str(tmp_path / "run" / "compiled")}
    updates.clear()
    use_compilation_cache()
    assert not updates, "of several processes, none is told where all can read"
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    use_compilation_cache()
    assert updates == {"jax_compilation_cache_dir": str(tmp_path / "compiled")}
    assert not any(tmp_path.iterdir())


def test_a_cpu_keeps_none(updates, tmp_path):
    use_compilation_cache(tmp_path)
    assert not updates


@pytest.mark.parametrize("directory", ["gs://bucket/compiled", ""])
def test_the_variable_has_the_last_word(updates, monkeypatch, tmp_path, directory):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv(VARIABLE, directory)
    use_compilation_cache(tmp_path)
    assert compilation_cache_dir(on_cpu=True) == compilation_cache_dir(on_cpu=False) == directory
    assert not updates


@pytest.mark.parametrize(
    "error",
    [
        AssertionError(),
        RuntimeError("Unable to initialize backend 'cuda': no driver"),
        RuntimeError("Unable to initialize backend 'cuda': INTERNAL: no supported devices found for platform CUDA"),
        RuntimeError("Unable to initialize backend 'tpu': UNAVAILABLE: No TPU Platform available."),
    ],
)
def test_no_device_is_the_users_to_mend_even_where_the_variable_says_where_to(updates, monkeypatch, error):
    def default_backend():
        raise error

    monkeypatch.setattr(jax, "default_backend", default_backend)
    monkeypatch.setenv(VARIABLE, "mine")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(SatjaxError, match=r"^jax finds no device for JAX_PLATFORMS=cuda; see `satjax doctor`, or set"):
        use_compilation_cache()


@pytest.mark.parametrize(
    "said",
    [
        "UNAVAILABLE: TPU initialization failed: open(/dev/vfio/0): Device or resource busy",
        "ABORTED: The TPU is already in use by process with pid 7.",
        "DEADLINE_EXCEEDED: Barrier timed out",
    ],
)
def test_a_device_that_does_not_answer_yet_is_tried_again(updates, monkeypatch, said):
    def default_backend():
        raise RuntimeError(f"Unable to initialize backend 'tpu': {said}\n(set JAX_PLATFORMS='')")

    monkeypatch.setattr(jax, "default_backend", default_backend)
    with pytest.raises(TryAgain, match=r"^jax does not reach the device.* now \(Unable to init") as raised:
        use_compilation_cache()
    assert raised.value.exit_code == 75
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


DOCTOR_AND_VERB = """
import sys
from satjax.cli import main
from satjax.cache.compiled import use_compilation_cache
print(main(["doctor"]))
sys.stdout.flush()
use_compilation_cache()
"""


@pytest.mark.skipif(
    bool(importlib.metadata.entry_points(group="jax_plugins")), reason="a plugin drives some device here"
)
def test_a_platform_without_its_plugin_is_said_in_one_line():
    """As with the jax for CPUs on a machine whose environment asks for its GPU."""
    ended = subprocess.run(
        [sys.executable, "-c", DOCTOR_AND_VERB],
        env={**os.environ, "JAX_PLATFORMS": "cuda"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.endswith("\n1\n")
    assert "to mend: jax finds no device: " in ended.stdout
    assert "SatjaxError: jax finds no device for JAX_PLATFORMS=cuda; see `satjax doctor`" in ended.stderr
