"""Outcomes: how well candidates did on instructions, and where such tables come from."""

from satjax.outcomes.describe import describe
from satjax.outcomes.importers import import_outcomes
from satjax.outcomes.merge import leaks, merge_tables
from satjax.outcomes.parquet import read_table, write_table
from satjax.outcomes.source import open_outcomes, read_outcomes
from satjax.outcomes.synthetic import planted_abilities, synthetic_zoo
from satjax.outcomes.table import Candidate, Item, OutcomeTable
from satjax.outcomes.tfds_dataset import read_tfds, write_tfds

__all__ = [
    "Candidate",
    "Item",
    "OutcomeTable",
    "describe",
    "import_outcomes",
    "leaks",
    "merge_tables",
    "open_outcomes",
    "planted_abilities",
    "read_outcomes",
    "read_table",
    "read_tfds",
    "synthetic_zoo",
    "write_table",
    "write_tfds",
]
