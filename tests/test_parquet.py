"""The native Parquet form: exact round trips, real files, and one clear line for each way a directory can be wrong."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from satjax.errors import SatjaxError
from satjax.outcomes.arrow_types import is_text
from satjax.outcomes.parquet import read_responses, read_table, write_table
from satjax.outcomes.parquet_batches import batches
from satjax.outcomes.responses import Responses
from satjax.outcomes.table import Candidate, Item, OutcomeTable
from tests.seconds import seconds
from tests.test_table import assert_same, small, tables


@given(tables())
@settings(max_examples=40)
def test_round_trip_is_exact(table):
    with tempfile.TemporaryDirectory() as directory:
        write_table(table, directory)
        assert_same(table, read_table(directory))


def test_files_are_zstd_and_an_earlier_table_is_replaced(tmp_path):
    write_table(small(), tmp_path / "t")
    write_table(small().split("test"), tmp_path / "t")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t"]
    assert read_table(tmp_path / "t").item_ids == ("i2",)
    for path in (tmp_path / "t").iterdir():
        assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_foreign_files_are_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SatjaxError, match=r"thesis\.tex"):
        write_table(small(), tmp_path)
    with pytest.raises(SatjaxError, match="is a file"):
        write_table(small(), tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def of_many_items(num_items: int) -> OutcomeTable:
    items = tuple(Item(f"item/{n}", f"text {n}", "task") for n in range(num_items))
    scores = np.random.default_rng(0).random((2, num_items), np.float32)
    return OutcomeTable(items, (Candidate("a"), Candidate("b")), scores)


def write_in_groups(path: Path) -> None:
    """As a writer does that writes each piece of a log as it comes."""
    table = pq.read_table(path)
    plain = pa.table({name: pa.array(table[name].to_pylist()) for name in table.column_names})
    pq.write_table(plain, path, row_group_size=500)


def test_ten_times_the_rows_take_about_ten_times_as_long_to_read(tmp_path):
    def taken(num_items):
        items = tuple(Item(f"item/{n}", f"text {n}", "task") for n in range(num_items))
        candidates = tuple(Candidate(f"candidate {m}") for m in range(25))
        table = OutcomeTable(items, candidates, np.random.default_rng(0).random((25, num_items), np.float32))
        write_table(table, tmp_path / f"{num_items}")
        assert_same(table, read_table(tmp_path / f"{num_items}"))
        return seconds(lambda: read_table(tmp_path / f"{num_items}"))

    assert (many := taken(10_000)) < 40 * max(taken(1_000), 0.01)
    assert many < 2.0


@pytest.mark.parametrize(
    ("name", "shape", "best", "has_cost"),
    [
        ("mmlu_pro", (25, 9881), 0.703, False),
        ("routerbench", (11, 3162), 0.880, True),
        ("routellm_mmlu", (2, 13937), 0.806, False),
        ("alpaca_eval", (40, 671), 0.714, False),
        ("llmrouter", (9, 5989), 0.620, False),
    ],
)
def test_real_tables(shared_data, name, shape, best, has_cost):
    table = read_table(shared_data / name)
    assert table.scores_MN.shape == shape
    assert np.nanmean(table.scores_MN, axis=1).max() == pytest.approx(best, abs=2e-3)
    assert (table.cost_usd_MN is not None) == has_cost
    assert {item.split for item in table.items} <= {"train", "val", "test"}


@pytest.fixture
def written(tmp_path) -> Path:
    write_table(small(), tmp_path / "t")
    return tmp_path / "t"


def change(path: Path, column: str, values: pa.Array | list | None) -> None:
    """Replaces a column, or drops it."""
    table = pq.read_table(path)
    index = table.column_names.index(column)
    table = (
        table.remove_column(index)
        if values is None
        else table.set_column(index, column, pa.chunked_array([pa.array(values)]))
    )
    pq.write_table(table, path)


def error_of(directory: Path) -> str:
    with pytest.raises(SatjaxError) as caught:
        read_table(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_directory_and_file(tmp_path, written):
    assert "no such directory" in error_of(tmp_path / "absent")
    (written / "models.parquet").unlink()
    assert "models.parquet: this file is missing" in error_of(written)


@pytest.mark.parametrize("name", ["items", "outcomes", "models"])
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"no parquet\n", lambda data: b""]
)
def test_damaged_files(written, name, damage):
    path = written / f"{name}.parquet"
    path.write_bytes(damage(path.read_bytes()))
    message = error_of(written)
    assert path.name in message
    assert "copy it again" in message


def test_what_is_raised_without_a_word_is_one_line_all_the_same(written, monkeypatch):
    def fails(*_):
        raise MemoryError

    monkeypatch.setattr("satjax.outcomes.parquet._unpacked", fails)
    assert "truncated or no Parquet file (MemoryError)" in error_of(written)


def test_wrong_columns_are_named_together(written):
    change(written / "items.parquet", "task", None)
    change(written / "items.parquet", "text", [1, 2, 3])
    message = error_of(written)
    assert "items.parquet: task is missing; text is int64, not text; required are item_id, text, task, split" in message


@pytest.mark.parametrize(
    ("file", "column", "values", "words"),
    [
        ("outcomes", "score", ["1"] * 6, ("score is string, not a number",)),
        ("outcomes", "cost_usd", ["1"] * 6, ("cost_usd is string, not a number",)),
        ("outcomes", "score", [0.0, 0, 0, 0, 0, 7], ("score 7", "beta", "i2", "rescale")),
        ("outcomes", "score", [0, 0, 0, 0, 0, 2**30 + 1], ("outside", "rescale")),
        ("outcomes", "score", [0.0, 0, 0, 0, 0, float("-inf")], ("outside",)),
        ("outcomes", "cost_usd", [0, 0, 0, 0, 0, -0.5], ("cost -0.5", "beta", "i2", "US dollars")),
        ("outcomes", "cost_usd", [0, float("inf"), 0, 0, 0, float("inf")], ("cost inf", "alpha", "(2 rows)")),
        ("outcomes", "item_id", ["i0", "i1", "i2", "i0", "i1", "ghost"], ("'ghost'", "items.parquet")),
        ("outcomes", "model_id", ["alpha"] * 3 + ["beta"] * 2 + ["gamma"], ("'gamma'", "models.parquet")),
        ("outcomes", "item_id", ["i0", "i1", "i2", "i0", "i1", "i1"], ("'beta'", "two outcomes", "'i1'")),
        ("outcomes", "item_id", ["i0", "i1", "i2", "i0", "i1", None], ("item_id has 1 empty",)),
        ("items", "item_id", ["i0", "i1", "i1"], ("'i1' stands twice",)),
        ("items", "split", ["train", "dev", "test"], ("'dev'", "'i1'")),
        ("items", "text", ["a", "b", ""], ("'i2'", "empty text")),
        ("items", "answer", [1, 2, 3], ("answer is int64, not text",)),
        ("models", "model_id", ["alpha", "alpha"], ("'alpha' stands twice",)),
        ("models", "release_date", ["2024-05", "2024-5"], ("'beta'", "release_date '2024-5'", "YYYY-MM")),
        ("models", "params_b", ["7B", "8B"], ("params_b is string, not a number",)),
    ],
)
def test_wrong_contents_name_file_and_entry(written, file, column, values, words):
    change(written / f"{file}.parquet", column, values)
    message = error_of(written)
    for word in (f"{file}.parquet", *words):
        assert word in message
    assert str(written / f"{file}.parquet") in message.split(":")[0]


LATIN_1 = pa.array([b"caf\xe9", b"b", b"c"], pa.binary()).view(pa.string())


@pytest.mark.parametrize("values", [LATIN_1, LATIN_1.dictionary_encode()], ids=["plain", "dictionary"])
@pytest.mark.parametrize("column", ["item_id", "text", "answer"])
def test_text_in_another_encoding_is_named_by_its_column(written, column, values):
    change(written / "items.parquet", column, values)
    assert f"items.parquet: {column} is not UTF-8" in error_of(written)


def test_responses_in_another_encoding_are_named(tmp_path):
    write_table(small(), tmp_path / "t", responses())
    change(tmp_path / "t" / "responses.parquet", "response", LATIN_1.take([0, 1, 2, 1, 1]))
    with pytest.raises(SatjaxError, match=r"responses\.parquet: response is not UTF-8"):
        read_responses(tmp_path / "t", small())


def test_scores_that_rounding_puts_outside_count_as_the_end(written):
    change(
        written / "outcomes.parquet", "score", [1.0000000000000002, -1e-17, 0.5, float(np.float32(1) + 2**-23), 0, 1]
    )
    assert read_table(written).scores_MN.tolist() == [[1, 0, 0.5], [1, 0, 1]]


def test_a_table_of_nothing_is_refused(written):
    pq.write_table(pq.read_table(written / "items.parquet").slice(0, 0), written / "items.parquet")
    assert "items.parquet has no rows" in error_of(written)


def test_optional_columns_may_be_absent_null_or_dictionaries(written):
    for column in ("params_b", "active_params_b", "tuned"):
        change(written / "models.parquet", column, None)
    change(written / "models.parquet", "source", pa.nulls(2))
    change(written / "models.parquet", "family", pa.array(["llama", "llama"]).dictionary_encode())
    change(written / "outcomes.parquet", "cost_usd", pa.nulls(6))
    change(written / "items.parquet", "answer", None)
    table = read_table(written)
    assert table.candidates[1] == Candidate("beta", family="llama")
    assert table.cost_usd_MN is None
    assert table.items == small().items


@pytest.mark.parametrize("rows", [6, 0])
@pytest.mark.parametrize(
    "kind",
    [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    ids=["64 bit", "view", "categories"],
)
def test_texts_are_read_as_pandas_and_polars_store_them(tmp_path, kind, rows):
    plain, stored = tmp_path / "plain", tmp_path / "stored"
    for directory in (plain, stored):
        write_table(small(), directory, responses())
    for name in ("outcomes", "responses"):
        pq.write_table(pq.read_table(plain / f"{name}.parquet").slice(0, rows), plain / f"{name}.parquet")
    for path in plain.iterdir():
        table = pq.read_table(path)
        texts = [field.name for field in table.schema if is_text(field.type)]
        assert texts
        for name in texts:
            column = pa.array(table[name].to_pylist(), pa.string())
            column = (column.dictionary_encode() if pa.types.is_dictionary(kind) else column).cast(kind)
            table = table.set_column(table.column_names.index(name), name, column)
        pq.write_table(table, stored / path.name)
        assert all(pq.read_schema(stored / path.name).field(name).type == kind for name in texts)
    assert_same(read_table(plain), read_table(stored))
    assert (
        read_responses(plain, small()).texts
        == read_responses(stored, small()).texts
        == (("yes", "no", "") if rows else ())
    )


def test_absent_rows_are_unobserved(written):
    pq.write_table(pq.read_table(written / "outcomes.parquet").slice(0, 2), written / "outcomes.parquet")
    np.testing.assert_array_equal(read_table(written).scores_MN, [[0, 1, np.nan], [np.nan] * 3])


def responses() -> Responses:
    return Responses(
        ("alpha", "beta"), ("i0", "i1", "i2"), ("yes", "no", ""), np.array([[0, 1, -1], [1, 1, 2]], np.int32)
    )


def texts_of(found: Responses, table: OutcomeTable) -> list[list[str | None]]:
    return [[None if place < 0 else found.texts[place] for place in row] for row in found.places(table).tolist()]


def test_responses_round_trip_and_go_with_their_table(tmp_path):
    write_table(small(), tmp_path / "t", responses())
    read = read_responses(tmp_path / "t", read_table(tmp_path / "t"))
    assert texts_of(read, small()) == texts_of(responses(), small()) == [["yes", "no"], ["no", "no"], [None, ""]]
    write_table(small().split("test"), tmp_path / "t")
    assert read_responses(tmp_path / "t", small()) is None
    assert len(read_table(tmp_path / "t").items) == 1


def test_real_responses(shared_data):
    table = read_table(shared_data / "routerbench")
    found = read_responses(shared_data / "routerbench", table)
    assert (found.place_MN >= 0).sum() == 11 * 2737
    assert read_responses(shared_data / "mmlu_pro", table) is None


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("response", None, ("response is missing",)),
        ("response", [1, 2, 3, 4, 5], ("response is int64, not text",)),
        ("response", ["a", "b", "c", "d", None], ("response has 1 empty",)),
        ("item_id", ["i0", "i1", "i0", "i1", "ghost"], ("'ghost'", "items.parquet")),
        ("model_id", ["alpha"] * 2 + ["beta"] * 2 + ["gamma"], ("'gamma'", "models.parquet")),
        ("item_id", ["i0", "i1", "i0", "i1", "i1"], ("'beta' has two responses to item 'i1'",)),
    ],
)
def test_wrong_responses_name_file_and_entry(tmp_path, column, values, words):
    write_table(small(), tmp_path / "t", responses())
    change(tmp_path / "t" / "responses.parquet", column, values)
    with pytest.raises(SatjaxError) as caught:
        read_responses(tmp_path / "t", small())
    for word in ("responses.parquet", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("in_groups", [True, False])
def test_ids_of_a_file_in_many_pieces_are_looked_up_at_once(tmp_path, monkeypatch, in_groups):
    table = of_many_items(12_000)
    given = Responses(table.candidate_ids, table.item_ids, ("yes",), np.zeros((2, 12_000), np.int32))
    write_table(table, tmp_path, given)
    for name in ("outcomes", "responses") if in_groups else ():
        write_in_groups(tmp_path / f"{name}.parquet")
    calls = []
    index_in = pc.index_in
    monkeypatch.setattr(pc, "index_in", lambda *given, **options: calls.append(1) or index_in(*given, **options))
    assert_same(read_table(tmp_path), table)
    found = read_responses(tmp_path, table)
    assert (found.places(table) == 0).all()
    assert len(calls) == 4  # models and items, of outcomes and of responses


def test_responses_are_not_read_with_all_of_them_in_each_batch(tmp_path):
    table = of_many_items(12_000)
    texts = tuple(f"{n} {'x' * 200}" for n in range(24_000))
    write_table(
        table,
        tmp_path,
        Responses(table.candidate_ids, table.item_ids, texts, np.arange(24_000, dtype=np.int32).reshape(2, -1)),
    )
    with pq.ParquetFile(tmp_path / "responses.parquet", read_dictionary=["response"]) as file:
        dictionaries = [batch["response"].dictionary for batch in batches(file, ["response"])]
    assert sum(map(len, dictionaries)) < 3 * len(texts)
    assert read_responses(tmp_path, table).texts == texts


def test_texts_that_a_small_file_says_many_times_are_not_unpacked_without_end(written, monkeypatch):
    text = pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), pa.array(["x" * 10_000]))
    names = [f"item {n}" for n in range(20_000)]
    items = {"item_id": names, "text": text, "task": ["t"] * 20_000, "split": ["train"] * 20_000}
    pq.write_table(pa.table(items), written / "items.parquet")
    assert (written / "items.parquet").stat().st_size < 200_000
    monkeypatch.setattr("satjax.outcomes.parquet.LARGEST", 50_000_000)
    with pytest.raises(
        SatjaxError, match=r"items\.parquet unpacks to more than 50,000,000 bytes; leave some of it out"
    ):
        read_table(written)


def test_more_rows_than_pairs_are_not_read_to_their_end(written):
    rows = 3_000_000
    name = lambda value: pa.DictionaryArray.from_arrays(np.zeros(rows, np.int8), pa.array([value]))  # noqa: E731
    outcomes = {"model_id": name("alpha"), "item_id": name("i0"), "score": np.ones(rows, np.float32)}
    pq.write_table(pa.table(outcomes), written / "outcomes.parquet")
    with pytest.raises(SatjaxError, match="more rows than there are pairs of a model and an item"):
        read_table(written)


def test_two_columns_of_one_name_are_an_error(written):
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["model_id", "model_id"])
    pq.write_table(twice, written / "models.parquet")
    with pytest.raises(SatjaxError, match=r"models\.parquet: two columns are named 'model_id'"):
        read_table(written)
