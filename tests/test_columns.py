"""CSV and JSONL with named columns: long and wide tables, defaults, and every mistake by its row."""

import csv
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.errors import SatjaxError
from satjax.outcomes.importers.columns import import_csv, import_jsonl, import_parquet
from satjax.outcomes.splits import split_of
from satjax.policy.conversation import scored_text

NAMES = ["item_id", "text", "model_id", "score"]


def write_csv(path: Path, *rows: list, header: list[str] = NAMES) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def write_jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_native_names_are_the_default(tmp_path):
    header = [*NAMES, "task", "category", "source", "answer", "split", "cost_usd"]
    rows = [
        ["i", "What?", "a", "1", "t", "c", "s", "that", "test", "0.5"],
        ["i", "What?", "b", "0.25", "t", "c", "s", "that", "test", ""],
        ["j", "Why?", "a", "", "t", "c", "s", "", "", "2"],
    ]
    table = import_csv([write_csv(tmp_path / "long.csv", *rows, header=header)])
    assert table.candidate_ids == ("a", "b")
    np.testing.assert_array_equal(table.scores_MN, [[1, np.nan], [0.25, np.nan]])
    np.testing.assert_array_equal(table.cost_usd_MN, [[0.5, 2], [np.nan, np.nan]])
    first, second = table.items
    assert (first.id, first.task, first.category, first.source, first.answer) == ("i", "t", "c", "s", "that")
    assert (first.split, second.split, second.answer) == ("test", split_of("Why?"), None)


def test_named_columns_and_ids_by_the_text(tmp_path):
    rows = [["What?", "a", "1"], ["What?", "b", "0"], ["Why?", "a", "0"]]
    path = write_csv(tmp_path / "log.csv", *rows, header=["prompt", "llm", "right"])
    table = import_csv([path], "text=prompt, candidate=llm,score=right")
    assert table.candidate_ids == ("a", "b")
    np.testing.assert_array_equal(table.scores_MN, [[1, 0], [0, np.nan]])
    assert len(table.item_ids[0]) == 16


def test_a_column_for_each_candidate(tmp_path):
    rows = [{"prompt": "What?", "a": True, "b": 0.5}, {"prompt": "Why?", "a": None, "b": "1"}]
    table = import_jsonl([write_jsonl(tmp_path / "wide.jsonl", *rows)], "text=prompt,scores=a,scores=b")
    assert table.candidate_ids == ("a", "b")
    np.testing.assert_array_equal(table.scores_MN, [[1, np.nan], [0.5, 1]])


