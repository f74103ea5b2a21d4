"""The journal: whatever stops the writer, complete replies stay, and nothing else is taken for one."""

import errno
import fcntl
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.assess.endpoint import Reply
from satjax.assess.journal import open_journal
from satjax.errors import SatjaxError, TryAgain

JOB = {"aptitude_test": "f", "request": {"model": "m"}}
ITEMS = ("a", "b", "more", *(f"item/{n}" for n in range(4)))
REPLY = Reply("two\nlines “…”", "stop", 3, 4)


def replies(journal) -> dict:
    """Those to the prompts of these tests, by item and rotation."""
    found = {(item, n): journal.reply(item, n, f"{item}?") for item in ITEMS for n in (0, 1)}
    return {key: reply for key, reply in found.items() if reply}


def written(path, count: int = 3):
    with open_journal(path, JOB) as journal:
        for n in range(count):
            journal.add(f"item/{n}", n % 2, f"item/{n}?", REPLY)
    return path


def test_replies_come_back(tmp_path):
    path = written(tmp_path / "new" / "j")
    with open_journal(path, JOB) as journal:
        assert replies(journal) == {("item/0", 0): REPLY, ("item/1", 1): REPLY, ("item/2", 0): REPLY}
        journal.add("item/3", 0, "item/3?", REPLY)
        assert len(path.read_bytes().splitlines()) == 5, "a reply is in the file when `add` returns"


@given(st.data())
def test_cut_anywhere_it_goes_on_with_the_whole_lines(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "cut"
    path.unlink(missing_ok=True)
    content = written(path).read_bytes()
    kept = content[: data.draw(st.integers(0, len(content)))]
    path.write_bytes(kept)
    whole = kept.count(b"\n")
    with open_journal(path, JOB) as journal:
        assert len(replies(journal)) == max(0, whole - 1)
        journal.add("more", 0, "more?", REPLY)
    with open_journal(path, JOB) as journal:
        assert len(replies(journal)) == max(0, whole - 1) + 1
        assert replies(journal)["more", 0] == REPLY


@given(st.text(max_size=30), st.text(st.characters(), max_size=60))
def test_any_text_survives(tmp_path_factory, item, text):
    path = tmp_path_factory.getbasetemp() / "text"
    path.unlink(missing_ok=True)
    with open_journal(path, JOB) as journal:
        journal.add(item, 0, text, Reply(text, "stop", 0, 0))
    with open_journal(path, JOB) as journal:
        assert journal.reply(item, 0, text).text == text


def test_another_job_does_not_go_on(tmp_path):
    path = written(tmp_path / "j")
    before = path.read_bytes()
    with (
        pytest.raises(SatjaxError, match=r"journal of another assessment \(model: 'm', now 'n'; seed: None, now 3\)"),
        open_journal(path, {**JOB, "request": {"model": "n", "seed": 3}}),
    ):
        pass
    with (
        pytest.raises(SatjaxError, match=r"another assessment \(another aptitude_test\); remove it, or name another"),
        open_journal(path, {**JOB, "aptitude_test": "g"}),
    ):
        pass
    assert path.read_bytes() == before


def test_what_a_lower_limit_cut_short_is_asked_for_again(tmp_path):
    cut, whole = Reply("so it is", "length", 3, 8), Reply("B", "stop", 3, 1)
    with open_journal(tmp_path / "j", JOB, 8) as journal:
        journal.add("a", 0, "a?", cut)
        journal.add("b", 0, "b?", whole)
    with open_journal(tmp_path / "j", JOB, 8) as journal:
        assert replies(journal) == {("a", 0): cut, ("b", 0): whole}
    with open_journal(tmp_path / "j", JOB, 16) as journal:
        assert replies(journal) == {("b", 0): whole}
        journal.add("a", 0, "a?", whole)
    for limit in (4, 16, 32):
        with open_journal(tmp_path / "j", JOB, limit) as journal:
            assert replies(journal) == {("a", 0): whole, ("b", 0): whole}


@pytest.mark.parametrize("left", [Reply("Let me th", "error", 3, 4), Reply("", "content_filter", 3, 0)])
def test_what_an_earlier_version_kept_although_it_is_not_whole_is_asked_for_again(tmp_path, left):
    filtered, whole = Reply("B", "content_filter", 3, 1), Reply("C", "stop", 3, 1)
    with open_journal(tmp_path / "j", JOB) as journal:
        journal.add("a", 0, "a?", left)
        journal.add("b", 0, "b?", filtered)
    with open_journal(tmp_path / "j", JOB) as journal:
        assert replies(journal) == {("b", 0): filtered}
        journal.add("a", 0, "a?", whole)
    with open_journal(tmp_path / "j", JOB) as journal:
        assert replies(journal) == {("a", 0): whole, ("b", 0): filtered}


def test_a_reply_to_another_text_of_the_item_is_none(tmp_path):
    with open_journal(tmp_path / "j", JOB) as journal:
        journal.add("a", 0, "a?", REPLY)
    with open_journal(tmp_path / "j", JOB) as journal:
        assert journal.reply("a", 0, " a?\n") == REPLY, "blanks are no other text"
        assert journal.reply("a", 0, "another?") is None
        assert journal.knows("a")
        assert not journal.knows("b")
        other = Reply("C", "stop", 3, 1)
        journal.add("a", 0, "another?", other)
    with open_journal(tmp_path / "j", JOB) as journal:
        assert journal.reply("a", 0, "another?") == other


def test_what_an_earlier_version_kept_without_its_prompt_is_taken_as_it_is(tmp_path):
    path = written(tmp_path / "j")
    head, *lines = path.read_bytes().splitlines()
    old = [{key: held for key, held in json.loads(line).items() if key != "prompt"} for line in lines]
    path.write_bytes(b"\n".join([head, *(json.dumps(line).encode() for line in old), b""]))
    with open_journal(path, JOB) as journal:
        assert journal.reply("item/0", 0, "whatever") == REPLY


def test_two_at_once_are_refused(tmp_path):
    with (
        open_journal(tmp_path / "j", JOB),
        pytest.raises(TryAgain, match="another process writes there"),
        open_journal(tmp_path / "j", JOB),
    ):
        pass


def test_a_file_system_without_locks_keeps_a_journal(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", none)
    path = written(tmp_path / "j")
    with open_journal(path, JOB) as journal:
        assert len(replies(journal)) == 3


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"[]",
        b"{}",
        json.dumps({"item": "a", "rotation": "x", "text": "", "finish": "", "tokens_in": 0, "tokens_out": 0}).encode(),
        b'{"item": "a", "rotation": 0, "text": "", "finish": "", "tokens_in": Infinity, "tokens_out": 0}',
    ],
)
def test_damage_before_the_end_is_named_by_its_line(tmp_path, line):
    path = written(tmp_path / "j")
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[2:], b""]))
    with pytest.raises(SatjaxError, match=r"line 3 is no") as raised, open_journal(path, JOB):
        pass
    assert "\n" not in str(raised.value)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "j"):
        with pytest.raises(SatjaxError, match="cannot be written"), open_journal(place, JOB):
            pass
