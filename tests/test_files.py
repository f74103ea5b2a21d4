"""Whole or not at all, whatever fails in the middle."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from satjax import files
from satjax.cache.folder import cache_dir
from satjax.errors import SatjaxError, TryAgain
from satjax.files import (
    canonical_json,
    check_space,
    exclusive,
    explain_full_disk,
    local_path,
    lock,
    locked,
    replacing,
    write_text,
)


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_directory_takes_its_place_at_the_end_only(tmp_path):
    target = tmp_path / "deep" / "target"
    with replacing(target) as fresh:
        (fresh / "a").write_text("1")
        assert not target.exists()
    assert names(target) == {"a"}
    with replacing(target) as fresh:
        (fresh / "b").write_text("2")
        assert names(target) == {"a"}
    assert names(target) == {"b"}
    assert names(target.parent) == {"target"}
    assert target.stat().st_mode & 0o777 == 0o755


UNDER_A_MASK = """
import os, pathlib, sys
os.umask(0o027)
from satjax import files
home = pathlib.Path(sys.argv[1])
with files.replacing(home / "directory") as fresh:
    pass
files.write_text(home / "file", "")
print(*(oct((home / name).stat().st_mode & 0o777) for name in ("directory", "file")))
"""


def test_what_is_made_is_as_open_as_the_umask_says(tmp_path):
    said = subprocess.run(
        [sys.executable, "-c", UNDER_A_MASK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["0o750", "0o640"]


def put(target: Path, name: str) -> None:
    with replacing(target) as fresh:
        (fresh / name).write_text(name)


@pytest.fixture
def no_exchange(monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)


DYING = """
import os, pathlib, shutil, signal, sys
from satjax import files
def die_after(module, name):
    function = getattr(module, name)
    def dying(*arguments, **named):
        result = function(*arguments, **named)
        if result is not False:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(module, name, dying)
die_after(pathlib.Path, "rename")
die_after(files, "_exchange")
with files.replacing(pathlib.Path(sys.argv[1])) as fresh:
    (fresh / "new").write_text("")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the swap is Linux's")
def test_a_process_that_is_killed_at_any_rename_leaves_the_old_or_the_new(tmp_path):
    for there in (False, True):
        target = tmp_path / str(there)
        if there:
            put(target, "old")
        killed = subprocess.run([sys.executable, "-c", DYING, str(target)], check=False)
        assert killed.returncode == -9
        assert names(target) == {"new"}


@pytest.mark.skipif(sys.platform != "linux", reason="the swap is Linux's")
def test_writers_and_readers_at_once(tmp_path):
    target, absent, stop = tmp_path / "target", [], threading.Event()
    put(target, "first")
    failed: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for _ in range(50):
                put(target, name)
        except BaseException as error:
            failed.append(error)

    def read() -> None:
        while not stop.is_set():
            absent.extend([] if target.exists() else [1])

    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert (failed, absent) == ([], [])
    assert names(target) in ({"a"}, {"b"})
    assert names(tmp_path) == {"target"}


def test_two_who_find_nothing_there_both_write(tmp_path):
    target = tmp_path / "target"
    with replacing(target) as fresh:
        (fresh / "a").write_text("")
        put(target, "b")
    assert names(target) == {"a"}
    assert names(tmp_path) == {"target"}


@pytest.mark.parametrize("swap", [True, False])
def test_a_file_or_a_link_gives_way_too(tmp_path, swap, request):
    if not swap:
        request.getfixturevalue("no_exchange")
    put(tmp_path / "linked", "kept")
    (tmp_path / "link").symlink_to("linked")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        put(tmp_path / name, "a")
        assert names(tmp_path / name) == {"a"}
    assert names(tmp_path / "linked") == {"kept"}
    assert names(tmp_path) == {"file", "link", "linked"}


