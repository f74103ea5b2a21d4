"""Capability instructions as token rows: what is kept, what is cut, and what is refused."""

import logging
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from satjax.config import PromptConfig
from satjax.errors import SatjaxError
from satjax.instructions import INQUIRY, LONG, PromptWriter, TokenRows, answer_ids, lose_middle, pad_rows, prompt_writer
from satjax.weights.base import open_base
from tests.base_models import smollm2
from tests.tiny import tiny_tokenizer, write_tiny_llm

LAYOUTS = ("instruction_first", "capability_first")
tokenizer = cache(tiny_tokenizer)


@cache
def writer(
    layout: str = "instruction_first", buckets: tuple[int, ...] = (96, 128), tail: str = "\nAnswer:"
) -> PromptWriter:
    return prompt_writer(PromptConfig(layout=layout, buckets=buckets, tail=tail), tokenizer(), bos_id=0)


def plain_ids(text: str) -> list[int]:
    return tokenizer().encode(text, add_special_tokens=False).ids


def room(writer: PromptWriter) -> int:
    """Tokens left for the instruction."""
    return writer.config.max_tokens - len(writer.start_ids) - len(writer.end_ids)


def of_length(count: int) -> str:
    """A text of that many tokens, all different to the eye."""
    text = "".join(chr(0x21 + i % 90) for i in range(count))
    while len(plain_ids(text)) > count:
        text = text[:-1]
    assert len(plain_ids(text)) == count
    return text


def test_both_layouts_by_hand():
    question = "How many words?"
    first, second = writer(LAYOUTS[0]), writer(LAYOUTS[1])
    (row,) = first.encode([question]).token
    assert row[0] == 0  # begins with the LLM's start token
    assert tokenizer().decode(row.tolist(), skip_special_tokens=False).startswith("<s>Instruction:\n")
    rows = first.encode([question])
    assert tokenizer().decode(rows.token[0].tolist()) == f"Instruction:\n{question}\n\n{INQUIRY}"
    assert tokenizer().decode(list(first.tail_ids)) == "\nAnswer:"
    rows = second.encode([question])
    assert tokenizer().decode(rows.token[0].tolist()) == f"Instruction:\n{question}\n\n{INQUIRY}\nAnswer:"
    assert second.tail_ids == ()
    assert 0 not in second.start_ids  # soft tokens stand before it


def test_the_prompt_of_a_head_that_asks_nothing_by_hand():
    """Every router of that kind was trained on these words."""
    write = prompt_writer(PromptConfig(ending="answer", tail="", buckets=(96,)), tokenizer(), bos_id=0)
    (row,) = write.encode(["How many words?"]).token.tolist()
    assert tokenizer().decode(row, skip_special_tokens=False) == "<s>Instruction:\nHow many words?\n\nAnswer:"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_control_tokens_that_stand_in_an_instruction_are_text(layout):
    bos, name = 0, "<s>"
    assert tokenizer().id_to_token(bos) == name
    write = writer(layout)
    row = write.encode([f"Say {name} twice."]).token[0].tolist()
    asked = row[len(write.start_ids) : len(row) - len(write.end_ids)]
    assert bos not in asked
    assert write.tokenizer.decode(asked) == f"Say {name} twice."


def test_control_tokens_of_the_default_llm_are_text():
    write = prompt_writer(PromptConfig(), open_base(smollm2().directory).tokenizer, bos_id=None)
    ids = (
        write.encode(["What?<|endoftext|><|im_start|>assistant\n<|im_end|>"]).token[0, len(write.start_ids) :].tolist()
    )
    assert not {0, 1, 2} & set(ids[: -len(write.end_ids)])


def test_added_tokens_that_their_file_does_not_mark_are_text_too(tmp_path):
    directory = write_tiny_llm(tmp_path / "llm")
    marked = tiny_tokenizer()
    marked.add_tokens([AddedToken("</s>", normalized=False, rstrip=True), AddedToken("    ", normalized=False)])
    marked.save(str(directory / "tokenizer.json"))
    base = open_base(directory)
    assert base.unmarked == ("</s>",)
    write = prompt_writer(PromptConfig(), base.tokenizer, bos_id=None)
    ids = set(write.encode(["It ends.</s>    Begin"]).token[0].tolist())
    assert marked.token_to_id("</s>") not in ids
    assert marked.token_to_id("    ") in ids, "blanks are words"


def test_an_llm_without_a_start_token_gets_none():
    bare = prompt_writer(PromptConfig(buckets=(128,)), tokenizer(), bos_id=None)
    assert bare.start_ids == writer().start_ids[1:]


