"""Opens an outcome table by whatever a user names it."""

from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path

from satjax.errors import SatjaxError
from satjax.outcomes.parquet import read_table
from satjax.outcomes.splits import folded, validation_from_train
from satjax.outcomes.synthetic import synthetic_zoo
from satjax.outcomes.table import OutcomeTable
from satjax.outcomes.tfds_dataset import is_tfds, read_tfds


def open_outcomes(source: str | Path) -> OutcomeTable:
    """What `read_outcomes` reads, ready for training and evaluation.

    A table that has training items and none for validation gets a tenth of them for that (`satjax.outcomes.splits`), since settings and
    probabilities are chosen there.
    """
    return with_validation(read_outcomes(source))


def with_validation(table: OutcomeTable) -> OutcomeTable:
    """The table as it is, or, where it has no validation items, with a tenth of its training items in their place."""
    if table.of_split("val").any():
        return table
    items = (replace(i, split=validation_from_train(i.split, i.text)) for i in table.items)
    return replace(table, items=tuple(items))


def with_common_validation(tables: Mapping[str, OutcomeTable]) -> dict[str, OutcomeTable]:
    """Tables that are to be merged, with the validation items in them that opening each alone would make.

    Otherwise they would be trained on where another table has validation items of its own. An instruction that one table has for validation
    is for validation in all of them.
    """
    moved = {
        folded(was.text)
        for table in tables.values()
        for was, now in zip(table.items, with_validation(table).items, strict=True)
        if was.split != now.split
    }
    return {name: _for_validation(table, moved) for name, table in tables.items()}


def _for_validation(table: OutcomeTable, texts: Set[str]) -> OutcomeTable:
    items = (replace(i, split="val") if i.split == "train" and folded(i.text) in texts else i for i in table.items)
    return replace(table, items=tuple(items))


def read_outcomes(source: str | Path) -> OutcomeTable:
    """A directory of Parquet files in the native form, one that `write_tfds` wrote, or `synthetic` / `synthetic:SEED`, as it is.

    Raises SatjaxError with one line for anything else.
    """
    kind, _, seed = str(source).partition(":")
    if kind == "synthetic" and not Path(source).exists():
        if seed and not (seed.isascii() and seed.isdecimal()):
            raise SatjaxError(f"outcomes {source}: the seed of the synthetic zoo is a whole number, as in synthetic:7")
        return synthetic_zoo(int(seed or 0))
    return read_tfds(Path(source)) if is_tfds(Path(source)) else read_table(source)