@given(
    st.dictionaries(
        st.tuples(st.text(min_size=1, max_size=4), st.sampled_from("abc")),
        st.floats(0, 1, width=32) | st.none(),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=50)
def test_both_forms_say_the_same(tmp_path_factory, outcomes):
    outcomes = {(text, name): score for (text, name), score in outcomes.items() if text.strip()}
    if not outcomes:
        return
    folder = tmp_path_factory.mktemp("forms")
    rows = [{"item_id": text, "text": text, "model_id": name, "score": s} for (text, name), s in outcomes.items()]
    lines = import_jsonl([write_jsonl(folder / "a.jsonl", *rows)])
    as_text = [[r["item_id"], r["text"], r["model_id"], "" if r["score"] is None else repr(r["score"])] for r in rows]
    for (text, name), score in outcomes.items():
        cell = lines.scores_MN[lines.candidate_ids.index(name), lines.item_ids.index(text)]
        assert cell == np.float32(score) if score is not None else np.isnan(cell)
    if not any("\r" in text or "\0" in text for text, _ in outcomes):
        table = import_csv([write_csv(folder / "a.csv", *as_text)])
        assert table.items == lines.items
        np.testing.assert_array_equal(table.scores_MN, lines.scores_MN)


def test_booleans_of_a_csv_file_are_scores(tmp_path):
    rows = [["i", "What?", "a", "True"], ["i", "What?", "b", "false"], ["i", "What?", "c", " TRUE "]]
    np.testing.assert_array_equal(import_csv([write_csv(tmp_path / "log.csv", *rows)]).scores_MN, [[1], [0], [1]])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["i", "What?", "a", "yes"], "row 2: score is 'yes', not a number"),
        (["i", "What?", "a", "2"], "row 2: score 2 of 'a' is outside [0, 1]"),
        (["i", " ", "a", "1"], "row 2: item 'i' has an empty text"),
        (["i", "What?", "", "1"], "row 2: the candidate has no name"),
        (["i", "What?"], "row 2: it has another number of fields"),
        (["i", "What?", "a", "1", "more"], "row 2: it has another number of fields"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, words):
    path = write_csv(tmp_path / "bad.csv", row)
    with pytest.raises(SatjaxError) as caught:
        import_csv([path])
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": ["What?"]}, "line 1: text is a list, not text; .* or an instruction as a list of chat messages"),
        ({"text": [{"from": "human", "value": "What?"}]}, "line 1: text is a list, not text"),
        ({"text": [{"role": "user", "content": "What?"}, None]}, "line 1: text is a list, not text"),
        ({"text": []}, "line 1: text is a list, not text"),
        ({"text": [{"role": "system", "content": "Be brief."}]}, "line 1: text is a chat without any text of the user"),
        ({"model_id": {"name": "a"}}, "line 1: model_id is an object, not text"),
    ],
)
def test_what_is_no_text_is_not_written_out_as_one(tmp_path, changes, words):
    row = {"item_id": 3, "text": "What?", "model_id": "a", "score": 1, "answer": ["4", "four"]}
    assert import_jsonl([write_jsonl(tmp_path / "good.jsonl", row)]).item_ids == ("3",)
    with pytest.raises(SatjaxError, match=words):
        import_jsonl([write_jsonl(tmp_path / "bad.jsonl", {**row, **changes})])


CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Translate 'dog' into German."}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    {"role": "tool", "content": "Hund"},
    {"role": "user", "content": "and French?"},
]


def test_of_a_chat_the_text_that_serving_scores(tmp_path):
    row = {"text": CHAT, "model_id": "a", "score": 1}
    as_list = import_jsonl([write_jsonl(tmp_path / "list.jsonl", row)])
    assert (
        [item.text for item in as_list.items] == [scored_text(CHAT)] == ["Translate 'dog' into German.\n\nand French?"]
    )
    assert as_list.items[0].split == split_of(scored_text(CHAT))
    as_json = import_csv([write_csv(tmp_path / "json.csv", [json.dumps(CHAT), "a", 1], header=NAMES[1:])])
    assert as_json.items == as_list.items


@pytest.mark.parametrize("text", ["[1, 2] or [3]?", "[1, 2]", '[{"a": 1}]', "[]", "[" * 50_000, "['Q?']"])
def test_a_text_that_only_looks_like_a_chat_stays_as_it_is(tmp_path, text):
    table = import_jsonl([write_jsonl(tmp_path / "a.jsonl", {"text": text, "model_id": "a", "score": 1})])
    assert table.items[0].text == text


