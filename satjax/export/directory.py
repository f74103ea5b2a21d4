"""The router directory: written whole or not at all, and read with every file checked against its digest."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np
from tokenizers import Tokenizer

from satjax.aptitude import AptitudeTest, CapabilityProfile
from satjax.aptitude.capability import AccuracyNorms
from satjax.calibration import Calibration, read_calibration
from satjax.checkpoint import save_params
from satjax.config import RouterConfig
from satjax.config.mapping import from_mapping
from satjax.errors import SatjaxError, unknown_name
from satjax.files import canonical_json, locked, replacing, safe_name
from satjax.pretrained import SHIPPED, is_shipped

FORMAT = 2
LEARNED = "params/"
"""The beginning of the names of the files that hold what a router learned."""
ABILITIES = "abilities.json"
TRAIN_CONFIG = "train_config.json"
"""The config of the run that made a router, there and in the run's workdir."""
CANDIDATES_OWN = ("profiles/", "README.md", "config.json")
"""Files of a router, or the beginnings of their names, that change where a candidate is added; the others do not."""


@dataclass(frozen=True)
class RouterFiles:
    """What a router directory holds, less the parameters, which Orbax reads onto devices.

    `learned` names their shapes and dtypes; `write_router` takes those that it writes from the parameters themselves. `abilities` are those of the candidates
    that an `items` router was trained on: float32 `[R + 1]` by name. `run` says what a training run made it of, as digests by name
    (`satjax.training.finish.origin`); it stays what it was when candidates are added or the calibration is fitted again, and is empty where nothing tells.
    So does `training`, the settings of that run (`satjax.config.TrainConfig`), for people: older routers have none.
    """

    config: RouterConfig
    norms: AccuracyNorms
    base_sha256: dict[str, str]
    order_seed: int
    test: AptitudeTest
    profiles: tuple[CapabilityProfile, ...]
    calibration: Calibration
    learned: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    abilities: dict[str, np.ndarray] = field(default_factory=dict)
    run: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def write_router(
    directory: Path,
    files: RouterFiles,
    params: Mapping[str, np.ndarray | jax.Array],
    tokenizer: Tokenizer | None,
    card: str,
) -> None:
    """Writes a router; `params` are the learned parameters, the base weights being named by their digest.

    The LLM's `tokenizer` is there for readers of other languages; loading takes the one that comes with the base weights.
    """
    with replacing(directory) as fresh:
        save_params(fresh / "params", params)
        for marker in fresh.rglob("commit_success.txt"):
            marker.write_text("committed\n", encoding="utf-8")  # Orbax names the directory that it wrote to
        if tokenizer is not None:
            tokenizer.save(str(fresh / "tokenizer.json"))
        files.test.write(fresh / "aptitude_test.json")
        files.calibration.write(fresh / "calibration.json")
        if files.abilities:
            abilities = {name: [float(value) for value in ability] for name, ability in files.abilities.items()}
            (fresh / ABILITIES).write_text(canonical_json(abilities), encoding="utf-8")
        if files.training:
            (fresh / TRAIN_CONFIG).write_text(canonical_json(files.training), encoding="utf-8")
        (fresh / "profiles").mkdir()
        for profile in files.profiles:
            profile.write(fresh / "profiles" / f"{safe_name(profile.candidate)}.json")
        (fresh / "README.md").write_text(card, encoding="utf-8")
        config: dict[str, Any] = {
            "format": FORMAT,
            "router": dataclasses.asdict(files.config),
            "norms": dataclasses.asdict(files.norms),
            "base_sha256": files.base_sha256,
            "learned": {path: [list(value.shape), str(value.dtype)] for path, value in sorted(params.items())},
            "order_seed": files.order_seed,
            "run": files.run,
            "files": _digests(fresh),
        }
        _write_config(fresh, config)