@pytest.mark.parametrize("layout", LAYOUTS)
@given(texts=st.lists(st.text(max_size=120).filter(str.strip), max_size=4))
@settings(max_examples=60)
def test_the_prompt_is_kept_and_only_the_middle_is_cut(layout, texts):
    write = writer(layout)
    rows = write.encode(texts)
    assert len(rows) == len(texts)
    assert rows.token.dtype == rows.length.dtype == np.int32
    for text, token, length in zip(texts, rows.token.tolist(), rows.length.tolist(), strict=True):
        assert length <= write.config.max_tokens
        assert not any(token[length:])
        start, end = len(write.start_ids), length - len(write.end_ids)
        assert tuple(token[:start]) == write.start_ids
        assert tuple(token[end:length]) == write.end_ids
        ids, kept = plain_ids(text), token[start:end]
        if len(ids) <= room(write):
            assert kept == ids
        else:
            assert len(kept) == room(write)
            half = len(kept) // 2
            assert kept[: len(kept) - half] == ids[: len(kept) - half]
            assert kept[len(kept) - half :] == ids[len(ids) - half :]


@pytest.mark.parametrize("buckets", [(100,), (101,)])
def test_even_and_odd_room_are_filled_to_the_last_token(buckets):
    write = writer(buckets=buckets)
    text = of_length(room(write) + 1)
    (row,) = write.encode([text]).token[:, len(write.start_ids) : -len(write.end_ids)]
    ids = plain_ids(text)
    dropped = (room(write) + 1) // 2
    assert row.tolist() == ids[:dropped] + ids[dropped + 1 :]


def test_cut_instructions_are_counted_in_one_warning(caplog):
    write = writer()
    fits, long = of_length(room(write)), of_length(room(write) + 1)
    with caplog.at_level(logging.WARNING, "satjax"):
        write.encode([fits, "short", fits])
        assert caplog.messages == []
        write.encode([long, fits, long * 3])
    assert caplog.messages == [f"2 of 3 instructions exceed {room(write)} tokens and lost their middle"]


PARTS = [
    "alpha",
    "gamma's",
    "x = 1;",
    "{",
    "12345678",
    "\n\n",
    "\t  x",
    "Ünïcödé",
    "日本語テキスト",
    "🙂",
    "a\u0301b",
    "<|im_end|>",
    "f():\n    return",
]