def test_several_answers_to_one_prompt_are_averaged_and_said(tmp_path, caplog):
    header = ["text", "model_id", "score", "cost_usd"]
    rows = [["What?", "a", "1", "1"], ["What?", "a", "0", ""], ["What?", "b", "1", ""], ["What?", "a", "0", "3"]]
    table = import_csv([write_csv(tmp_path / "several.csv", *rows, header=header)])
    np.testing.assert_array_equal(table.scores_MN, np.float32([[1 / 3], [1]]))
    np.testing.assert_array_equal(table.cost_usd_MN, [[2], [np.nan]])
    assert caplog.messages == [
        "1 pairs of an instruction and a candidate have several scores; each counts with their mean"
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_what_was_asked_again_after_it_failed_counts_once(tmp_path, caplog, order):
    rows = [
        ["i", "What?", "a", "", "1"],
        ["i", "What?", "a", "1", "3"],
        ["i", "What?", "b", "", "1"],
        ["i", "What?", "b", "", "1"],
    ]
    table = import_csv([write_csv(tmp_path / "again.csv", *rows[::order], header=[*NAMES, "cost_usd"])])
    scores = dict(zip(table.candidate_ids, table.scores_MN[:, 0].tolist(), strict=True))
    assert scores == {"a": 1, "b": pytest.approx(np.nan, nan_ok=True)}
    costs = dict(zip(table.candidate_ids, table.cost_usd_MN[:, 0].tolist(), strict=True))
    assert costs == {"a": 3, "b": 1}
    assert caplog.messages == []


def test_contradictions(tmp_path):
    rows = [["i", "What?", "a", "1"], ["i", "What?", "a", "1"]]
    header = [*NAMES, "split", "task", "category", "source", "answer"]
    first = ["i", "What?", "a", "1", "test", "x", "y", "z", "4"]
    for place, (name, other) in enumerate(zip(header[4:], ("train", "X", "Y", "Z", "5"), strict=True), 4):
        second = ["i", "What?", "b", "1", *first[4:]]
        second[place] = ""
        table = import_csv([write_csv(tmp_path / "silent.csv", first, second, header=header)])
        assert (table.items[0].split, table.items[0].answer, table.scores_MN.shape) == ("test", "4", (2, 1))
        second[place] = other
        with pytest.raises(
            SatjaxError, match=rf"row 3: item 'i' has the {name} '{other}', and '{first[place]}' in a row"
        ):
            import_csv([write_csv(tmp_path / "apart.csv", first, second, header=header)])
        later = write_csv(tmp_path / "later.csv", [*first[:place], "", *first[place + 1 :]], second, header=header)
        assert getattr(import_csv([later]).items[0], name) == other
    rows[1] = ["i", "Why?", "b", "1"]
    with pytest.raises(SatjaxError, match=r"row 3: item 'i' is another question than before"):
        import_csv([write_csv(tmp_path / "other.csv", *rows)])
    path = write_csv(tmp_path / "split.csv", ["i", "What?", "a", "1", "dev"], header=[*NAMES, "split"])
    with pytest.raises(SatjaxError, match="split 'dev' is none of train, val, test"):
        import_csv([path])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("prompt", "--columns has 'prompt'; write it as"),
        ("text=", "--columns has 'text='"),
        ("txet=prompt", "unknown column 'txet': did you mean 'text'"),
        ("model=model", "'model=model': to the left of = stands one of item, text, candidate, score, task, category"),
        ("prompt=text", "--columns has prompt=text: what the column holds comes first; write text=prompt"),
        (
            "text=prompt",
            "has no column 'prompt', which --columns names for the text; it has 'item_id', 'text', 'model_id', 'score'",
        ),
        ("scores=a", "has no column 'a'"),
        ("task=subjekt", "no row has a column 'subjekt', which --columns names; mend the name, or leave it out"),
        ("split=parts,cost=usd", "no row has a column 'parts'"),
        (
            "scores=score,cost=usd",
            "--columns has scores=score and cost=usd: a row per item, with a column per candidate",
        ),
    ],
)
def test_bad_columns(tmp_path, columns, words):
    with pytest.raises(SatjaxError) as caught:
        import_csv([write_csv(tmp_path / "a.csv", ["i", "What?", "a", "1"])], columns)
    assert words in str(caught.value)


@pytest.mark.parametrize("columns", ["candidate=candidate,item=item", "model_id=candidate,item_id=item"])
def test_columns_that_are_named_as_what_they_hold(tmp_path, columns):
    file = write_csv(tmp_path / "a.csv", ["i", "What?", "a", "1"], header=["item", "text", "candidate", "score"])
    table = import_csv([file], columns)
    assert (table.candidate_ids, table.items[0].id) == (("a",), "i")
    with pytest.raises(SatjaxError) as caught:
        import_csv([file])
    assert str(caught.value).endswith(
        "row 2 has no column 'model_id' for the candidate; say which one holds it: --columns candidate=NAME ('item', 'text', 'candidate', 'score')"
    )


