"""Which files hold the weights of a directory, and the sha256 of all that decides what its model computes."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from satjax.cache.folder import cache_dir
from satjax.errors import SatjaxError
from satjax.files import write_text
from satjax.weights.safetensors_dir import shards

COUNTED = ("config.json", "tokenizer.json", "1_Pooling/config.json")


def weight_files(directory: Path) -> list[Path]:
    """The files of a directory that hold the weights: its one GGUF file, or else its safetensors shards.

    Raises SatjaxError where there are none, several GGUF files, or shards missing.
    """
    files = sorted(directory.glob("*.gguf"))
    if len(files) > 1:
        raise SatjaxError(f"base weights {directory}: {len(files)} GGUF files; keep the one that is meant")
    files = files or shards(directory)
    if not files:
        raise SatjaxError(
            f"base weights {directory}: there is no *.safetensors and no *.gguf file in it; copy or download them there"
        )
    if lost := next((file for file in files if not file.is_file()), None):
        raise SatjaxError(f"base weights {directory}: {lost.name} is a link to nothing; copy what it stood for (cp -L)")
    return files


def model_sha256(directory: Path) -> str:
    """Digest of a directory's weight files and, where there are any, of the files beside them that count too."""
    weights, beside = weights_sha256(directory), _beside(directory)
    listed = "".join(f"{name}:{file_sha256(directory / name)}\n" for name in beside)
    return hashlib.sha256(f"weights:{weights}\n{listed}".encode()).hexdigest() if beside else weights


def _beside(directory: Path) -> list[str]:
    """Names of the files other than weights that decide what a model computes; a GGUF file holds its own config and tokenizer."""
    if weight_files(directory)[0].suffix == ".gguf":
        return []
    return [name for name in COUNTED if (directory / name).is_file()]


def weights_sha256(directory: Path) -> str:
    """Digest of a directory's weight files; remembered in the cache and computed again when a file was touched since."""
    files = weight_files(directory)
    stamps = {file.name: _stamp(file.stat()) for file in files}
    memory = cache_dir() / "digests" / f"{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:24]}.json"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        if known["stamps"] == stamps:
            return known["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    digests = {file.name: file_sha256(file) for file in files}
    listed = "".join(f"{name}:{digest}\n" for name, digest in sorted(digests.items()))
    digest = digests[files[0].name] if len(files) == 1 else hashlib.sha256(listed.encode()).hexdigest()
    with contextlib.suppress(OSError, SatjaxError):  # a cache that is full or read-only costs time only
        write_text(memory, json.dumps({"stamps": stamps, "sha256": digest}))
    return digest


def _stamp(stat: os.stat_result) -> list[int]:
    """Differs when a file was written or replaced, even where its time was set back: that of its inode cannot be."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def file_sha256(file: Path) -> str:
    """Of one file of base weights. Raises SatjaxError where it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SatjaxError(
            f"base weights: {file} cannot be read ({error.strerror}); copy or download it again"
        ) from error