@contextlib.contextmanager
def rewrite_router(directory: Path, target: Path, extend: bool = False) -> Iterator[tuple[Path, RouterFiles]]:
    """A copy of a router directory to be altered, which takes the place of `target` (which may be `directory`) at the end, its digests made anew;
    and what the router that is copied holds.

    Parameters, which may be large and which nobody edits, are hard links where the file system has them. Others who would rewrite `target` wait
    until this is done, so that what is read of it within is what is replaced. To `extend`, the `router_to_extend` is what is
    copied. Raises SatjaxError where the router is damaged, or `target` is taken.
    """

    def source() -> Path:
        return router_to_extend(directory, target) if extend else directory

    check_free(source(), target)  # and again when it is ours: the lock itself makes a file beside it
    with locked(target):
        directory = source()
        check_free(directory, target)
        files, config = read_router(directory), _read_config(directory)
        with replacing(target) as fresh:
            for name in set(config["files"]) - {"config.json"}:
                (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                _copy(directory / name, fresh / name, link=name.startswith(LEARNED))
            yield fresh, files
            config["files"] = _digests(fresh)
            _write_config(fresh, config)


def _copy(source: Path, target: Path, link: bool) -> None:
    if link and not source.is_symlink():  # one that is relative leads elsewhere from there
        with contextlib.suppress(OSError):
            return os.link(source, target)
    shutil.copyfile(source, target)


def check_free(directory: Path, target: Path) -> None:
    """Raises SatjaxError where a router may not be written to `target`: where anything but `directory` itself is there, or that is the one
    of the package.
    """
    if target.resolve() == directory.resolve():
        if is_shipped(directory):
            raise SatjaxError(
                "a router that comes with satjax stays as it is; name a new directory, where a copy of it goes"
            )
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SatjaxError(f"{target} exists; name a new directory for the router")


def router_to_extend(directory: Path, target: Path) -> Path:
    """What takes a candidate in where the router of `directory` goes to `target` with it: `target`, where that router is there already, be it with
    other candidates, or else `directory`.
    """
    if not (target / "config.json").is_file():
        return directory
    ours, theirs = (
        {name: value for name, value in _read_config(place)["files"].items() if not name.startswith(CANDIDATES_OWN)}
        for place in (directory, target)
    )
    return target if ours == theirs else directory


def _write_config(fresh: Path, config: dict[str, Any]) -> None:
    config["files"]["config.json"] = _seal(config)
    (fresh / "config.json").write_text(canonical_json(config), encoding="utf-8")


def read_router(directory: Path) -> RouterFiles:
    """Reads and checks a router directory; anything missing or altered is named in one line."""
    config = _read_config(directory)
    expected = config["files"]
    try:
        found = {**_digests(directory, expected), "config.json": _seal(config)}
    except OSError as error:
        raise SatjaxError(
            f"router {directory}: {error.filename} cannot be read ({error.strerror}); copy the router again"
        ) from error
    missing, altered = (
        sorted(set(expected) - set(found)),
        sorted(name for name in expected if found.get(name, "") != expected[name]),
    )
    if missing:
        raise SatjaxError(
            f"router {directory}: {missing[0]} is missing ({len(missing)} files in all); copy the router again, or write it anew with its `satjax train` command"
        )
    if altered:
        raise SatjaxError(
            f"router {directory}: {altered[0]} was altered after the export; copy the router again, or write it anew with its `satjax train` command"
        )
    test = AptitudeTest.read(directory / "aptitude_test.json")
    profiles = tuple(map(CapabilityProfile.read, _profiles(directory, config)))
    try:
        return _parsed(config, directory, test, profiles)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _altered(directory, error) from error


def check_candidates(directory: Path, names: Iterable[str]) -> None:
    """Raises SatjaxError for a name that no candidate of a router directory has. Only its profiles are read, so that it is said before base weights
    are.
    """
    known = [CapabilityProfile.read(path).candidate for path in _profiles(directory, _read_config(directory))]
    for name in names:
        if name not in known:
            raise unknown_name("candidate", name, known)


def _profiles(directory: Path, config: dict[str, Any]) -> list[Path]:
    return [directory / name for name in sorted(config["files"]) if name.startswith("profiles/")]


def _parsed(
    config: dict[str, Any], directory: Path, test: AptitudeTest, profiles: tuple[CapabilityProfile, ...]
) -> RouterFiles:
    norms = config["norms"]
    return RouterFiles(
        config=from_mapping(RouterConfig, config["router"], "config.json router"),
        norms=AccuracyNorms(tuple(norms["mean"]), tuple(norms["spread"])),
        base_sha256=config["base_sha256"],
        learned={path: (tuple(shape), dtype) for path, (shape, dtype) in config["learned"].items()},
        order_seed=config["order_seed"],
        test=test,
        profiles=profiles,
        calibration=read_calibration(directory / "calibration.json"),
        abilities=_abilities(directory / ABILITIES) if ABILITIES in config["files"] else {},
        training=_json(directory / TRAIN_CONFIG) if TRAIN_CONFIG in config["files"] else {},
        run=dict(config.get("run", {})),
    )


def _abilities(path: Path) -> dict[str, np.ndarray]:
    return {name: np.array(value, np.float32) for name, value in _json(path).items()}


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def router_sha256(directory: Path) -> str:
    """The digest of a router as it was written: of its config.json, which holds those of all other files."""
    return _seal(_read_config(directory))


def learned_digests(directory: Path) -> frozenset[tuple[str, str]]:
    """The files that hold what a router learned, as names and digests: where these are the same, so is that."""
    files = _read_config(directory)["files"]
    return frozenset((name, digest) for name, digest in files.items() if name.startswith(LEARNED))


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.is_file():
        raise SatjaxError(
            f"{directory} is no router: it has no config.json; give the directory that `satjax train` wrote as WORKDIR/router, or the name of one that comes with satjax: {', '.join(SHIPPED)}"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise SatjaxError(
                f"router {directory} has format {config['format']}, this satjax reads format {FORMAT}; "
                "train it again, or install the satjax that wrote it"
            )
        for key in ("router", "norms", "base_sha256", "learned", "order_seed", "files"):
            config[key]
        if not isinstance(config["files"], dict):
            raise TypeError("files")
        for name in config["files"]:
            _check_within(name)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _altered(directory, error) from error
    return config


def _check_within(name: str) -> None:
    """Raises ValueError for a name that leads out of the directory: whoever writes a router can name any file, and it is read, and copied to there."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.as_posix() != name:
        raise ValueError(f"the file name {name!r}")


def _altered(directory: Path, error: Exception) -> SatjaxError:
    return SatjaxError(
        f"router {directory}: config.json was altered ({error!r}); copy the router again, or write it anew with its `satjax train` command"
    )


def _digests(directory: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """sha256 of every file but `config.json`, or of those of the names that are files, by path within the directory."""
    if names is None:
        files = sorted(Path(root) / name for root, _, names in os.walk(directory) for name in names)
        names = [path.relative_to(directory).as_posix() for path in files]
    return {name: _sha256(directory / name) for name in names if name != "config.json" and (directory / name).is_file()}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _seal(config: dict[str, Any]) -> str:
    """sha256 of `config.json` itself, its own digest left out."""
    files = {name: digest for name, digest in config["files"].items() if name != "config.json"}
    return hashlib.sha256(canonical_json({**config, "files": files}).encode("utf-8", "surrogatepass")).hexdigest()