def test_without_a_swap_the_old_one_comes_back_if_its_successor_fails(tmp_path, no_exchange, monkeypatch):
    target, rename, failing = tmp_path / "target", Path.rename, []
    put(target, "a")
    put(target, "b")
    assert names(target) == {"b"}
    assert names(tmp_path) == {"target"}

    def fails(path: Path, to: Path) -> Path:
        if to == target and target.exists() is False and len(failing) < most:
            failing.append(path)
            raise OSError(errno.EIO, "broken disk")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", fails)
    most = 1
    with pytest.raises(OSError, match="broken disk"):
        put(target, "c")
    assert names(target) == {"b"}
    assert names(tmp_path) == {"target"}
    most = 3
    with pytest.raises(SatjaxError, match=r"target could not be replaced .*what was there is .*/target: move it back"):
        put(target, "c")
    [old] = tmp_path.iterdir()
    assert names(old / "target") == {"b"}


@pytest.mark.parametrize("name", [".", "../here", "inner/.."])
@pytest.mark.parametrize("swap", [True, False])
def test_the_directory_one_is_in_gives_way_and_one_is_in_its_successor(tmp_path, name, swap, monkeypatch, request):
    if not swap:
        request.getfixturevalue("no_exchange")
    here = tmp_path / "here"
    (here / "inner").mkdir(parents=True)
    monkeypatch.chdir(here)
    put(Path(name), "a")
    assert names(here) == names(Path()) == {"a"}
    assert names(tmp_path) == {"here"}


def test_a_link_to_the_directory_one_is_in_gives_way_alone(tmp_path, monkeypatch):
    put(tmp_path / "here", "kept")
    (tmp_path / "link").symlink_to("here")
    monkeypatch.chdir(tmp_path / "here")
    put(Path("../link"), "a")
    assert (names(tmp_path / "link"), names(Path())) == ({"a"}, {"kept"})


def test_a_mount_point_is_named_before_the_work(tmp_path, monkeypatch):
    begun = []
    for target in (Path("/"), Path("/proc")):
        with pytest.raises(SatjaxError, match=rf"{target} is a mount point.*name a directory inside it"):  # noqa: SIM117
            with replacing(target):
                begun.append(target)
    monkeypatch.chdir("/proc")
    with pytest.raises(SatjaxError, match="/proc is a mount point"), replacing(Path()):
        begun.append(".")
    assert begun == []


def test_a_mount_that_shows_at_the_end_only_is_one_line(tmp_path, monkeypatch):
    def busy(*_):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(Path, "rename", busy)  # as of a directory bound to another of its own file system
    with pytest.raises(SatjaxError, match=r"target cannot be written \(.+\); name a place"):
        put(tmp_path / "target", "a")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_where_there_are_no_locks_nobody_is_kept_out(tmp_path, monkeypatch, code):
    def none(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "target"), locked(tmp_path / "target"):
        assert names(tmp_path) == {".target.lock"}
    assert names(tmp_path) == set()


def test_a_lock_that_is_held_is_waited_for_or_not(tmp_path, monkeypatch):
    with (tmp_path / "file").open("ab") as first, (tmp_path / "file").open("ab") as second:
        lock(first)
        with pytest.raises(BlockingIOError):
            lock(second, wait=False)
        first.close()
        lock(second, wait=False)

    def broken(*_):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="broken disk"), locked(tmp_path / "target"):
        pass


def test_locks_of_one_place_are_one_however_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "target").mkdir()
    monkeypatch.chdir(tmp_path / "target")
    with locked(Path()):
        assert names(tmp_path) == {"target", ".target.lock"}
        assert names(Path()) == set()


def test_a_lock_is_held_by_one_at_a_time_and_leaves_nothing(tmp_path):
    target, held, most = tmp_path / "deep" / "target", [], []

    def hold() -> None:
        for _ in range(40):
            with locked(target):
                held.append(1)
                most.append(len(held))
                held.pop()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 160
    assert names(target.parent) == set()


def test_a_lock_that_a_killed_process_left_is_taken(tmp_path):
    (tmp_path / ".target.lock").write_text("")
    with locked(tmp_path / "target"):
        assert names(tmp_path) == {".target.lock"}
    assert names(tmp_path) == set()
    (tmp_path / "file").write_text("")
    with pytest.raises(SatjaxError, match="cannot be written"), locked(tmp_path / "file" / "target"):
        pass


