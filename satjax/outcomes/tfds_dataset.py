"""Outcome tables as TensorFlow Datasets in ArrayRecord form, written and read without TensorFlow."""

import contextlib
import functools
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from satjax.errors import SatjaxError
from satjax.files import replacing
from satjax.outcomes.parquet import refuse_foreign
from satjax.outcomes.table import SPLITS, Candidate, Item, OutcomeTable

NAME, VERSION = "satjax_outcomes", "1.0.0"
TEXT = ("id", "text", "task", "category", "source", "answer")


def write_tfds(table: OutcomeTable, directory: Path | str) -> None:
    """Writes one example per item, by split: its fields, and the scores and costs of all candidates; candidates stand in the metadata.

    Raises SatjaxError for a table without items or candidates, and where `directory` holds anything but such a dataset.
    """
    if not table.items or not table.candidates:
        raise SatjaxError(f"outcome table for {directory}: it is empty; a TFDS dataset needs items and candidates")
    refuse_foreign(Path(directory), (NAME,))
    with replacing(Path(directory)) as fresh:
        import tensorflow_datasets as tfds

        tfds.disable_progress_bar()
        # What tfds prints there speaks of a download, and of the temporary directory.
        with contextlib.redirect_stdout(io.StringIO()):
            builder = _builder_class()(table, data_dir=str(fresh), file_format="array_record")
            builder.download_and_prepare()
        shutil.rmtree(fresh / "downloads", ignore_errors=True)


def read_tfds(directory: Path | str) -> OutcomeTable:
    """Reads what `write_tfds` wrote, items in the order of the table that was written; costs without any value as None.

    Raises SatjaxError for a directory that is absent, incomplete or damaged.
    """
    if not is_tfds(Path(directory)):
        raise SatjaxError(f"outcomes {directory}: there is no TFDS dataset; give a directory that write_tfds wrote")
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(str(_version_dir(Path(directory))))
        metadata = builder.info.metadata
        candidates = tuple(Candidate(**value) for value in json.loads(metadata["candidates"]))
        examples = [dict(example) for split in builder.info.splits for example in builder.as_data_source(split=split)]
        if len(examples) != int(metadata["num_items"]):
            raise ValueError(f"{len(examples)} of {metadata['num_items']} items are there")
    except Exception as error:  # tfds raises many kinds for a damaged directory
        raise SatjaxError(
            f"outcomes {directory} cannot be read as a TFDS dataset ({' '.join(str(error).split())[:120]}); write it again"
        ) from error
    examples.sort(key=lambda example: int(example["position"]))
    items = tuple(_item(example) for example in examples)
    scores = np.stack([example["scores"] for example in examples], axis=1).astype(np.float32)
    cost = np.stack([example["cost_usd"] for example in examples], axis=1).astype(np.float32)
    return OutcomeTable(items, candidates, scores, None if np.isnan(cost).all() else cost)


def is_tfds(directory: Path) -> bool:
    """Whether a directory, or the version directory inside it, was written by `write_tfds`."""
    return (_version_dir(directory) / "dataset_info.json").is_file()


def _version_dir(directory: Path) -> Path:
    return directory if (directory / "dataset_info.json").is_file() else directory / NAME / VERSION


def _item(example: dict[str, Any]) -> Item:
    text = {name: example[name].decode() for name in TEXT}
    answer = text.pop("answer")
    return Item(**text, split=SPLITS[int(example["split"])], answer=answer if example["has_answer"] else None)


@functools.cache
def _builder_class() -> Any:
    """The builder, made late because importing tfds takes a moment, and once because tfds registers a name once."""
    import tensorflow_datasets as tfds

    class SatjaxOutcomes(tfds.core.GeneratorBasedBuilder):
        """Outcomes of candidate LLMs on instructions."""

        VERSION = tfds.core.Version(VERSION)
        name = NAME
        # Nothing is downloaded. Looking for checksums imports importlib_resources, which tfds does not declare on Python 3.11.
        url_infos = None

        def __init__(self, table: OutcomeTable, **kwargs: Any):
            self.table = table
            super().__init__(**kwargs)

        def _info(self) -> tfds.core.DatasetInfo:
            candidates = self.table.candidates
            per_candidate = tfds.features.Tensor(shape=(len(candidates),), dtype=np.float32)
            numbers = {"position": np.int64, "split": np.int64, "has_answer": np.bool_}
            texts = {name: tfds.features.Text() for name in TEXT}
            return tfds.core.DatasetInfo(
                builder=self,
                description="Outcomes of candidate LLMs on instructions.",
                features=tfds.features.FeaturesDict(
                    texts | numbers | {"scores": per_candidate, "cost_usd": per_candidate}
                ),
                metadata=tfds.core.MetadataDict(
                    candidates=json.dumps([asdict(candidate) for candidate in candidates]),
                    num_items=len(self.table.items),
                ),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            present = {item.split for item in self.table.items}
            return {split: self._generate_examples(split) for split in SPLITS if split in present}

        def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
            table = self.table
            no_cost = np.full(len(table.candidates), np.nan, np.float32)
            for n, item in enumerate(table.items):
                if item.split == split:
                    example: dict[str, Any] = {name: getattr(item, name) or "" for name in TEXT}
                    example |= {"position": n, "split": SPLITS.index(split), "has_answer": item.answer is not None}
                    example["scores"] = table.scores_MN[:, n]
                    example["cost_usd"] = no_cost if table.cost_usd_MN is None else table.cost_usd_MN[:, n]
                    yield item.id, example

    return SatjaxOutcomes
