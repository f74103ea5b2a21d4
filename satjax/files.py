"""Writing whole or not at all, under any name, always the same for the same, and saying so when the disk is full."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from satjax.errors import SatjaxError, TryAgain

UNWRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENAMETOOLONG,
    errno.EBUSY,
)
FULL = (errno.ENOSPC, errno.EDQUOT)
TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""Why a directory is not renamed to a name: something is there."""
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""Why a file is not locked: its file system has no locks, as some of clusters."""
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How `gs://bucket` begins, of which pathlib drops a slash."""
LONGEST_NAME = 100
"""Bytes of a name in that of a file: file systems take 255 with all that goes before and after."""
AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux's <fcntl.h> and <linux/fs.h>."""


def _umask() -> int:
    """What this process denies others, which is read by setting it: at import, while there is one thread."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


DIRECTORY_MODE, FILE_MODE = 0o777 & ~_umask(), 0o666 & ~_umask()
"""Of what is made under a temporary name, which only its owner may read until it has its own."""


def local_path(place: str | Path) -> Path:
    """The path of what is to be written. Raises SatjaxError for a URL: a folder `gs:` would be made here, and nobody would find it in the bucket."""
    if URL.match(str(place)):
        raise SatjaxError(
            f"{place} is a URL, and satjax reads and writes files: name a path, for a bucket one under its mount (docs/pod.md)"
        )
    return Path(place)


@contextlib.contextmanager
def explain_full_disk(target: Path) -> Iterator[None]:
    """Turns "no space left", in whichever exception it comes, into one line for people."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in FULL
        if full or "No space left" in str(error) or "ENOSPC" in str(error):
            raise SatjaxError(
                f"no disk space left while saving {target}; what was saved before is intact: free some space and run the same command"
            ) from error
        raise


def check_space(directory: Path, size: int) -> None:
    """Raises OSError where fewer than `size` bytes are free: a writer with threads fails badly in the middle."""
    if shutil.disk_usage(directory).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


@contextlib.contextmanager
def _explain_unwritable(target: Path) -> Iterator[None]:
    """Turns "not a directory", "permission denied" and their like into one line for people, and lets no URL pass."""
    local_path(target)
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise SatjaxError(
            f"{target} cannot be written ({error.strerror}); name a place where files can be made"
        ) from error


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary directory beside `target` that takes its place at the end, and is gone if anything fails before.

    On Linux it does so in one step: readers, and whoever comes after a crash, find the old one or the new one.
    Raises SatjaxError before it yields where no directory can be made there, or `target` is a mount point, which nothing can replace.
    """
    with _explain_unwritable(target):
        target = _with_its_name(target)
    if os.path.ismount(target):
        raise SatjaxError(f"{target} is a mount point, which cannot be replaced; name a directory inside it")
    is_here = _is_here(target)
    with explain_full_disk(target):
        with _explain_unwritable(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield fresh
            fresh.chmod(DIRECTORY_MODE)
            with _explain_unwritable(target):
                _put(fresh, target)
            if is_here:  # relative names are to mean the new directory, not the one that goes
                os.chdir(target)
        finally:
            if fresh.is_dir() and not fresh.is_symlink():
                shutil.rmtree(fresh, ignore_errors=True)
            else:
                fresh.unlink(missing_ok=True)


def _with_its_name(target: Path) -> Path:
    """The absolute path through no link and no "..", with the name that it has in its directory, be it that of a link."""
    return target.resolve() if target.name in ("", "..") else target.parent.resolve() / target.name


def _is_here(target: Path) -> bool:
    """Whether it is the directory that this process is in, and no link to it."""
    try:
        return os.path.samestat(target.lstat(), Path().stat())
    except OSError:
        return False


def _put(fresh: Path, target: Path) -> None:
    """Renames a directory to `target`; what was there, if anything, is at `fresh` then, or gone."""
    try:
        fresh.rename(target)
    except OSError as error:
        if error.errno not in TAKEN:
            raise
        if not _exchange(fresh, target):
            _replace_in_steps(fresh, target)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps what two names stand for, in one step; False where this system or its file system does not."""
    if sys.platform != "linux" or not hasattr(libc := ctypes.CDLL(None), "renameat2"):
        return False
    return libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0


def _replace_in_steps(fresh: Path, target: Path) -> None:
    """As `_put` where something is there: it comes back if its successor cannot be put in place.

    Raises SatjaxError that says where it is if it cannot come back either.
    """
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent)) / target.name
    try:
        target.rename(old)
        fresh.rename(target)
    except BaseException as error:
        if os.path.lexists(old) and not os.path.lexists(target):
            try:
                old.rename(target)
            except OSError:
                raise SatjaxError(
                    f"{target} could not be replaced ({error}); what was there is {old}: move it back"
                ) from error
        raise
    finally:
        if os.path.lexists(target) or not os.path.lexists(old):
            shutil.rmtree(old.parent, ignore_errors=True)


@contextlib.contextmanager
def locked(target: Path, wait: bool = True) -> Iterator[None]:
    """Holds the right to change what is at `target`, after whoever holds it: of all processes that ask for it, one at a time.

    The lock is a hidden file beside `target`, which its holder removes: who waited for a removed one asks again. Raises BlockingIOError where
    another holds it, unless to `wait`.
    """
    with _explain_unwritable(target):
        target = _with_its_name(target)
        path = target.parent / f".{target.name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open_locked(path, wait)
    with stream:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(path: Path, place: Path, *, busy: str, advice: str, mode: str = "ab") -> Iterator[IO[bytes]]:
    """The file at this path, made where it is absent, that no other process has while within.

    Raises TryAgain that says `busy` where one has it; SatjaxError that `place` cannot be written, and `advice`, where the file cannot be made.
    """
    local_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open_locked(path, wait=False, mode=mode)
    except BlockingIOError as error:
        raise TryAgain(busy) from error
    except OSError as error:
        if error.errno in FULL:  # which `explain_full_disk` tells better
            raise
        raise SatjaxError(f"{place} cannot be written ({error.strerror}); {advice}") from error
    with stream:
        yield stream


def open_locked(path: Path, wait: bool = True, mode: str = "ab") -> IO[bytes]:
    """The file at this path, made where it is absent, opened and locked (`lock`): one that its last holder removed meanwhile is opened anew."""
    while True:
        stream = path.open(mode)
        try:
            lock(stream, wait)
        except OSError:
            stream.close()
            raise
        if _is_at(stream, path):
            return stream
        stream.close()


def lock(stream: IO[bytes], wait: bool = True) -> bool:
    """Locks the file until it is closed; returns False, with nothing locked, on a file system without locks.

    Raises BlockingIOError where another holds it, unless to `wait`.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        return False
    return True


def _is_at(stream: IO[bytes], path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def replacing_file(target: Path) -> Iterator[Path]:
    """A temporary file beside `target` that takes its place at the end, in one step, and is gone if anything fails before."""
    with explain_full_disk(target), _explain_unwritable(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
        os.close(handle)
        fresh = Path(name)
        try:
            yield fresh
            fresh.chmod(FILE_MODE)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Writes a text file in one step: readers see the old one or the new one."""
    with replacing_file(target) as fresh:
        fresh.write_text(text, encoding="utf-8")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys: the same text for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1)


def safe_name(name: str) -> str:
    """What a file or folder of any name may be called: unsafe characters replaced and long names cut, a digest keeping such names apart."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).lstrip(".")
    safe = safe.encode()[:LONGEST_NAME].decode(errors="ignore")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
