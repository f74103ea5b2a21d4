"""Whatever stands in a profile, a zoo file or a router directory: it is read, or one line says why not, and soon."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from satjax.aptitude import AptitudeTest, CapabilityProfile
from satjax.calibration import read_calibration
from satjax.errors import SatjaxError
from satjax.export.directory import _digests, _seal, read_router
from satjax.policy.zoo_file import read_zoo_file
from tests.damage import STRANGE, damage, mutated, nested
from tests.trained import Trained

SECONDS, LONGEST = 5.0, 2000


def ends_well(read: Callable[[Path], Any], path: Path, what: str) -> None:
    start, said = time.monotonic(), ""
    try:
        read(path)
    except SatjaxError as error:
        said = str(error)
    except Exception as error:
        raise AssertionError(f"{what}: {error!r:.500}") from error
    assert "\n" not in said, f"{what}: {said:.500}"
    assert len(said) < LONGEST, f"{what}: {said:.500}"
    assert time.monotonic() - start < SECONDS, what


def toml(value: Any) -> str:
    """As a value of TOML, as far as there is one."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    return "[]" if value is None else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")


def cases(content: bytes, count: int, write: Callable[[Any], str]) -> Any:
    """Damaged bytes and strange values in turn, and a few that are nested deeply."""
    for seed in range(count):
        if seed % 500 == 499:
            yield seed, nested(10 ** (2 + seed // 500 % 4)).encode()
        elif seed % 2:
            yield seed, damage(content, seed)
        else:
            chance = random.Random(seed)
            yield (
                seed,
                write(mutated(json.loads(content), seed, chance.choice(STRANGE))).encode("utf-8", "surrogatepass"),
            )


def fuzz_json(read: Callable[[Path], Any], source: Path, path: Path, count: int) -> None:
    for seed, content in cases(source.read_bytes(), count, json.dumps):
        path.write_bytes(content)
        ends_well(read, path, f"{source.name}, seed {seed}")


def fuzz_zoo(path: Path, count: int) -> None:
    table = {"base_url": "http://localhost/v1", "model": "m", "context_tokens": 10, "tools": True}
    table |= {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 2}
    whole = {"serve": {"objective": "cheapest above 0.7", "max_batch": 3}, "candidates": {"a": table, "b/c": table}}

    def write(value: Any) -> str:
        if not isinstance(value, dict):
            return toml(value)
        return "\n".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items())

    path.write_text(write(whole))
    read_zoo_file(path)
    text = path.read_bytes()
    for seed in range(count):
        chance = random.Random(seed)
        content = (
            damage(text, seed)
            if seed % 2
            else write(mutated(whole, seed, chance.choice(STRANGE))).encode("utf-8", "surrogatepass")
        )
        path.write_bytes(b"a = " + nested(20_000).encode() if seed % 500 == 499 else content)
        ends_well(read_zoo_file, path, f"zoo file, seed {seed}")


def fuzz_router(router: Path, count: int) -> None:
    """A file of it changed, and its seal made anew as somebody would who means harm."""
    names = [
        "config.json",
        "calibration.json",
        "aptitude_test.json",
        *(f"profiles/{p.name}" for p in (router / "profiles").iterdir()),
    ]
    known = {name: (router / name).read_bytes() for name in names}
    for seed in range(count):
        name = names[seed % len(names)]
        chance = random.Random(seed)
        content = json.dumps(mutated(json.loads(known[name]), seed, chance.choice(STRANGE))).encode(
            "utf-8", "surrogatepass"
        )
        (router / name).write_bytes(content)
        try:
            config = json.loads((router / "config.json").read_bytes())
            config["files"] = _digests(router)
            config["files"]["config.json"] = _seal(config)
            (router / "config.json").write_text(json.dumps(config))
        except (TypeError, KeyError):
            pass
        ends_well(read_router, router, f"{name}, seed {seed}")
        (router / name).write_bytes(known[name])
        (router / "config.json").write_bytes(known["config.json"])


def run(trained: Trained, folder: Path, count: int) -> None:
    router = trained.copy(folder / "router")
    fuzz_json(CapabilityProfile.read, next((router / "profiles").iterdir()), folder / "profile.json", count)
    fuzz_json(AptitudeTest.read, router / "aptitude_test.json", folder / "test.json", count)
    fuzz_json(read_calibration, router / "calibration.json", folder / "calibration.json", count)
    fuzz_zoo(folder / "zoo.toml", count)
    fuzz_router(router, count // 10)


def test_some(trained, tmp_path):
    run(trained, tmp_path, 600)


@pytest.mark.slow
def test_a_hundred_thousand(trained, tmp_path):
    """With those of the importers and of the server's API (`make slow`)."""
    run(trained, tmp_path, 25_000)
