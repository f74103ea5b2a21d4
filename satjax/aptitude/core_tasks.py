"""The aptitude test: core tasks and the items of each, as all candidates answer them, and its file."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from satjax.errors import SatjaxError
from satjax.files import write_text
from satjax.outcomes import Item
from satjax.outcomes.splits import digest

VERSION = 1


@dataclass(frozen=True)
class CoreTask:
    """One task of the test: its name, five keywords, and the items every candidate answers.

    `text_sha256` holds `text_sha256` of each of these, or nothing where the test was drawn by a version that did not keep them.
    """

    name: str
    keywords: tuple[str, ...]
    item_ids: tuple[str, ...]
    text_sha256: tuple[str, ...] = ()


@dataclass(frozen=True)
class AptitudeTest:
    """T core tasks with K items each, the same for every candidate; `seed` and `source` say how it was drawn."""

    seed: int
    source: str
    tasks: tuple[CoreTask, ...]

    @property
    def num_tasks(self) -> int:
        """T."""
        return len(self.tasks)

    @property
    def shots(self) -> int:
        """K."""
        return len(self.tasks[0].item_ids)

    @cached_property
    def item_ids(self) -> frozenset[str]:
        """All items of the test: never evaluation instructions, and training ones only where no profile is read (`items`)."""
        return frozenset(item for task in self.tasks for item in task.item_ids)

    def in_turn(self, seed: int) -> list[tuple[int, int]]:
        """All items, as numbers of a task and of an item of it, in an order that the seed fixes, of which the first K are a test of K items.

        One item of every task, then a second one of every task, and so on: any K lie spread over the tasks.
        """
        rng = np.random.default_rng(seed)
        shuffled = [[(int(t), int(k)) for k in rng.permutation(self.shots)] for t in rng.permutation(self.num_tasks)]
        return [items[k] for k in range(self.shots) for items in shuffled]

    @cached_property
    def content(self) -> dict[str, Any]:
        """What makes it this test, as JSON has it: all but the digests of texts, which not all tests have."""
        tasks = [{key: held for key, held in asdict(task).items() if key != "text_sha256"} for task in self.tasks]
        return {"seed": self.seed, "source": self.source, "tasks": tasks}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the test's content: profiles name the test they belong to by it."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    def with_other_texts(self, items: Iterable[Item]) -> list[str]:
        """Those of the items, by their ids, whose texts are others than when the test was drawn, as far as it knows."""
        drawn = {item: sha for task in self.tasks for item, sha in zip(task.item_ids, task.text_sha256, strict=False)}
        return [item.id for item in items if item.id in drawn and drawn[item.id] != text_sha256(item.text)]

    def write(self, path: Path) -> None:
        """As JSON."""
        digests = [{"text_sha256": task.text_sha256} if task.text_sha256 else {} for task in self.tasks]
        tasks = [{**task, **more} for task, more in zip(self.content["tasks"], digests, strict=True)]
        write_text(path, json.dumps({"version": VERSION, **self.content, "tasks": tasks}, indent=1, ensure_ascii=False))

    @classmethod
    def read(cls, path: Path) -> "AptitudeTest":
        """Reads what `write` wrote; raises SatjaxError where that cannot be done."""
        value = read_json(path, "aptitude test", VERSION)
        try:
            tasks = tuple(
                CoreTask(str(t["name"]), texts(t["keywords"]), texts(t["item_ids"]), texts(t.get("text_sha256", [])))
                for t in value["tasks"]
            )
            if not tasks or len({len(task.item_ids) for task in tasks}) != 1 or not tasks[0].item_ids:
                raise ValueError("its tasks differ in their number of items, or there are none")
            if any(task.text_sha256 and len(task.text_sha256) != len(task.item_ids) for task in tasks):
                raise ValueError("a task has not as many digests of texts as items")
            return cls(int(value["seed"]), str(value["source"]), tasks)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SatjaxError(f"{path} is no aptitude test ({error!r}); copy it from the router again") from error


def text_sha256(text: str) -> str:
    """What tells one text from another, blanks folded: the first 8 bytes of its sha256, in hexadecimal."""
    return digest(text)[:8].hex()


def read_json(path: Path, what: str, version: int) -> dict[str, Any]:
    """A versioned JSON object; raises SatjaxError naming file and mend."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SatjaxError(f"{path} cannot be read ({error.strerror}); name the file of the {what}") from error
    except (ValueError, RecursionError) as error:
        raise SatjaxError(f"{path} is no complete {what} ({error}); write or copy it again") from error
    return versioned(value, str(path), what, version)


def versioned(value: Any, where: str, what: str, version: int) -> dict[str, Any]:
    """The value if it is an object of that version; raises SatjaxError that begins with `where` for any other."""
    if not isinstance(value, dict) or value.get("version") != version:
        found = value.get("version") if isinstance(value, dict) else None
        raise SatjaxError(f"{where} is no {what} of version {version} (found {found!r}); write it with this satjax")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts as JSON has it; raises ValueError for anything else, above all for a text that stands alone."""
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"{value!r:.60} is no list of texts")
    return tuple(value)
