"""Baseline: a random forest on a candidate's profile beside the embedding of the instruction."""

from functools import partial

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold

from satjax.errors import SatjaxError
from satjax.evaluation.baselines.data import BaselineData, Fold, Instructions
from satjax.evaluation.baselines.tuning import Settings

SMALLEST_LEAF = (3, 10, 30, 100)
TREES = 60
COMPONENTS = 32
"""Principal components of the embedding that the trees see; single coordinates say too little for a split."""
ROWS_PER_TREE = 0.2
FEATURES_PER_SPLIT = 0.3
CANDIDATE_FOLDS = 3


def profile(aptitude: Fold) -> np.ndarray:
    """Accuracies float32 `[M, T + 1]` on the aptitude test, by its tasks (sorted) and overall; NaN = unobserved."""
    tasks = aptitude.instructions.core_tasks or aptitude.instructions.tasks
    groups = [np.array(tasks) == task for task in sorted(set(tasks))] + [np.ones(len(tasks), bool)]
    columns = []
    for member_B in groups:
        observed = ~np.isnan(aptitude.outcome_BM[member_B])
        total_M = np.where(observed, aptitude.outcome_BM[member_B], 0).sum(axis=0)
        count_M = observed.sum(axis=0)
        columns.append(np.where(count_M > 0, total_M / np.maximum(count_M, 1), np.nan))
    return np.stack(columns, axis=1).astype(np.float32)


def forest(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """A random forest (Breiman 2001) of all candidates' training outcomes on profile and embedding.

    Raises SatjaxError where there is nothing to make profiles of.
    """
    if not data.aptitude.instructions.tasks:
        raise SatjaxError(
            "baseline forest: the outcome table has none of the aptitude test's items, which candidates' profiles are made of; "
            "add them to the table, or leave forest out of the baselines"
        )
    profile_MT = profile(data.aptitude)
    reduce = _reducer(data, seed)
    everyone = np.arange(data.num_candidates)
    for leaf in SMALLEST_LEAF:
        model = _fit(data.train, profile_MT, everyone, reduce, leaf, seed)
        yield {"smallest_leaf": leaf}, partial(_predict, model, reduce, profile_MT)


def forest_unseen(data: BaselineData, scored: Fold, seed: int) -> Settings:
    """The same for candidates known by their profile only: those of `scored` that stand behind the M of `data`.

    Trees would recognize the M, whose outcomes they are grown on, by their profiles. What is predicted for each of
    these, and chosen by, therefore comes from trees that were grown without it, in 3 folds of candidates.
    """
    profile_MT = profile(scored)
    reduce = _reducer(data, seed)
    everyone = np.arange(data.num_candidates)
    num_folds = min(CANDIDATE_FOLDS, data.num_candidates)
    held_out = (
        [held for _, held in KFold(num_folds, shuffle=True, random_state=seed).split(everyone)] if num_folds > 1 else []
    )
    for leaf in SMALLEST_LEAF:
        model = _fit(data.train, profile_MT, everyone, reduce, leaf, seed)
        without = [
            (held, _fit(data.train, profile_MT, np.setdiff1d(everyone, held), reduce, leaf, seed)) for held in held_out
        ]

        yield {"smallest_leaf": leaf}, partial(_predict_crosswise, model, without, reduce, profile_MT)


def _reducer(data: BaselineData, seed: int) -> PCA:
    embedding_BE = data.train.instructions.embedding_BE
    return PCA(min(COMPONENTS, *embedding_BE.shape), random_state=seed).fit(embedding_BE)


def _pairs(reduced_BC: np.ndarray, profile_MT: np.ndarray) -> np.ndarray:
    """A row for every pair, `[B * M, T + 1 + C]`."""
    return np.concatenate(
        [np.tile(profile_MT, (len(reduced_BC), 1)), np.repeat(reduced_BC, len(profile_MT), axis=0)], axis=1
    ).astype(np.float32)


def _fit(
    train: Fold, profile_MT: np.ndarray, candidates: np.ndarray, reduce: PCA, leaf: int, seed: int
) -> RandomForestRegressor:
    """The squared error of soft outcomes; for classes it splits as Gini impurity does. Raises SatjaxError where there is none to grow trees on."""
    outcome = train.outcome_BM[:, candidates].ravel()
    seen = ~np.isnan(outcome)
    if not seen.any():
        raise SatjaxError(
            f"baseline forest: the training split has no outcomes of {len(candidates)} candidates to grow trees on; "
            "add some to the outcome table, or leave forest out of the baselines"
        )
    rows = _pairs(reduce.transform(train.instructions.embedding_BE), profile_MT[candidates])
    model = RandomForestRegressor(
        TREES,
        min_samples_leaf=leaf,
        max_features=FEATURES_PER_SPLIT,
        max_samples=ROWS_PER_TREE,
        n_jobs=-1,
        random_state=seed,
    )
    return model.fit(rows[seen], outcome[seen])


def _predict(
    model: RandomForestRegressor, reduce: PCA, profile_MT: np.ndarray, instructions: Instructions
) -> np.ndarray:
    rows = _pairs(reduce.transform(instructions.embedding_BE), profile_MT)
    return model.predict(rows).reshape(len(instructions.tasks), len(profile_MT))


def _predict_crosswise(
    model: RandomForestRegressor,
    without: list[tuple[np.ndarray, RandomForestRegressor]],
    reduce: PCA,
    profile_MT: np.ndarray,
    instructions: Instructions,
) -> np.ndarray:
    """Every candidate by `model`, but those of a fold by the trees that were grown without them."""
    probability_BM = _predict(model, reduce, profile_MT, instructions)
    for held, other in without:
        probability_BM[:, held] = _predict(other, reduce, profile_MT[held], instructions)
    return probability_BM
