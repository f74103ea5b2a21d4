"""A small zoo of two families and two categories with release dates, and a recipe for it: what protocols leave out in turn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satjax.config import TrainConfig
from satjax.outcomes import OutcomeTable
from satjax.outcomes.parquet import write_table
from tests.tiny import ABILITY_ALONE, tiny_config, tiny_table

DATES = ("2024-03", "2023-01", "2024-01", "2023-07", "2024-03", "2022-11")


def families_table() -> OutcomeTable:
    """Candidates 0 to 3 are of family `a`, 4 and 5 of family `b`."""
    table = tiny_table()
    candidates = tuple(
        replace(candidate, family="a" if m < 4 else "b", release_date=DATES[m])
        for m, candidate in enumerate(table.candidates)
    )
    items = tuple(
        replace(item, category="numbers" if item.category in ("numbers", "measures") else "words")
        for item in table.items
    )
    few = np.random.default_rng(0).random(len(items)) < 0.8
    return replace(table, items=items, candidates=candidates).select_items(few)


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainConfig, Path]:
    """A config of a few steps on that table, and the folder in which protocols train its folds, once per worker process."""
    home = tmp_path_factory.mktemp("families")
    write_table(families_table(), home / "families")
    changes = {**ABILITY_ALONE, "data__outcomes": str(home / "families"), "aptitude__num_tasks": 4}
    return tiny_config(home, **changes), home / "folds"
