"""The aptitude test is drawn from the training split, by how well its tasks and items tell candidates apart."""

import numpy as np

from satjax.aptitude.core_tasks import AptitudeTest, CoreTask, text_sha256
from satjax.aptitude.keywords import task_keywords
from satjax.config import Draw
from satjax.errors import SatjaxError
from satjax.outcomes import OutcomeTable
from satjax.outcomes.fitting import drawable_items, fitting_flags

FLOOR = 1e-3
"""Weight of an item that every candidate gets right or wrong: hardly ever drawn, but a task always fills."""


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
