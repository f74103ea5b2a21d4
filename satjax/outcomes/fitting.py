"""Which aptitude tests a table is large enough for: said where the one that is wanted cannot be drawn from it."""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.clusters import cluster_tasks
from satjax.outcomes.splits import folded
from satjax.outcomes.table import OutcomeTable

WORTH = 1.1
"""By what factor profiles have to grow where half as many candidates need to have been tried on an item."""


@dataclass(frozen=True)
class Drawable:
    """The training items of each task that an aptitude test may take, as indices int `[n]`; at least `fewest` candidates were tried on each.

    Tasks without such items are left out.
    """

    members: dict[str, np.ndarray]
    fewest: int

    @property
    def counts(self) -> list[int]:
        """Items of each task."""
        return [len(index) for index in self.members.values()]


def drawable_items(table: OutcomeTable, num_tasks: int, shots: int) -> Drawable:
    """What a test of that size may be drawn from: of each text the item that most candidates were tried on, if enough were.

    Enough is half as many as on the most tried item, since in a table of several sources another one would leave a gap in most profiles. Or it is
    half of that, and so on, where each halving is worth it (`WORTH`) to the profile of the median candidate: a few items that all were tried on, as
    a log's greetings, must not rule out the rest.
    """
    train_N = np.flatnonzero(table.of_split("train"))
    tried_MN = ~np.isnan(table.scores_MN[:, train_N])
    most_tried: dict[str, int] = {}
    count_N = tried_MN.sum(axis=0)
    for n, count in enumerate(count_N.tolist()):
        text = folded(table.items[train_N[n]].text)
        if count > 0 and (text not in most_tried or count > count_N[most_tried[text]]):
            most_tried[text] = n
    kept_N = np.sort(np.array(list(most_tried.values()), int))
    train_N, tried_MN, count_N = train_N[kept_N], tried_MN[:, kept_N], count_N[kept_N]
    number: dict[str, int] = {}
    task_N = np.array([number.setdefault(table.items[i].task, len(number)) for i in train_N], int)
    most = int(count_N.max(initial=1))
    reached = []
    for halvings in range(most.bit_length()):
        bar = -(-most // 2 ** (halvings + 1))
        reach = _reach(tried_MN[:, count_N >= bar], task_N[count_N >= bar], num_tasks, shots)
        reached.append((*(outcomes / WORTH**halvings for outcomes in reach), bar))
    *_, fewest = max(reached)
    members: dict[str, list[int]] = {}
    for i in train_N[count_N >= fewest].tolist():
        members.setdefault(table.items[i].task, []).append(i)
    return Drawable({task: np.array(index) for task, index in members.items()}, fewest)


def _reach(tried_MN: np.ndarray, task_N: np.ndarray, num_tasks: int, shots: int) -> tuple[float, float]:
    """Outcomes that the median profile, and the average one, may be expected to get from the largest test of such items."""
    size_T = np.bincount(task_N)
    largest = largest_test(size_T[size_T > 0].tolist(), num_tasks, shots)
    if largest is None:
        return 0.0, 0.0
    expected_M = largest[0] * largest[1] * tried_MN.mean(axis=1)
    return float(np.median(expected_M)), float(expected_M.mean())


def largest_test(counts: Collection[int], num_tasks: int, shots: int) -> tuple[int, int] | None:
    """Tasks and shots of the test with the most items that tasks of so many drawable items allow; of equals the one with the most tasks.

    It has no more of each than `num_tasks` and `shots`, and takes at most half of the items: a router that reads profiles trains on the others only. None
    where there is no such test.
    """
    half = sum(counts) // 2
    sizes = [(min(num_tasks, sum(n >= each for n in counts), half // each), each) for each in range(1, shots + 1)]
    best = max(sizes, key=lambda size: (size[0] * size[1], size[0]))
    return best if best[0] else None


def fitting_flags(table: OutcomeTable, num_tasks: int, shots: int, seed: int = 0) -> str:
    """Flags of `satjax train` with which an aptitude test can be drawn from the table, no larger than that; nothing where none can.

    Where the table's own tasks give less than half of what its items would, there are also flags that make tasks of its instructions; they
    are clustered for that, with the `seed` of the test, as training will do.
    """
    counts = drawable_items(table, num_tasks, shots).counts
    own = largest_test(counts, num_tasks, shots)
    if own is None:
        return ""
    found = _flags(*own)
    half, taken = sum(counts) // 2, own[0] * own[1]
    if 2 * taken < min(half, num_tasks * shots):
        clusters = min(num_tasks, max(2, half // shots))
        with contextlib.suppress(SatjaxError):  # instructions that cannot be clustered
            clustered = drawable_items(cluster_tasks(table, clusters, seed), num_tasks, shots)
            made = largest_test(clustered.counts, num_tasks, shots)
            if made is not None and made[0] * made[1] > taken:
                found += f", or, for tasks made of the instructions, with --config.aptitude.clusters={clusters} {_flags(*made)}"
    return found


def _flags(num_tasks: int, shots: int) -> str:
    return f"--config.aptitude.num_tasks={num_tasks} --config.aptitude.shots={shots}"