def test_a_named_column_may_be_absent_in_some_rows_of_jsonl(tmp_path):
    row = {"text": "What?", "model_id": "a", "score": 1}
    path = write_jsonl(tmp_path / "a.jsonl", row, {**row, "text": "Why?", "part": "test"})
    assert [item.split for item in import_jsonl([path], "split=part").items][1] == "test"
    with pytest.raises(SatjaxError, match="no row has a column 'parts'"):
        import_jsonl([path], "split=parts")


def test_texts_that_differ_in_blanks_are_one_question(tmp_path):
    rows = (["What  is 2+2?", "a", "1"], ["What is 2+2? ", "b", "0"])
    table = import_csv([write_csv(tmp_path / "a.csv", *rows, header=["text", "model_id", "score"])])
    assert [item.text for item in table.items] == ["What  is 2+2?"]
    assert table.scores_MN.tolist() == [[1.0], [0.0]]


def test_two_columns_of_one_name_are_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("text,a,a,,\nWhat?,0,1,,\n")
    with pytest.raises(SatjaxError, match=r"a\.csv: two columns are named 'a'; rename or drop one"):
        import_csv([tmp_path / "a.csv"], "scores=a")


def test_rows_of_an_item_may_be_told_of_it_in_any_order(tmp_path):
    bare = {"text": "What is 2+2?", "model_id": "a", "score": 1}
    whole = {"task": "math", "category": "sums", "source": "me", "split": "test", "answer": "4"}
    rows = [bare, {**bare, "model_id": "b", "score": 0, **whole}]
    items = [import_jsonl([write_jsonl(tmp_path / "a.jsonl", *order)]).items for order in (rows, rows[::-1])]
    assert items[0] == items[1]
    assert {key: getattr(items[0][0], key) for key in whole} == whole


def test_not_a_number_says_nothing(tmp_path):
    nan = float("nan")
    row = {"text": "x y", "model_id": "m", "score": nan, "cost_usd": nan, "item_id": nan, "answer": nan}
    row |= {"task": nan, "category": nan, "source": nan, "split": nan}
    table = import_jsonl([write_jsonl(tmp_path / "a.jsonl", row)])
    plain = import_jsonl([write_jsonl(tmp_path / "b.jsonl", {"text": "x y", "model_id": "m", "score": None})])
    assert table.items == plain.items
    assert (table.items[0].task, table.items[0].answer) == ("", None)
    for name, words in (("text", "has an empty text"), ("model_id", "the candidate has no name")):
        with pytest.raises(SatjaxError, match=words):
            import_jsonl([write_jsonl(tmp_path / "c.jsonl", row | {name: nan})])


def test_blanks_around_names_do_not_count(tmp_path):
    header = ["text", "model_id", "score", "task", "category", "source", "split"]
    rows = [["q1", "gpt-4", "1", "t", "c", "s", "test"], ["q1", "gpt-5", "0", " t", "c ", " s ", "test "]]
    rows.append(["q2", " gpt-4 ", "0", "t ", "c", "s", "test"])
    table = import_csv([write_csv(tmp_path / "a.csv", *rows, header=header)])
    assert table.candidate_ids == ("gpt-4", "gpt-5")
    np.testing.assert_array_equal(table.scores_MN, [[1, 0], [0, np.nan]])
    assert {(item.task, item.category, item.source, item.split) for item in table.items} == {("t", "c", "s", "test")}
    with pytest.raises(SatjaxError, match=r"row 2: the candidate's name 'a\\nb' has several lines; write it on one"):
        import_csv([write_csv(tmp_path / "b.csv", ["q1", "a\nb", "1", *"tcs", "test"], header=header)])


def test_text_that_is_no_unicode_is_said(tmp_path):
    for text in (
        '{"text": "q", "model_id": "a", "score": 1, "source": "\\ud83d"}',
        '{"text": "q", "model_id": "a", "score": 1}\n{"text": "q", "model_id": "b", "score": 1, "task": "\\ud83d"}',
        '{"text": "half \\ud83d", "model_id": "a", "score": 1}',
        '{"text": "q", "model_id": "\\ud83d", "score": 1}',
    ):
        (tmp_path / "a.jsonl").write_text(text)
        with pytest.raises(SatjaxError, match=r"a\.jsonl line [12]: .* has half of a surrogate pair"):
            import_jsonl([tmp_path / "a.jsonl"])


