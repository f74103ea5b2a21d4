"""The native form of an outcome table: `items.parquet`, `outcomes.parquet`, `models.parquet` in one directory.

A fourth file, `responses.parquet`, may hold what the candidates answered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from satjax.errors import SatjaxError, first_line
from satjax.files import replacing
from satjax.outcomes.arrow_types import is_text, value_type
from satjax.outcomes.parquet_batches import batches, unpacked_size
from satjax.outcomes.responses import NONE, Responses
from satjax.outcomes.table import ROUNDING, Candidate, Item, OutcomeTable, check_size

ITEM_TEXT = ("item_id", "source", "task", "category", "text", "answer", "split")
MODEL_NUMBERS, MODEL_TEXT = ("params_b", "active_params_b"), ("family", "tuned", "release_date", "source")
FILES = ("items.parquet", "outcomes.parquet", "models.parquet")
RESPONSES = "responses.parquet"
LARGEST = 2**32
"""Bytes of a file's columns, unpacked: a Parquet file of a few kilobytes can say one long text a million times."""


@dataclass(frozen=True)
class Column:
    """A column that is read, of text or of numbers; what is `needed` is there in every row."""

    name: str
    is_number: bool = False
    needed: bool = True


OF_ITEMS = (
    *map(Column, ("item_id", "text", "task", "split")),
    *(Column(name, needed=False) for name in ("source", "category", "answer")),
)
OF_MODELS = (
    Column("model_id"),
    *(Column(name, is_number=True, needed=False) for name in MODEL_NUMBERS),
    *(Column(name, needed=False) for name in MODEL_TEXT),
)
OF_OUTCOMES = (
    *map(Column, ("model_id", "item_id")),
    Column("score", is_number=True),
    Column("cost_usd", is_number=True, needed=False),
)
OF_RESPONSES = tuple(map(Column, ("model_id", "item_id", "response")))


