"""Which aptitude tests a table is large enough for: said where the one that is wanted cannot be drawn from it."""

import contextlib
from collections.abc import Collection

import numpy as np

from satjax.errors import SatjaxError
from satjax.outcomes.clusters import cluster_tasks
from satjax.outcomes.table import OutcomeTable, widely_tried


def drawable_items(table: OutcomeTable) -> dict[str, np.ndarray]:
    """The items of each task that an aptitude test may take, as indices int `[n]`: training items that are `widely_tried` among those.

    Tasks without such items are left out.
    """
    train_N = np.flatnonzero([item.split == "train" for item in table.items])
    members: dict[str, list[int]] = {}
    for i in train_N[widely_tried(table.scores_MN[:, train_N])].tolist():
        members.setdefault(table.items[i].task, []).append(i)
    return {task: np.array(index) for task, index in members.items()}


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
    counts = [len(index) for index in drawable_items(table).values()]
    own = largest_test(counts, num_tasks, shots)
    if own is None:
        return ""
    found = _flags(*own)
    half, taken = sum(counts) // 2, own[0] * own[1]
    if 2 * taken < min(half, num_tasks * shots):
        clusters = min(num_tasks, max(2, half // shots))
        with contextlib.suppress(SatjaxError):  # instructions that cannot be clustered
            clustered = drawable_items(cluster_tasks(table, clusters, seed))
            made = largest_test([len(index) for index in clustered.values()], num_tasks, shots)
            if made is not None and made[0] * made[1] > taken:
                found += f", or, for tasks made of the instructions, with --config.aptitude.clusters={clusters} {_flags(*made)}"
    return found


def _flags(num_tasks: int, shots: int) -> str:
    return f"--config.aptitude.num_tasks={num_tasks} --config.aptitude.shots={shots}"