def rows_of(number: int) -> list[dict]:
    """A log with unread columns, of conversations and their outcomes."""
    chats = [
        [*CHAT, {"role": "user", "content": f"and in language {n // 2}?", "tool_calls": None}] for n in range(number)
    ]
    score = ("1", None, "0.5")
    return [
        {
            "messages": [{"role": m["role"], "content": str(m["content"])} for m in chat],
            "llm": "ab"[n % 2],
            "right": score[n % 3],
            "paid": Decimal("0.25"),
            "reply": b"x",
        }
        for n, chat in enumerate(chats)
    ]


def test_parquet_says_the_same_as_jsonl(tmp_path):
    columns, rows = "text=messages,candidate=llm,score=right,cost=paid", rows_of(400)
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.slice(0, 150), tmp_path / "1.parquet", row_group_size=40)
    kinds = table.schema.set(1, pa.field("llm", pa.dictionary(pa.int8(), pa.large_string())))
    pq.write_table(table.slice(150).cast(kinds), tmp_path / "2.parquet")
    found = import_parquet([tmp_path], columns)
    said = [{**row, "paid": 0.25, "reply": None} for row in rows]
    expected = import_jsonl([write_jsonl(tmp_path / "a.jsonl", *said)], columns)
    assert found.items == expected.items
    assert found.items[3].text.endswith("and in language 3?")
    assert found.candidates == expected.candidates
    np.testing.assert_array_equal(found.scores_MN, expected.scores_MN)
    np.testing.assert_array_equal(found.cost_usd_MN, expected.cost_usd_MN)


def test_a_parquet_file_with_a_column_for_each_candidate(tmp_path):
    rows = {"prompt": ["What?", "Why?"], "a": [True, None], "b": pa.array([0.5, 1], pa.float32())}
    pq.write_table(pa.table(rows), tmp_path / "wide.parquet")
    table = import_parquet([tmp_path / "wide.parquet"], "text=prompt,scores=a,scores=b")
    np.testing.assert_array_equal(table.scores_MN, [[1, np.nan], [0.5, 1]])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"score": None},
            "row 1 has no column 'score' for the score; say which one holds it: --columns score=NAME ('text', 'model_id')",
        ),
        ({"text": ["What?", None]}, "row 2: item"),
        ({"text": [b"What?", b"Why?"]}, "column 'text' is binary, not text; write it as text"),
        ({"text": [["What?"], ["Why?"]]}, "row 1: text is a list, not text"),
        ({"score": [1.0, 2.0]}, "row 2: score 2 of 'b' is outside [0, 1]"),
        ({"score": ["1", "no"]}, "row 2: score is 'no', not a number"),
        ({"text": pa.array([b"caf\xe9", b"b"]).view(pa.string())}, "cannot be read as a Parquet table"),
        ({"text": [], "model_id": [], "score": []}, "has no rows"),
    ],
)
def test_bad_rows_of_parquet_are_named(tmp_path, changes, words):
    columns = {"text": ["What?", "Why?"], "model_id": ["a", "b"], "score": [1.0, 0.0]} | changes
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    with pytest.raises(SatjaxError) as caught:
        import_parquet([path])
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_bad_files(tmp_path):
    with pytest.raises(SatjaxError, match="has no rows"):
        import_csv([write_csv(tmp_path / "none.csv")])
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SatjaxError, match="cannot be read as a CSV table"):
        import_csv([tmp_path / "binary.csv"])
    with pytest.raises(SatjaxError, match="cannot be read"):
        import_jsonl([tmp_path / "absent.jsonl"])
    with pytest.raises(SatjaxError, match="no files given"):
        import_jsonl([])


def test_columns_that_are_not_separated_by_commas_are_said_to_have_to_be(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt;model;correct\nWhat?;a;1\n", encoding="utf-8")
    with pytest.raises(
        SatjaxError, match=r"a single column, 'prompt;model;correct': its columns have to be separated by commas"
    ):
        import_csv([path], "text=prompt,candidate=model,score=correct")
