"""The aptitude test: core tasks and shots, drawn from the training split by how well they tell candidates apart."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from satjax.aptitude.keywords import task_keywords
from satjax.config import Draw
from satjax.errors import SatjaxError
from satjax.files import write_text
from satjax.outcomes import Item, OutcomeTable
from satjax.outcomes.fitting import drawable_items, fitting_flags
from satjax.outcomes.splits import digest

VERSION = 1
FLOOR = 1e-3
"""Weight of an item that every candidate gets right or wrong: hardly ever drawn, but a task always fills."""


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


def sample_aptitude_test(
    table: OutcomeTable, num_tasks: int = 50, shots: int = 20, seed: int = 0, draw: Draw = "distinguishing"
) -> AptitudeTest:
    """Draws a test from the training split of `table`, whose candidates are the training candidates.

    An item's weight is its distinguishability, four times the variance of its outcomes over the candidates, which for right or wrong is
    `4 p (1 - p)`, p being the share that is right (paper section 3.1), or the same for all with `draw` = `even`. Tasks are drawn in proportion
    to the mean weight of their items, items within a task in proportion to their own, both without replacement. Tasks are kept by name and items
    by id. Only `drawable_items` are drawn. Raises SatjaxError where too few tasks have `shots` of them, with a size that fits.
    """
    train = table.split("train")
    weight_N = distinguishability(train.scores_MN) + FLOOR if draw == "distinguishing" else np.ones(len(train.items))
    drawable = drawable_items(train, num_tasks, shots)
    members = drawable.members
    full = [task for task in sorted(members) if len(members[task]) >= shots]
    if len(full) < num_tasks:
        flags = fitting_flags(train, num_tasks, shots, seed)
        raise SatjaxError(
            f"an aptitude test of {num_tasks} {'task' if num_tasks == 1 else 'tasks'} with {shots} items each cannot be drawn: "
            f"{'1 task has' if len(full) == 1 else f'{len(full)} tasks have'} that many training items of different texts "
            f"with outcomes of at least {drawable.fewest} of the {len(train.candidates)} candidates; "
            f"{f'train with {flags}' if flags else 'import more training items'}"
        )
    rng = np.random.default_rng(seed)
    task_weight = np.array([weight_N[members[task]].mean() for task in full])
    chosen = sorted(rng.choice(full, num_tasks, replace=False, p=task_weight / task_weight.sum()).tolist())
    keywords = task_keywords(train, chosen)
    tasks, sources = [], set()
    for task in chosen:
        weight = weight_N[members[task]]
        drawn = [train.items[i] for i in rng.choice(members[task], shots, replace=False, p=weight / weight.sum())]
        drawn.sort(key=lambda item: item.id)
        ids, digests = tuple(item.id for item in drawn), tuple(text_sha256(item.text) for item in drawn)
        tasks.append(CoreTask(task, keywords[task], ids, digests))
        sources |= {item.source for item in drawn}
    return AptitudeTest(seed, ", ".join(sorted(sources)), tuple(tasks))


def distinguishability(scores_MN: np.ndarray) -> np.ndarray:
    """Four times the variance of each item's observed scores over the candidates, `[N]`; 0 where none was observed."""
    observed = ~np.isnan(scores_MN)
    score_MN, count_N = np.where(observed, scores_MN, 0.0), np.maximum(observed.sum(axis=0), 1)
    mean_N, square_N = score_MN.sum(axis=0) / count_N, (score_MN**2).sum(axis=0) / count_N
    # In this form 4 p (1 - p) to the last bit for right and wrong, whose squares they are themselves: a draw goes by the bits.
    return 4 * mean_N * (1 - mean_N) - 4 * (mean_N - square_N)
