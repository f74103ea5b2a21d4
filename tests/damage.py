"""Files and values as accidents and malice leave them: damaged in ways that a seed decides."""

import json
import random


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
