"""Writing whole or not at all, and saying so when the disk is full."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from satjax.errors import SatjaxError

UNWRITABLE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENAMETOOLONG,
)


@contextlib.contextmanager
def explain_full_disk(target: Path) -> Iterator[None]:
    """Turns "no space left", in whichever exception it comes, into one line for people."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
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
    """Turns "not a directory", "permission denied" and their like into one line for people."""
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
    """A temporary directory beside `target` that takes its place at the end, and is gone if anything fails before."""
    with explain_full_disk(target):
        with _explain_unwritable(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield fresh
            fresh.chmod(0o755)
            if target.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
                target.rename(old / target.name)
                fresh.rename(target)
                shutil.rmtree(old)
            else:
                fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


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
            fresh.chmod(0o644)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Writes a text file in one step: readers see the old one or the new one."""
    with replacing_file(target) as fresh:
        fresh.write_text(text, encoding="utf-8")
