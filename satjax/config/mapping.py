"""Frozen dataclasses of settings made from nested mappings, with every key and type checked; and such mappings flat, by key."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from satjax.errors import SatjaxError, unknown_name

Config = TypeVar("Config")


def from_mapping(cls: type[Config], values: Mapping[str, Any], where: str = "config") -> Config:
    """Builds a config dataclass from nested mappings (a `ConfigDict`, or JSON), checking every key and type on the way."""
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise unknown_name("config key", f"{where}.{key}", (f"{where}.{name}" for name in hints))
    try:
        return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})
    except TypeError as error:
        raise SatjaxError(f"{where}: {error}") from error


def by_key(value: Any, name: str) -> dict[str, Any]:
    """Every setting within `value` by its key, as flags name it: `config.stages[0].steps`."""
    if isinstance(value, dict):
        return {key: found for part, entry in value.items() for key, found in by_key(entry, f"{name}.{part}").items()}
    if isinstance(value, list | tuple) and any(isinstance(entry, dict) for entry in value):
        return {key: found for i, entry in enumerate(value) for key, found in by_key(entry, f"{name}[{i}]").items()}
    return {name: value}


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping) and not hasattr(value, "items"):
            raise SatjaxError(f"{where} = {value!r}: a group of settings is expected")
        return from_mapping(typing.cast(type, hint), dict(value.items()), where)
    if origin is Literal:
        if value not in arguments:
            raise SatjaxError(f"{where} = {value!r}: choose one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise SatjaxError(f"{where} = {value!r}: a list is expected")
        if arguments[-1] is Ellipsis:
            return tuple(_convert(arguments[0], entry, f"{where}[{i}]") for i, entry in enumerate(value))
        entries = tuple(value)
        if len(entries) != len(arguments):
            raise SatjaxError(f"{where} = {value!r}: {len(arguments)} entries are expected")
        return tuple(_convert(arguments[i], entry, f"{where}[{i}]") for i, entry in enumerate(entries))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise SatjaxError(f"{where} = {value}: a finite number is expected")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise SatjaxError(f"{where} = {value!r}: {hint.__name__} is expected")
    return value
