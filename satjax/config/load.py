"""Loads a file of `configs/` with ml_collections flags and makes the frozen config of it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from satjax.config import TrainConfig
from satjax.config.mapping import by_key, from_mapping
from satjax.errors import SatjaxError, unknown_name


def load_config(path: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """The config of `path` (a Python file with `get_config()`), changed by `--config.a.b=value` flags.

    A flag may change every setting there is, whether the file names it or leaves it at its default.
    """
    file, _, _ = path.partition(":")
    if not Path(file).is_file():
        raise SatjaxError(
            f"--config {file}: there is no such file; configs/smoke.py and configs/smollm2.py lie in the checkout: name them by their path there"
        )
    for override in overrides:
        if not override.startswith("--config."):
            raise SatjaxError(
                f"unknown argument {override!r}; values of the config are changed by --config.a.b=value, and `satjax VERB --help` lists the flags"
            )
    try:
        written = _read(path)
    except Exception as error:  # the file is a program: it may fail in any way
        lines = str(error).strip().splitlines() or [
            "no reason given"
        ]  # ml_collections puts a traceback before the last
        raise SatjaxError(f"--config {path} cannot be loaded: {type(error).__name__}: {lines[-1]}") from error
    plain = dataclasses.asdict(from_mapping(TrainConfig, written.to_dict()))
    try:
        changed = _changed(ConfigDict(plain), overrides)
    except Exception as error:  # flags and values fail in several ways
        raise _explain(error, plain, overrides) from error
    return from_mapping(TrainConfig, changed.to_dict())


def _read(path: str) -> ConfigDict:
    values = flags.FlagValues()
    arguments = ["satjax train", f"--config={path}"]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    values(arguments)
    config = values["config"].value
    if not hasattr(config, "to_dict"):  # raises what went wrong where the file could not open something
        raise TypeError(f"get_config() returns {type(config).__name__}; let it return an ml_collections.ConfigDict")
    return config


def _changed(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    values = flags.FlagValues()
    arguments = ["satjax train", *overrides]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
    values(arguments)
    return values["config"].value


def _explain(error: Exception, config: dict[str, Any], overrides: Sequence[str]) -> SatjaxError:
    known = by_key(config, "config")
    for override in overrides:
        key, _, text = override.removeprefix("--").partition("=")
        if not any(
            name == key or name.startswith((f"{key}.", f"{key}[")) or key.startswith(f"{name}[") for name in known
        ):
            return unknown_name("config key", key, list(known))
        try:
            _changed(ConfigDict(config), [override])
        except Exception as alone:  # the one among several that cannot be taken
            if text and isinstance(known.get(key), bool | int | float):
                return SatjaxError(f"{override}: {text!r} is no value for it; give one such as {known[key]}")
            return SatjaxError(f"{override}: {' '.join(str(alone).split()).removeprefix(f'flag {override}: ')}")
    return SatjaxError(f"{' '.join(overrides)}: {' '.join(str(error).split())}")