def read_table(directory: Path | str) -> OutcomeTable:
    """Reads a directory in the native form.

    Raises SatjaxError, naming the file and the mend, for files that are missing, truncated or no Parquet, for columns that are
    missing or of another type, for dates of release that are none, for outcomes of items or models that are not listed, and for two outcomes of one pair.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise SatjaxError(
            f"outcomes {directory}: there is no such directory; give one that holds {', '.join(FILES)} (`satjax train`: --config.data.outcomes=DIR)"
        )
    items_table = _read(directory / "items.parquet", OF_ITEMS)
    if not len(items_table):
        raise SatjaxError(f"{directory / 'items.parquet'} has no rows; there is nothing in this table")
    _distinct(items_table["item_id"], directory / "items.parquet")
    models_table = _read(directory / "models.parquet", OF_MODELS)
    _distinct(models_table["model_id"], directory / "models.parquet")
    check_size(len(models_table), len(items_table))
    where = directory / "outcomes.parquet"
    outcomes = _read(where, OF_OUTCOMES, pairs=len(models_table) * len(items_table))
    items = tuple(
        Item(r["item_id"], r["text"], r["task"], r["category"] or "", r["source"] or "", r["split"], r["answer"])
        for r in items_table.to_pylist()
    )
    candidates = _candidates(models_table, directory / "models.parquet")
    rows = _positions(outcomes["model_id"], models_table["model_id"], where, "models.parquet")
    columns = _positions(outcomes["item_id"], items_table["item_id"], where, "items.parquet")
    score = _floats(outcomes["score"])
    if len(outside := np.flatnonzero((score < -ROUNDING) | (score > 1 + ROUNDING))):
        first = outside[0]
        raise SatjaxError(
            f"{where}: score {score[first]:.9g} of model {candidates[rows[first]].id!r} on item {items[columns[first]].id!r} is outside "
            f"[0, 1]; rescale the scores ({len(outside)} rows)"
        )
    if pair := _first_twice(rows, columns):
        m, n = pair
        raise SatjaxError(f"{where}: model {candidates[m].id!r} has two outcomes on item {items[n].id!r}; keep one")
    scores = np.full((len(candidates), len(items)), np.nan, np.float32)
    scores[rows, columns] = np.clip(score, 0, 1)
    paid = _floats(outcomes["cost_usd"])
    if len(odd := np.flatnonzero((paid < 0) | np.isinf(paid))):
        first = odd[0]
        raise SatjaxError(
            f"{where}: cost {paid[first]:g} of model {candidates[rows[first]].id!r} on item {items[columns[first]].id!r} is no amount of "
            f"US dollars; mend or empty it ({len(odd)} rows)"
        )
    cost = np.full_like(scores, np.nan)
    cost[rows, columns] = paid
    try:
        return OutcomeTable(items, candidates, scores, None if np.isnan(cost).all() else cost)
    except SatjaxError as error:
        raise SatjaxError(f"{directory / 'items.parquet'}: {error}") from error


def _candidates(table: pa.Table, where: Path) -> tuple[Candidate, ...]:
    told = (*MODEL_NUMBERS, *MODEL_TEXT)
    try:
        return tuple(Candidate(r["model_id"], **{name: r[name] for name in told}) for r in table.to_pylist())
    except SatjaxError as error:
        raise SatjaxError(f"{where}: {error}") from error


def _first_twice(rows: np.ndarray, columns: np.ndarray) -> tuple[int, int] | None:
    """The first pair of a row and a column that stands twice, in the order of a matrix."""
    if not len(rows):
        return None
    width = int(columns.max()) + 1
    flat = np.sort(rows * width + columns)
    twice = flat[1:][flat[1:] == flat[:-1]]
    return divmod(int(twice[0]), width) if len(twice) else None


def read_responses(directory: Path | str, table: OutcomeTable) -> Responses | None:
    """The responses beside a table that was read from there, or None where that directory holds none.

    Raises SatjaxError, naming the file and the mend, for a file that cannot be read, responses of items or models that the table does not
    list, and two responses of one pair.
    """
    where = Path(directory) / RESPONSES
    if not where.is_file():
        return None
    found = _read(where, OF_RESPONSES)
    rows = _positions(found["model_id"], pa.chunked_array([pa.array(table.candidate_ids)]), where, "models.parquet")
    columns = _positions(found["item_id"], pa.chunked_array([pa.array(table.item_ids)]), where, "items.parquet")
    if pair := _first_twice(rows, columns):
        m, n = pair
        raise SatjaxError(
            f"{where}: model {table.candidate_ids[m]!r} has two responses to item {table.item_ids[n]!r}; keep one"
        )
    encoded = _plain(found["response"]).combine_chunks().dictionary_encode()
    place_MN = np.full(table.scores_MN.shape, NONE, np.int32)
    place_MN[rows, columns] = encoded.indices.to_numpy()
    return Responses(table.candidate_ids, table.item_ids, tuple(encoded.dictionary.to_pylist()), place_MN)


def write_table(table: OutcomeTable, directory: Path | str, responses: Responses | None = None) -> None:
    """Writes the native form, whole or not at all; an earlier table in `directory` is replaced, and its responses with it.

    A cost matrix without any value reads back as None. Raises SatjaxError where `directory` holds anything but an outcome table.
    """
    refuse_foreign(Path(directory), (*FILES, RESPONSES))
    items = pa.table(
        {name: [getattr(item, name.replace("item_id", "id")) for item in table.items] for name in ITEM_TEXT},
        schema=_ITEMS,
    )
    columns = ("model_id", *MODEL_NUMBERS, *MODEL_TEXT)
    models = pa.table(
        {name: [getattr(c, name.replace("model_id", "id")) for c in table.candidates] for name in columns},
        schema=_MODELS,
    )
    observed = ~np.isnan(table.scores_MN)
    if table.cost_usd_MN is not None:
        observed |= ~np.isnan(table.cost_usd_MN)
    m, n = np.nonzero(observed)
    cost = np.full(len(m), np.nan, np.float32) if table.cost_usd_MN is None else table.cost_usd_MN[m, n]
    outcomes = pa.table(
        {
            "model_id": pa.DictionaryArray.from_arrays(m.astype(np.int32), pa.array(table.candidate_ids, pa.string())),
            "item_id": pa.DictionaryArray.from_arrays(n.astype(np.int32), pa.array(table.item_ids, pa.string())),
            "score": pa.array(table.scores_MN[m, n], pa.float32()),
            "cost_usd": pa.array(cost, pa.float32(), from_pandas=True),
        }
    )
    with replacing(Path(directory)) as fresh:
        for name, part in zip(FILES, (items, outcomes, models), strict=True):
            pq.write_table(part, fresh / name, compression="zstd")
        if responses is not None:
            pq.write_table(_responses(responses, table), fresh / RESPONSES, compression="zstd")


def _responses(responses: Responses, table: OutcomeTable) -> pa.Table:
    place_MN = responses.places(table).T
    m, n = np.nonzero(place_MN != NONE)
    columns = (
        ("model_id", m, table.candidate_ids),
        ("item_id", n, table.item_ids),
        ("response", place_MN[m, n], responses.texts),
    )
    return pa.table(
        {
            name: pa.DictionaryArray.from_arrays(index.astype(np.int32), pa.array(values, pa.string()))
            for name, index, values in columns
        }
    )


def refuse_foreign(directory: Path, ours: Sequence[str]) -> None:
    """Raises SatjaxError unless `directory` is absent, empty, or holds nothing but `ours`: writing replaces it whole."""
    if directory.exists() and not directory.is_dir():
        raise SatjaxError(f"{directory} is a file; name a directory to write the outcome table to")
    foreign = sorted(path.name for path in directory.iterdir() if path.name not in ours) if directory.is_dir() else []
    if foreign:
        raise SatjaxError(
            f"{directory} holds other files ({foreign[0]!r}) that writing would remove; name a new directory"
        )


_ITEMS = pa.schema([(name, pa.string()) for name in ITEM_TEXT])
_MODELS = pa.schema(
    [("model_id", pa.string()), *((n, pa.float64()) for n in MODEL_NUMBERS), *((n, pa.string()) for n in MODEL_TEXT)]
)


def _read(path: Path, columns: Sequence[Column], pairs: int | None = None) -> pa.Table:
    """These columns of one file, checked; those that it need not have are filled with null.

    With `pairs` it has that many rows at most, and otherwise LARGEST bytes.
    """
    if not path.is_file():
        raise SatjaxError(f"{path}: this file is missing; an outcome table needs {', '.join(FILES)}")
    names = [column.name for column in columns]
    try:
        table = _unpacked(path, names, pairs)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise SatjaxError(
            f"{path} is truncated or no Parquet file ({first_line(error, 120)}); write or copy it again"
        ) from error
    there = [column for column in columns if column.name in table.column_names]
    problems = [f"{column.name} is missing" for column in columns if column.needed and column not in there]
    problems += [fault for column in there if (fault := _fault(column, table[column.name]))]
    if problems:
        needed = ", ".join(column.name for column in columns if column.needed)
        raise SatjaxError(f"{path}: {'; '.join(problems)}; required are {needed}, write the file again so")
    for name in names:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table)))
    return table.select(names)


def _fault(column: Column, values: pa.ChunkedArray) -> str | None:
    """What is wrong with a column of a file."""
    kind = value_type(values.type)
    if pa.types.is_null(kind) and not column.needed:
        return None
    if column.is_number and not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        return f"{column.name} is {kind}, not a number"
    if not column.is_number and not is_text(kind):
        return f"{column.name} is {kind}, not text"
    if column.needed and values.null_count:
        return f"{column.name} has {values.null_count} empty values"
    return None if column.is_number or _is_utf8(values) else f"{column.name} is not UTF-8"


def _unpacked(path: Path, wanted: Sequence[str], pairs: int | None) -> pa.Table:
    """Those of the wanted columns that a file has, texts as dictionaries; raises SatjaxError where they are more than they may be."""
    schema = pq.read_schema(path)
    if twice := [name for name in wanted if schema.names.count(name) > 1]:
        raise SatjaxError(f"{path}: two columns are named {twice[0]!r}; write the file again with one")
    present = [name for name in wanted if name in schema.names]
    flat = [name for name in present if not pa.types.is_nested(schema.field(name).type)]
    with pq.ParquetFile(path, read_dictionary=flat) as file:
        read: list[pa.RecordBatch] = []
        size = 0
        for batch in batches(file, present) if pairs is None else file.iter_batches(2**20, columns=present):
            read.append(batch)
            size += len(batch) if pairs is not None else unpacked_size(batch)
            if pairs is not None and size > pairs:
                raise SatjaxError(
                    f"{path}: it has more rows than there are pairs of a model and an item, so one has two outcomes; keep one of each"
                )
            if pairs is None and size > LARGEST:
                raise SatjaxError(f"{path} unpacks to more than {LARGEST:,} bytes; leave some of it out")
        schema = read[0].schema if read else pa.schema([file.schema_arrow.field(name) for name in present])
    return pa.Table.from_batches(read, schema)


def _is_utf8(column: pa.ChunkedArray) -> bool:
    """Arrow takes the bytes of a file for text as they are, until somebody reads one."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False).astype(np.float32)


def _distinct(ids: pa.ChunkedArray, where: Path) -> None:
    counts = pc.value_counts(_plain(ids))
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise SatjaxError(f"{where}: {twice[0]['values'].as_py()!r} stands twice; keep one of them")


def _plain(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without dictionary, whose index type in real files differs from column to column."""
    if pa.types.is_dictionary(ids.type):
        ids = ids.cast(pa.dictionary(pa.int32(), pa.large_string()))
    return ids.cast(pa.large_string())


def _positions(ids: pa.ChunkedArray, known: pa.ChunkedArray, where: Path, listed_in: str) -> np.ndarray:
    """Index in `known` of every id."""
    # Of the whole column at once: each look-up makes a hash table of all that is known.
    found = pc.index_in(_plain(ids), value_set=_plain(known).combine_chunks())
    if found.null_count:
        first = ids.filter(pc.is_null(found))[0].as_py()
        raise SatjaxError(
            f"{where}: {first!r} is not in {listed_in}; list it there, or drop its outcomes ({found.null_count} rows)"
        )
    return found.to_numpy().astype(np.int64)
