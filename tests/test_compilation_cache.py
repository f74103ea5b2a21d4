import jax
import pytest

from satjax.compilation_cache import VARIABLE, compilation_cache_dir, use_compilation_cache


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
