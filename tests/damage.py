"""Files and values as accidents and malice leave them: damaged in ways that a seed decides."""

import gzip
import json
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STRANGE: list[Any] = [
    None, True, -1, 0, 1, 10**30, 1e308, float("nan"), float("inf"), "", "a", "../../etc/passwd", "\x00", "\ud800", "x" * 10_000, [], [[]], {}, {"a": {}},
    [None], ["a"], [1e999],
]  # fmt: skip


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def hostile(content: bytes) -> Iterator[tuple[str, bytes]]:
    """What may stand in the place of a file with this content."""
    text = content.decode("utf-8", "replace")
    yield "nothing", b""
    yield "zeros", bytes(100_000)
    yield "the first half", content[: len(content) // 2]
    yield "twice", content * 2
    yield "another encoding", text.encode("utf-16")
    yield "a mark of the encoding", b"\xef\xbb\xbf" + content
    yield "one byte of another encoding", content.replace(b"e", b"\xe9", 1)
    yield "compressed", gzip.compress(content)
    yield "compressed and cut short", gzip.compress(content)[:-10]
    yield "half of a surrogate pair", content.replace(b"e", b"\\ud83d", 3)
    for value in (b"NaN", b"-Infinity", b"1e999", b"-1", b"2", b"1" * 5000):
        yield f"numbers are {value[:10].decode()}", content.replace(b"1.0", value).replace(b": 1", b": " + value)
    for opening in (b"[", b'{"a":', b'[{"a":[', b'"['):
        yield f"{opening.decode()} without end", opening * 50_000
        yield f"{opening.decode()} after a beginning", content[: len(content) // 3] + opening * 50_000


def archives(members: dict[str, bytes], folder: Path) -> Iterator[tuple[str, Path]]:
    """Archives of these members, with names that lead elsewhere, damaged, or of claims that are not true."""
    first, *_ = members
    named = {
        "names that lead up": {f"../../{name}": content for name, content in members.items()},
        "names from the root": {f"/{name}": content for name, content in members.items()},
        "a member that leads up": {**members, f"{first.rpartition('/')[0]}/../../../up.json": members[first]},
        "no members": {},
    }
    for what, chosen in named.items():
        path = folder / f"{what}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in chosen.items():
                archive.writestr(name, content)
        yield what, path
    path = folder / "whole.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    whole = path.read_bytes()
    for what, content in (
        ("cut short", whole[: len(whole) // 2]),
        ("without its end", whole[:-10]),
        (
            "sizes that are not true",
            whole.replace(len(members[first]).to_bytes(4, "little"), (2**31).to_bytes(4, "little")),
        ),
        (
            "sizes that are too small",
            whole.replace(len(members[first]).to_bytes(4, "little"), (10).to_bytes(4, "little")),
        ),
        ("twice", whole * 2),
    ):
        path.write_bytes(content)
        yield what, path


def damage(content: bytes, seed: int) -> bytes:
    """Some bytes flipped, cut out, doubled or put in."""
    chance, data = random.Random(seed), bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(data) + 1), chance.choice([1, 1, 8, 200])
        match chance.randrange(4):
            case 0:
                data[at : at + length] = chance.randbytes(length)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case _:
                data[at:at] = chance.choice(
                    [b"null", b"[", b"{}", b'"', b",", b"1e999", b"NaN", b"\x00", b"\xff", b"-1"]
                )
    return bytes(data)


def mutated(value: object, seed: int, other: object) -> object:
    """A copy of a JSON value with one part, anywhere in it, replaced, or left out of its object."""
    chance = random.Random(seed)
    copy = json.loads(json.dumps(value))
    here = copy
    for _ in range(chance.randint(1, 6)):
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            break
        key = chance.choice(keys)
        if isinstance(here[key], dict | list) and here[key] and chance.random() < 0.7:
            here = here[key]
        elif isinstance(here, dict) and chance.random() < 0.3:
            del here[key]
            break
        else:
            here[key] = other
            break
    return copy


def damage_checkpoint(checkpoint: Path, part: str) -> None:
    """What a share that fails, or a rename of many objects that was cut off, leaves of the part of a checkpoint."""
    match part:
        case "run":
            (checkpoint / "run" / "metadata").write_bytes(b"{")
        case "index":
            for path in (checkpoint / "state" / "d").iterdir():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        case "array":
            max((checkpoint / "state").glob("ocdbt.*/d/*"), key=lambda path: path.stat().st_size).unlink()