@pytest.mark.parametrize("name", ["tiny", "smollm2"])
def test_of_far_too_long_texts_only_the_ends_are_tokenized_and_the_rows_are_the_same(name):
    tokens = tokenizer() if name == "tiny" else open_base(smollm2().directory).tokenizer
    write = prompt_writer(PromptConfig(buckets=(96, 128)), tokens, bos_id=None)
    rng, far = np.random.default_rng(0), LONG * room(write)
    texts = [" ".join(rng.choice(PARTS, 4 * far // 5 + shift)) for shift in range(0, 2000, 100)]
    texts += [f"a b{' ' * 500}" * (far // 200), " " * 3 * far + "x", "a" * 3 * far, "word " * far, "short"]
    given = []

    class Watched:
        pre_tokenizer = tokens.pre_tokenizer

        def encode_batch(self, texts, **options):
            given.extend(texts)
            return tokens.encode_batch(texts, **options)

        def encode(self, text, **options):
            return tokens.encode(text, **options)

    rows = replace(write, tokenizer=Watched()).encode(texts)
    for text, row, length in zip(texts, rows.token.tolist(), rows.length.tolist(), strict=True):
        kept = lose_middle(tokens.encode(text, add_special_tokens=False).ids, room(write))
        assert row[:length] == [*write.start_ids, *kept, *write.end_ids], text[:40]
    assert len(given) > len(texts) + 10
    assert sum(map(len, given)) < sum(map(len, texts)) / 2


def test_many_texts_are_tokenized_a_few_at_a_time(monkeypatch, caplog):
    write, sizes = writer(), []
    texts = [f"number {n} " * (n % 3 * 200 + 1) for n in range(7)]
    whole, said = write.encode(texts), list(caplog.messages)
    assert said
    caplog.clear()

    class Watched:
        def encode_batch(self, texts, **options):
            sizes.append(len(texts))
            return write.tokenizer.encode_batch(texts, **options)

    monkeypatch.setattr("satjax.instructions.TEXTS_AT_ONCE", 3)
    parts = replace(write, tokenizer=Watched()).encode(texts)
    assert sizes == [3, 3, 1]
    np.testing.assert_array_equal(parts.token, whole.token)
    np.testing.assert_array_equal(parts.length, whole.length)
    assert caplog.messages == said


@given(st.lists(st.text(min_size=1, max_size=200).filter(str.strip), min_size=1, max_size=4))
@settings(max_examples=30)
def test_a_row_does_not_depend_on_its_neighbours(texts):
    together = writer().encode(texts)
    for i, text in enumerate(texts):
        alone = writer().encode([text])
        assert together.length[i] == alone.length[0]
        assert together.token[i, : alone.length[0]].tolist() == alone.token[0].tolist()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("", "is empty"),
        (" \n\t", "is empty"),
        (None, "is NoneType, not text"),
        (3, "is int, not text"),
        (b"word", "is bytes, not text"),
        (["word"], "is list, not text"),
        ("caf\udce9", "is not valid Unicode"),
    ],
)
def test_what_is_no_instruction_is_named_by_its_place(bad, words):
    with pytest.raises(SatjaxError) as caught:
        writer().encode(["fine", bad, "fine"])
    assert str(caught.value) == f"instruction 2 of 3 {words}; give every instruction as non-empty text"


def test_the_answers_are_the_tokens_that_follow_the_prompt():
    for layout in LAYOUTS:
        write = writer(layout)
        assert tokenizer().decode([write.yes_id]) == " Yes"
        assert tokenizer().decode([write.no_id]) == " No"
    whole = plain_ids(f"\n\n{INQUIRY} No")
    assert writer(tail="").tail_ids == ()
    assert writer(tail="").no_id == whole[-1]


def test_answers_of_several_tokens_are_refused():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    with pytest.raises(SatjaxError, match="'Yes' after '\\\\nAnswer:' is not a single token; use base weights"):
        answer_ids(letters, "\nAnswer:")
    with pytest.raises(SatjaxError, match="not a single token"):
        prompt_writer(PromptConfig(buckets=(512,)), letters, 0)
    nobody_asks = prompt_writer(PromptConfig(ending="answer", tail="", buckets=(512,)), letters, 0)
    assert len(nobody_asks.encode(["What?"])) == 1


def test_an_answer_that_melts_into_what_stands_before_it_is_refused():
    ids = {"A": 0, "Ġ": 1, "Y": 2, "e": 3, "s": 4, "AĠ": 5, "N": 6, "o": 7, "Ye": 8, "Yes": 9, "No": 10}
    merges = [("A", "Ġ"), ("Y", "e"), ("Ye", "s"), ("N", "o")]
    melting = Tokenizer(models.BPE(vocab=ids, merges=merges))
    melting.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert melting.encode("A Yes").ids == [5, 9]  # two tokens, but the first is not the context's
    with pytest.raises(SatjaxError, match="'Yes' after 'A' is not a single token"):
        answer_ids(melting, "A")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_prompt_without_room_for_an_instruction_is_refused(layout):
    fixed = len(writer(layout).start_ids) + len(writer(layout).end_ids)
    assert room(writer(layout, buckets=(fixed + 8,))) == 8
    with pytest.raises(
        SatjaxError, match=f"the longest, {fixed + 7} tokens, leaves no room beside the prompt's {fixed}"
    ):
        writer(layout, buckets=(fixed + 7,))


@given(st.sets(st.integers(100, 400), min_size=1).map(sorted).map(tuple), st.data())
@settings(max_examples=30)
def test_a_bucket_is_the_smallest_width_that_holds_the_row(buckets, data):
    length = data.draw(st.integers(1, buckets[-1]))
    width = writer(buckets=buckets).bucket(length)
    assert width in buckets
    assert width >= length
    assert all(other < length for other in buckets if other < width)


def test_rows_are_padded_and_taken():
    rows = pad_rows([[1, 2, 3], [], [4]])
    assert rows.token.tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0]]
    assert rows.length.tolist() == [3, 0, 1]
    taken = rows.take(np.array([2, 0, 2]), 4)
    assert isinstance(taken, TokenRows)
    assert taken.token.tolist() == [[4, 0, 0, 0], [1, 2, 3, 0], [4, 0, 0, 0]]
    assert taken.length.tolist() == [1, 3, 1]
    assert rows.take(np.array([2]), 1).token.tolist() == [[4]]
    assert pad_rows([[1]], width=3).token.tolist() == [[1, 0, 0]]
    assert pad_rows([]).token.shape == (0, 1)
