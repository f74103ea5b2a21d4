"""Outcomes: how well candidates did on instructions, and where such tables come from."""

from satjax.outcomes.clusters import cluster_numbers, cluster_tasks, with_clusters
from satjax.outcomes.describe import describe, questions_apart
from satjax.outcomes.importers import import_outcomes
from satjax.outcomes.merge import leaks, merge_responses, merge_tables
from satjax.outcomes.parquet import read_responses, read_table, write_table
from satjax.outcomes.responses import Responses
from satjax.outcomes.routerbench import import_routerbench_responses
from satjax.outcomes.source import open_outcomes, read_outcomes
from satjax.outcomes.synthetic import planted_abilities, synthetic_zoo
from satjax.outcomes.table import Candidate, Item, OutcomeTable
from satjax.outcomes.tfds_dataset import read_tfds, write_tfds

__all__ = [
    "Candidate",
    "Item",
    "OutcomeTable",
    "Responses",
    "cluster_numbers",
    "cluster_tasks",
    "describe",
    "import_outcomes",
    "import_routerbench_responses",
    "leaks",
    "merge_responses",
    "merge_tables",
    "open_outcomes",
    "planted_abilities",
    "questions_apart",
    "read_outcomes",
    "read_responses",
    "read_table",
    "read_tfds",
    "synthetic_zoo",
    "with_clusters",
    "write_table",
    "write_tfds",
]
