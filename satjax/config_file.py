"""Loads a file of `configs/` with ml_collections flags and makes the frozen config of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from satjax.config import TrainConfig, from_mapping
from satjax.errors import SatjaxError, unknown_name


def load_config(path: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """The config of `path` (a Python file with `get_config()`), changed by `--config.a.b=value` flags."""
    file, _, _ = path.partition(":")
    if not Path(file).is_file():
        raise SatjaxError(
            f"--config {file}: there is no such file; configs/smoke.py and configs/smollm2.py come with satjax"
        )
    for override in overrides:
        if not override.startswith("--config."):
            raise SatjaxError(
                f"unknown argument {override!r}; satjax train takes --config, --workdir and --config.a.b=value"
            )
    try:
        config = _parse(path, overrides)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, ImportError, SyntaxError) as error:
        raise _explain(error, file, overrides) from error
    return from_mapping(TrainConfig, config.to_dict())


def _parse(path: str, overrides: Sequence[str]) -> Any:
    arguments = ["satjax train", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    values(arguments)
    return values["config"].value


def _explain(error: Exception, file: str, overrides: Sequence[str]) -> SatjaxError:
    try:
        plain = _parse(file, ())
    except Exception as own:
        return SatjaxError(f"--config {file} cannot be loaded: {type(own).__name__}: {' '.join(str(own).split())}")
    known = _keys(plain, "config")
    for override in overrides:
        key = override.removeprefix("--").split("=")[0].split("[")[0]
        if not any(name == key or name.startswith(f"{key}.") for name in known):
            return unknown_name("config key", key, known)
    return SatjaxError(f"{' '.join(map(str, overrides))}: {' '.join(str(error).split())}")


def _keys(config: object, prefix: str) -> list[str]:
    if not hasattr(config, "items"):
        return [prefix]
    return [name for key, value in config.items() for name in _keys(value, f"{prefix}.{key}")]
