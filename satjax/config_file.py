"""Loads a file of `configs/` with ml_collections flags and makes the frozen config of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

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
    except Exception as error:  # the file is a program: it may fail in any way
        raise _explain(error, path, overrides) from error
    return from_mapping(TrainConfig, config.to_dict())


def _parse(path: str, overrides: Sequence[str]) -> ConfigDict:
    arguments = ["satjax train", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    values(arguments)
    config = values["config"].value
    if not hasattr(config, "to_dict"):  # raises what went wrong where the file could not open something
        raise TypeError(f"get_config() returns {type(config).__name__}; let it return an ml_collections.ConfigDict")
    return config


def _explain(error: Exception, path: str, overrides: Sequence[str]) -> SatjaxError:
    try:
        plain = _parse(path, ())
    except Exception as own:
        lines = str(own).strip().splitlines() or ["no reason given"]  # ml_collections puts a traceback before the last
        return SatjaxError(f"--config {path} cannot be loaded: {type(own).__name__}: {lines[-1]}")
    known = _keys(plain, "config")
    for override in overrides:
        key = override.removeprefix("--").split("=")[0]
        if not any(
            name == key or name.startswith((f"{key}.", f"{key}[")) or key.startswith(f"{name}[") for name in known
        ):
            return unknown_name("config key", key, known)
    return SatjaxError(f"{' '.join(overrides)}: {' '.join(str(error).split())}")


def _keys(value: Any, name: str) -> list[str]:
    if isinstance(value, ConfigDict | dict):
        return [found for key, entry in value.items() for found in _keys(entry, f"{name}.{key}")]
    if isinstance(value, list | tuple) and any(isinstance(entry, ConfigDict | dict) for entry in value):
        return [found for i, entry in enumerate(value) for found in _keys(entry, f"{name}[{i}]")]
    return [name]