@pytest.mark.parametrize("failure", [ValueError("a bug"), KeyboardInterrupt(), SatjaxError("a mistake")])
def test_a_failure_leaves_what_was_there(tmp_path, failure):
    target = tmp_path / "target"
    with replacing(target) as fresh:
        (fresh / "a").write_text("1")

    def failing() -> None:
        with replacing(target) as fresh:
            (fresh / "b").write_text("2")
            raise failure

    with pytest.raises(type(failure)):
        failing()
    assert names(tmp_path) == {"target"}
    assert names(target) == {"a"}


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    with (
        pytest.raises(SatjaxError, match=r"no disk space left while saving .*new.*free some space"),
        replacing(tmp_path / "new"),
    ):
        full_disk()
    monkeypatch.setattr(Path, "replace", full_disk)
    (tmp_path / "text").write_text("before")
    with pytest.raises(SatjaxError, match="no disk space left while saving"):
        write_text(tmp_path / "text", "after")
    assert names(tmp_path) == {"text"}
    assert (tmp_path / "text").read_text() == "before"


@pytest.mark.parametrize("message", ["RESOURCE_EXHAUSTED: No space left on device", "[ENOSPC] in a thread"])
def test_a_full_disk_is_known_by_what_libraries_say_too(message):
    with pytest.raises(SatjaxError, match="no disk space left"), explain_full_disk(Path("x")):
        raise RuntimeError(message)


def test_other_failures_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"^something else$"), explain_full_disk(Path("x")):
        raise RuntimeError("something else")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SatjaxError, match=r"file/target cannot be written \(.+\); name a place"),
        replacing(tmp_path / "file" / "target"),
    ):
        pass
    with pytest.raises(SatjaxError, match=r"cannot be written"):
        write_text(tmp_path / "file" / "text", "x")


@pytest.mark.parametrize("url", ["gs://bucket/run", "s3://bucket", "file:///tmp/run", Path("gs://bucket/run")], ids=str)
def test_a_url_is_no_place_to_write_to(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SATJAX_CACHE", str(url))
    for write in (
        cache_dir,
        lambda: write_text(Path(url), "x"),
        lambda: replacing(Path(url)).__enter__(),
        lambda: locked(Path(url)).__enter__(),
        lambda: exclusive(Path(url) / ".lock", Path(url), busy="", advice="").__enter__(),
    ):
        with pytest.raises(SatjaxError, match=r":/.* is a URL, and satjax reads and writes files"):
            write()
    assert not names(tmp_path)


@pytest.mark.parametrize("place", ["run", "/run", "run:1", "a/gs:/b", "c:/run"])
def test_a_path_is_a_place_to_write_to(place):
    assert local_path(place) == Path(place)


def test_text_is_replaced_in_one_step(tmp_path):
    write_text(tmp_path / "a" / "text", "äß")
    write_text(tmp_path / "a" / "text", "new")
    assert (tmp_path / "a" / "text").read_text(encoding="utf-8") == "new"
    assert names(tmp_path / "a") == {"text"}


def test_space_is_checked_before_threads_write(tmp_path):
    check_space(tmp_path, 1)
    with pytest.raises(OSError, match="No space left"):
        check_space(tmp_path, 2**62)


def test_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": [2]}) == canonical_json({"a": [2], "b": 1})


def test_a_file_that_one_process_has_is_refused_to_others_and_given_after_it(tmp_path):
    path = tmp_path / "a" / "lock"
    with exclusive(path, path, busy="taken", advice="go elsewhere", mode="ab+") as stream:
        stream.write(b"mine")
        with pytest.raises(TryAgain, match="taken"), exclusive(path, path, busy="taken", advice="go elsewhere"):
            pass
    with exclusive(path, path, busy="taken", advice="go elsewhere", mode="ab+") as stream:
        stream.seek(0)
        assert stream.read() == b"mine"
    line = rf"^{tmp_path} cannot be written \(.+\); go elsewhere$"
    with pytest.raises(SatjaxError, match=line), exclusive(path / "b", tmp_path, busy="", advice="go elsewhere"):
        pass


def test_a_full_disk_is_no_place_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "open", full_disk)
    line = f"^no disk space left while saving {tmp_path}"
    with (
        pytest.raises(SatjaxError, match=line),
        explain_full_disk(tmp_path),
        exclusive(tmp_path / "lock", tmp_path, busy="", advice=""),
    ):
        pass
