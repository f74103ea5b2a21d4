"""How items are asked: options found in texts, and rotated so that the right one stays the right one."""

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.assess.prompts import CHOOSE, LETTERS, WRITE, question_of
from satjax.outcomes import Item

TEXT = "Which is a prime?\nA. 4\nB. 6\nC. 7, which\nis odd\nD. 9"


def item(text: str = TEXT, answer: str | None = "C") -> Item:
    return Item("i/1", text, "primes", answer=answer)


def test_options_are_found_and_the_text_is_asked_as_it_is():
    question = question_of(item())
    assert question.stem == "Which is a prime?"
    assert question.options == ("4", "6", "7, which\nis odd", "9")
    assert (question.right, question.rotations) == (2, 4)
    assert question.prompt() == f"{TEXT}\n\n{CHOOSE}"


def test_a_rotation_moves_the_options_up():
    question = question_of(item())
    assert question.prompt(3) == f"Which is a prime?\nA. 9\nB. 4\nC. 6\nD. 7, which\nis odd\n\n{CHOOSE}"
    assert question.right_letter(3) == "D"


def test_letters_in_the_question_are_no_options():
    question = question_of(item("Vitamins:\nA. helps to see\nB. is eight\nWhich is E?\nA. one\nB. two", "B"))
    assert question.options == ("one", "two")
    assert question.stem.endswith("Which is E?")


@pytest.mark.parametrize(
    ("text", "answer"), [("What is 2 + 2?", "4"), (TEXT, "7"), ("Name a vitamin.", "C"), (TEXT, "E")]
)
def test_without_an_option_that_the_answer_names_it_is_to_be_written(text, answer):
    question = question_of(item(text, answer))
    assert question.options == ()
    assert question.rotations == 1
    assert question.prompt() == f"{text}\n\n{WRITE}"


@pytest.mark.parametrize(("answer", "right"), [("6", 1), (" 7, which is odd ", 2), ("9", 3)])
def test_an_answer_that_is_an_options_text_means_that_option(answer, right):
    question = question_of(item(TEXT, answer))
    assert question.options == ("4", "6", "7, which\nis odd", "9")
    assert question.right == right
    assert question.right_letter(1) == LETTERS[right - 1]


CITIES = "Which city?\nOptions:\n(A) Paris\n(B) Rome\n(C) Bonn"


@pytest.mark.parametrize(
    "answer", ["B", "b", "(B)", "(b)", "B.", "B) ", "B. Rome", "(B) Rome", "b)\tRome", "B Rome", "Rome"]
)
def test_an_option_is_named_in_many_ways(answer):
    question = question_of(item(CITIES, answer))
    assert (question.options, question.right) == (("Paris", "Rome", "Bonn"), 1)
    assert question.prompt() == f"{CITIES}\n\n{CHOOSE}"


@pytest.mark.parametrize("answer", ["B", "Ｂ", "（B）", "B、上海", "上海"])
def test_full_width_options_are_named_and_rotated_too(answer):
    question = question_of(item("哪座城市？\nA、北京\nB、上海\nC、广州", answer))
    assert (question.options, question.right) == (("北京", "上海", "广州"), 1)
    assert question.prompt(1) == f"哪座城市？\nA. 上海\nB. 广州\nC. 北京\n\n{CHOOSE}"


@pytest.mark.parametrize("answer", ["(D)", "d", "B. Bonn", "Bonn, B", "BRome", "(B) or (C)", "rome wasn't built", "1)"])
def test_what_names_no_option_is_to_be_written(answer):
    assert question_of(item(CITIES, answer)).options == ()


@pytest.mark.parametrize("answer", ["c", "(C)", "C.", "c. elegans"])
def test_a_letter_names_nothing_where_there_are_no_options(answer):
    assert question_of(item("Name a vitamin.", answer)).options == ()


@pytest.mark.parametrize(
    ("text", "answer", "right"),
    [
        ("Which letter?\nA. b\nB. a", "b", 0),
        ("Which?\nA. cat\nB. a cat", "a cat", 1),
        ("Which?\nA. b\nB. b\nC. c", "b", None),
        ("Which?\nA. x\nB. y\nC. z\nAnswer: C\n\nWhich?\nA. v\nB. w\nAnswer:", "(C)", None),
        ("Which?\nA. x\nB. x", "(B)", 1),
        ("Which?\nA. x\nB. x\nC. y", "x", None),
        ("Which?\nA. x\nB. X", "x", 0),
        ("Which letter?\nA. B\nB. A", "B", 1),
        ("Which letter?\nA. E\nB. I", "E", 0),
        ("Which?\nA. x\nB. y\nAnswer: A\n\nWhich?\nA. v\nB. w\nAnswer:", "x", None),
        ("Which?\nA. x\nB. y\nAnswer: A\n\nWhich?\nA. v\nB. w\nAnswer:", "w", 1),
    ],
)
def test_what_an_options_text_means_where_it_could_mean_several(text, answer, right):
    question = question_of(item(text, answer))
    assert question.right == (-1 if right is None else right)
    assert bool(question.options) == (right is not None)


def test_a_line_that_asks_for_the_answer_is_not_rotated_into_the_options():
    question = question_of(item("Which?\nA. x\nB. y\nAnswer:", "B"))
    assert question.prompt() == f"Which?\nA. x\nB. y\nAnswer:\n\n{CHOOSE}"
    assert question.prompt(1) == f"Which?\nA. y\nB. x\n\n{CHOOSE}"


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_an_item_without_an_answer_is_no_question(answer):
    assert question_of(item(answer=answer)) is None


OPTION = st.text("abc xyz,(1)", min_size=1, max_size=9).map(str.strip).filter(bool)


@given(st.lists(OPTION, min_size=2, max_size=10), st.data())
def test_in_every_rotation_the_right_letter_stands_before_the_right_option(options, data):
    right = data.draw(st.integers(0, len(options) - 1))
    text = "\n".join(["Which?", *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))])
    question = question_of(item(text, LETTERS[right]))
    assert question.options == tuple(options)
    for rotation in range(question.rotations):
        assert f"\n{question.right_letter(rotation)}. {options[right]}\n" in question.prompt(rotation)
        again = question_of(
            item(question.prompt(rotation).removesuffix(f"\n\n{CHOOSE}"), question.right_letter(rotation))
        )
        assert again.options == question.rotated(rotation)


@given(st.text(max_size=200), st.one_of(st.none(), st.text(max_size=3), st.sampled_from(LETTERS)))
def test_any_text_makes_a_question_or_none(text, answer):
    question = question_of(item(text, answer))
    assert question is None or 0 <= question.right < len(question.options) or not question.options


def test_every_item_of_mmlu_pro_is_read_whole(shared_data):
    for row in pq.read_table(shared_data / "mmlu_pro" / "items.parquet", columns=["text", "answer"]).to_pylist():
        question = question_of(item(row["text"], row["answer"]))
        again = [
            question.stem,
            *(f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False)),
        ]
        assert len(question.options) >= 3
        assert " ".join(" ".join(again).split()) == " ".join(row["text"].split())
