"""The journal of an assessment: every reply is on disk before the next question counts as asked, so that nothing is paid for twice."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from satjax.aptitude.core_tasks import text_sha256
from satjax.assess.endpoint import Reply
from satjax.errors import SatjaxError
from satjax.files import exclusive, explain_full_disk

VERSION = 2
UNLIMITED = 2**62


@dataclass(frozen=True)
class Kept:
    """A reply, and which prompt it is one to (`text_sha256`): None in the lines of earlier versions, which did not say so."""

    reply: Reply
    prompt: str | None


class Journal:
    """Replies by item and rotation; made by `open_journal`."""

    def __init__(self, stream: IO[bytes], kept: dict[tuple[str, int], Kept], most_tokens: int):
        self._stream, self._kept, self._most_tokens = stream, kept, most_tokens

    def reply(self, item_id: str, rotation: int, prompt: str) -> Reply | None:
        """The reply to this prompt, or None where there is none, or one to another text of the item only."""
        kept = self._kept.get((item_id, rotation))
        return kept.reply if kept and kept.prompt in (None, text_sha256(prompt)) else None

    def knows(self, item_id: str) -> bool:
        """Whether there is a reply to any text of an item, in its first rotation."""
        return (item_id, 0) in self._kept

    def add(self, item_id: str, rotation: int, prompt: str, reply: Reply) -> None:
        """Keeps a reply to a prompt, in place of one to another text of the item; it is on disk when this returns."""
        kept = self._kept[item_id, rotation] = Kept(reply, text_sha256(prompt))
        entry = {"item": item_id, "rotation": rotation, "prompt": kept.prompt, "most_tokens": self._most_tokens}
        _append(self._stream, {**entry, **asdict(reply)})


@contextlib.contextmanager
def open_journal(path: Path, job: Mapping[str, Any], most_tokens: int = UNLIMITED) -> Iterator[Journal]:
    """A JSON-lines file, `job` first, then a reply a line; made where it is absent. A last line that a crash cut short is dropped.

    `most_tokens` is how long a reply may be now: one that a lower limit cut short is asked for again, and so is one that is not whole, which
    earlier versions kept; all others stay.
    Raises SatjaxError where the file belongs to another job, is damaged before its last line or cannot be written; TryAgain where another process
    has it open.
    """
    busy = f"{path}: another process writes there; wait for it, or name another --out"
    with (
        explain_full_disk(path),
        exclusive(path, path, busy=busy, advice="name another --out", mode="ab+") as stream,
    ):
        stream.seek(0)
        whole, _, torn = stream.read().rpartition(b"\n")
        lines = whole.split(b"\n") if whole else []
        head: dict[str, Any] = {"version": VERSION, **job}
        replies: dict[tuple[str, int], Kept] = {}
        if lines:
            if (found := _object(lines[0], path, 1)) != head:
                raise SatjaxError(
                    f"{path} is the journal of another assessment ({_difference(found, head)}); remove it, or name another --out"
                )
            entries = [_entry(line, path, number) for number, line in enumerate(lines[1:], start=2)]
            replies = {
                key: kept
                for key, most, kept in entries
                if kept.reply.is_whole and (kept.reply.finish != "length" or most >= most_tokens)
            }
        if torn:
            stream.truncate(len(whole) + 1 if lines else 0)
        if not lines:
            _append(stream, head)
            _sync_directory(path.parent)
        yield Journal(stream, replies, most_tokens)


def _difference(found: Mapping[str, Any], head: Mapping[str, Any]) -> str:
    """What the two say otherwise, the fields of a request one by one."""
    pairs = [(key, found.get(key), head.get(key)) for key in sorted({*found, *head}) if found.get(key) != head.get(key)]
    told = []
    for key, before, now in pairs:
        if isinstance(before, dict) and isinstance(now, dict):
            fields = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
            told += [f"{name}: {before.get(name)!r:.60}, now {now.get(name)!r:.60}" for name in fields]
        else:
            told.append(f"another {key}")
    return "; ".join(told)


def _append(stream: IO[bytes], value: Mapping[str, Any]) -> None:
    stream.write(json.dumps(value, ensure_ascii=True).encode() + b"\n")
    stream.flush()
    os.fsync(stream.fileno())


def _sync_directory(directory: Path) -> None:
    """A new file's name is on disk only when its directory is."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
        if not isinstance(value, dict):
            raise TypeError("no object")
    except (ValueError, TypeError, RecursionError) as error:
        raise SatjaxError(f"{path} line {number} is no entry of a journal ({error}); remove that line") from error
    return value


def _entry(line: bytes, path: Path, number: int) -> tuple[tuple[str, int], int, Kept]:
    """The item and rotation of a reply, how many tokens it might have had, and the reply."""
    value = _object(line, path, number)
    try:
        reply = Reply(str(value["text"]), str(value["finish"]), int(value["tokens_in"]), int(value["tokens_out"]))
        prompt = None if value.get("prompt") is None else str(value["prompt"])
        return (str(value["item"]), int(value["rotation"])), int(value["most_tokens"]), Kept(reply, prompt)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SatjaxError(f"{path} line {number} is no reply ({error!r}); remove that line") from error
