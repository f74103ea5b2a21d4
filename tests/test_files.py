"""Whole or not at all, whatever fails in the middle."""

import errno
import os
from pathlib import Path

import pytest

from satjax.errors import SatjaxError
from satjax.files import check_space, explain_full_disk, replacing, write_text


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


def test_text_is_replaced_in_one_step(tmp_path):
    write_text(tmp_path / "a" / "text", "äß")
    write_text(tmp_path / "a" / "text", "new")
    assert (tmp_path / "a" / "text").read_text(encoding="utf-8") == "new"
    assert names(tmp_path / "a") == {"text"}


def test_space_is_checked_before_threads_write(tmp_path):
    check_space(tmp_path, 1)
    with pytest.raises(OSError, match="No space left"):
        check_space(tmp_path, 2**62)
