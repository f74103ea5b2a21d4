"""Outcomes: how well candidates did on instructions, and where such tables come from."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satjax.outcomes.clusters import cluster_numbers, cluster_tasks, with_clusters
    from satjax.outcomes.description import describe, questions_apart
    from satjax.outcomes.importers.registry import import_outcomes
    from satjax.outcomes.importers.routerbench import import_routerbench_responses
    from satjax.outcomes.merge import leaks, merge_responses, merge_tables
    from satjax.outcomes.parquet import read_responses, read_table, write_table
    from satjax.outcomes.responses import Responses
    from satjax.outcomes.source import open_outcomes, read_outcomes, with_common_validation
    from satjax.outcomes.synthetic import planted_abilities, synthetic_zoo
    from satjax.outcomes.table import Candidate, Item, OutcomeTable
    from satjax.outcomes.tfds_dataset import read_tfds, write_tfds

_HOME = {
    "Candidate": "table",
    "Item": "table",
    "OutcomeTable": "table",
    "Responses": "responses",
    "cluster_numbers": "clusters",
    "cluster_tasks": "clusters",
    "describe": "description",
    "import_outcomes": "importers.registry",
    "import_routerbench_responses": "importers.routerbench",
    "leaks": "merge",
    "merge_responses": "merge",
    "merge_tables": "merge",
    "open_outcomes": "source",
    "planted_abilities": "synthetic",
    "questions_apart": "description",
    "read_outcomes": "source",
    "read_responses": "parquet",
    "read_table": "parquet",
    "read_tfds": "tfds_dataset",
    "synthetic_zoo": "synthetic",
    "with_clusters": "clusters",
    "with_common_validation": "source",
    "write_table": "parquet",
    "write_tfds": "tfds_dataset",
}
"""Where the public names are. No module here is named as one of them: Python would put the module in the name's place."""
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
    "with_common_validation",
    "write_table",
    "write_tfds",
]


def __getattr__(name: str) -> Any:
    """Imports the public names when they are first used: a router needs what a table is, and neither importers nor Parquet."""
    if name not in _HOME:
        raise AttributeError(f"module 'satjax.outcomes' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"satjax.outcomes.{_HOME[name]}"), name)
