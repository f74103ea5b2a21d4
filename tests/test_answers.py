"""What replies say: read as people would, never guessed, never raising."""

import json
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.assess.answers import chosen_letter, mark, same_answer, written_answer
from satjax.assess.prompts import question_of
from satjax.outcomes import Item
from tests.seconds import seconds

WRITTEN = question_of(Item("i", "What is 6 x 7?", "t", answer="42"))
OPTIONS = ("6", "1", "four apples", "5", "7", "3", "9", "10", "8", "4")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("Two and two. The answer is (B).", "B"),
        ("**Answer:** C", "C"),
        ("Final answer\n\n(J)", "J"),
        ("The correct answer is **D**.", "D"),
        ("The answer is option E", "E"),
        ("the answer is $\\boxed{\\text{E}}$", "E"),
        ("Therefore \\boxed{F}", "F"),
        ("Therefore the answer is $\\boxed{\\textbf{(B)}}$.", "B"),
        ("So it is \\boxed{\\mathrm{B}}", "B"),
        ("$\\boxed{(\\text{B})}$", "B"),
        ("It is wrong that \\textbf{A}.\n\n\\(\\mathbf{(B)}\\)", "B"),
        ("The answer is ‘B’", "B"),
        ("The answer is 'B'.", "B"),
        ("the answer is option b", "B"),
        ("the answer is choice (b).", "B"),
        ("The answer is option a bit lower than that", None),
        ("The answer is A because it is even.", "A"),
        ("the answer is (g)", "G"),
        ("The answer is (A)? No, wait. The answer is (H).", "H"),
        ("The answer is 10", "H"),
        ("The answer is Four apples.", "C"),
        ("B. 1", "B"),
        ("(B) 1\n\nThat is because nothing else is.", "B"),
        ("b is small\nC", "C"),
        ("Most likely it is: C. four apples.", "C"),
        ("which makes it option D", "D"),
        ("It will most likely be (E).", "E"),
        ("<think>The answer is (A).</think>\nThe answer is (B).", "B"),
        ("The answer is (A).</think>The answer is (B).", "B"),
        ("The answer is I.", "I"),
        ("The answer is (B).\n\nAnswer choice C is wrong because it is odd.", "B"),
        ("### Answer: (B) 1\n\nAnswer D would be too small.", "B"),
        ("Answer A: too small.\nAnswer B: right.\nAnswer C: too large.\n\n\\boxed{B}", "B"),
        ("The answer is $\\boxed{\\text{Four apples}}$.", "C"),
        ("That makes \\boxed{10}, as was to be shown.", "H"),
        ("Four apples", "C"),
        ("(B)\n\n1 is right, not\n4", "B"),
        ("The answer is: c", "C"),
        ("The answer is c.", "C"),
        ("Answer: a", "A"),
        ("The answer is a.", "A"),
        ("The answer is thus C.", "C"),
        ("The answer is the letter C", "C"),
        ("The answer is definitely C, because A is wrong.", "C"),
        ("The correct option is **C**: four apples.", "C"),
        ("So the correct choice is C.", "C"),
        ("The answer is (A)? No: the right option is (B).", "B"),
        ("<answer>C</answer>", "C"),
        ("<answer>\nc\n</answer>\nA note on it", "C"),
        ("The answer is <C>", "C"),
        ("The answer is（C）。", "C"),
        ("The answer is 【C】", "C"),
        ("The answer is Ｃ．", "C"),
        ("The answer is 𝐂", "C"),
        ("答案是（C）。", "C"),
        ("答案是 C", "C"),
        ("答案：C", "C"),
        ("正确答案是C。", "C"),
        ("所以正确答案应为 C，因为 A 太小。", "C"),
        ("A 太小。\n故选C。", "C"),
        ("答えはCです。", "C"),
        ("정답은 C입니다.", "C"),
        ("La respuesta correcta es la opción... es (C).", "C"),
        ("La respuesta correcta es C.", "C"),
        ("La bonne réponse est C.", "C"),
        ("Die richtige Antwort ist C, nicht A.", "C"),
        ("Правильный ответ: C", "C"),
        ("A resposta correta é C.", "C"),
    ],
)
def test_what_a_reply_decides_on_is_found(reply, letter):
    assert chosen_letter(reply, OPTIONS) == letter


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n ",
        "I cannot answer that.",
        "The answer is (X).",
        "The answer is not known.",
        "Answer: I think it is hard to say",
        "The answer is a matter of taste",
        "A. 6 is too many\nB. 1 is too few\nand so on",
        "It is between (A) and (B), who knows",
        "<think>The answer is (A).",
        "The answer is",
        "The answer is ABC",
        "The answer is neither (A) nor (B).",
        "The answer is (A) or (B)",
        "It is one of (A) and (B)",
        "The answer is a",
        "The answer is i\nthink",
        "</answer> A note on it",
    ],
)
def test_where_it_decides_on_nothing_none_is_made_up(reply):
    assert chosen_letter(reply, OPTIONS) is None


def test_letters_beyond_the_options_are_no_answer():
    assert chosen_letter("The answer is (E).", OPTIONS[:4]) is None
    assert chosen_letter("The answer is (E). No: the answer is (B).", OPTIONS[:4]) == "B"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("It is even.\nThe answer is: 42.", "42"),
        ("Answer: **forty-two**", "forty-two"),
        ("So\n\n 42 \n", "42"),
        ("The answer is:\n`abc`", "abc"),
        ("The answer is: \\boxed{42}", "42"),
        ("The answer is: $\\boxed{42}$.", "42"),
        ("The answer is: \\boxed{\\text{yes}}", "yes"),
        ("The answer is: \\text{yes}", "yes"),
        ("The answer is:\n\\[\n\\boxed{ 42 }\n\\]", "42"),
        ("The answer is: $x = \\boxed{\n42\n}$", "42"),
        ("Six times seven is \\boxed{42}.\n\nThat was easy.", "42"),
        ("First \\boxed{41}, no: \\boxed{42}", "42"),
        ("The answer is: 5 \\text{ apples}", "5  apples"),
        ("So\n\\[\n42\n\\]", "42"),
        ("The answer is: \\boxed{\\frac{\\text{a}}{2}} cm", "frac{a}{2"),
        ("<answer>42</answer>", "42"),
        ("答案是42。", "42"),
        ("答案：４２", "42"),
        ("Réponse : 42", "42"),
        ("La respuesta es 42.", "42"),
        ("<think>hm</think>", None),
        ("", None),
    ],
)
def test_written_answers(reply, answer):
    assert written_answer(reply) == answer


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Paris.", "paris", True),
        ("$1,234.50", "1234.5", True),
        ("40.80", "40.8", True),
        ("[1, 2, 3]", "1, 2, 3", True),
        ("twelve", "12", False),
        ("nan", "inf", False),
        ("1e400", "1e400", True),
        ("Lyon", "Paris", False),
        ("frac{1}{2", "$\\frac{1}{2}$", True),
        ("yes", "\\text{Yes}", True),
        ("18%", "$18\\%$", True),
        ("18", "18 \\%", True),
        ("-5", "−5", True),
        ("x = -5", "$x = −5$", True),
        ("1200", "\\$1{,}200", True),
        ("-1234567.5", "−1,234,567.5", True),
        ("1,234,567", "1234567", True),
        ("314", "3,14", False),
        ("123", "1,23", False),
        ("123", "0,123", False),
        ("12345", "1,2345", False),
        ("12", "1,2", False),
        ("3,14", "3,14", True),
        ("14", "Twice 7 is $2 \\cdot 7 = \\boxed{14}$.", True),
        ("14", "Twice 7 is $\\boxed{15}$, not 14", False),
        ("Caf\u00e9", "Cafe\u0301", True),
        ("（北京）", "北京。", True),
        ("４２％", "42", True),
        ("10²", "102", False),
        ("½", "12", False),
        ("{}", "[]", False),
        ("{}", "{}", True),
    ],
)
def test_written_answers_are_compared_by_text_or_number(a, b, same):
    assert same_answer(a, b) is same


def test_marks():
    question = question_of(Item("i", "Which?\nA. x\nB. y\nC. z", "t", answer="B"))
    assert mark(question, 0, "The answer is (B).").right
    assert mark(question, 1, "The answer is (A).").right, "in the next rotation the right option has moved up"
    wrong = mark(question, 2, "The answer is (B).")
    assert (wrong.answer, wrong.right) == ("B", False)
    none = mark(question, 0, "no idea")
    assert (none.answer, none.right) == (None, False), "a reply without an answer is wrong"
    written = question_of(Item("i", "What is 6 x 7?", "t", answer="42"))
    assert mark(written, 0, "The answer is: 42").right
    assert not mark(written, 0, "The answer is: 41").right


@pytest.mark.parametrize(
    ("reply", "answer", "right"),
    [
        ("The answer is: 42. I hope this helps!", "42. I hope this helps", True),
        ("The answer is: 42 (six times seven)", "42 (six times seven", True),
        ("The answer is: **42** [as asked]", "42** [as asked", True),
        ("答案是42。希望有帮助！", "42。希望有帮助", True),
        ("The answer is: 41. Not 42", "41. Not 42", False),
        ("The answer is: 42, 43", "42, 43", False),
        ("The answer is: 42; 43", "42; 43", False),
        ("The answer is: 42 (or 43)", "42 (or 43", False),
        ("The answer is: 42. Or -42.", "42. Or -42", False),
        ("The answer is: 42 (order matters)", "42 (order matters", True),
        ("The answer is: 42.5", "42.5", False),
        ("42", "42", True),
        ("The result is 42.", None, False),
        ("I'm sorry, I can't help with that.", None, False),
    ],
)
def test_a_written_answer_may_go_on_and_a_last_line_is_one_only_where_it_is_right(reply, answer, right):
    marked = mark(question_of(Item("i", "What is 6 x 7?", "t", answer="42")), 0, reply)
    assert (marked.answer, marked.right) == (answer, right)


PIECES = st.sampled_from(
    [
        "answer",
        "The answer is",
        "(",
        ")",
        "A",
        "b",
        "\\boxed{",
        "\\text{",
        "{",
        "}",
        "\\}",
        "<think>",
        "</think>",
        "\n",
        "**",
        ":",
        " ",
        "I",
        "答案是",
        "（",
        "³",
    ]
)


@given(st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=60).map("".join)), st.integers(2, 10))
@settings(max_examples=500)
def test_any_reply_is_marked_without_a_complaint(reply, count):
    letter = chosen_letter(reply, OPTIONS[:count])
    assert letter is None or letter in "ABCDEFGHIJ"[:count]
    written_answer(reply)
    same_answer(reply, "42")


@pytest.mark.parametrize(
    "piece",
    [
        "answer ",
        " ",
        "answer is (",
        "\\boxed{",
        "\\text{a}",
        "}",
        "<think>",
        "(A",
        "answer\n",
        "A. 6\n",
        "*",
        "答案是（",
        "answer: a. ",
    ],
)
def test_long_replies_take_no_long_time(piece):
    def taken(length):
        reply = piece * (length // len(piece))
        return seconds(lambda: (chosen_letter(reply, OPTIONS), mark(WRITTEN, 0, reply)))

    # What grows with the square of the length takes a hundred times as long, and what grows with it ten times.
    assert (longest := taken(1_000_000)) < 40 * max(taken(100_000), 0.01)
    assert longest < 2.0


def test_deep_boxes_take_no_long_time():
    def taken(depth):
        reply = "The answer is: " + "\\boxed{" * depth + "}" * depth
        return seconds(lambda: written_answer(reply))

    assert (deepest := taken(20_000)) < 40 * max(taken(2_000), 0.01)
    assert deepest < 2.0


PLAIN = st.from_regex(
    r"-?[0-9]{1,6}(\.[0-9]{1,4})?|[b-z]{1,9}( [b-z0-9]{1,9}){0,3}|\\frac\{[0-9]\}\{[0-9x]\}", fullmatch=True
)
WRAPPINGS = (
    *("\\boxed{%s}", "\\text{%s}", "\\textbf{%s}", "\\mathrm{%s}", "\\boxed { %s }", "\\boxed{\n%s\n}"),
    *("$%s$", "**%s**", "\\(%s\\)", "$$%s$$", '"%s"', "%s."),
)


@given(
    PLAIN, st.lists(st.sampled_from(WRAPPINGS), max_size=5), st.sampled_from(["%s", "The answer is: %s", "Hm.\n\n%s\n"])
)
@settings(max_examples=500)
def test_a_plain_answer_survives_wrapping(answer, wrappings, reply):
    wrapped = answer
    for wrapping in wrappings:
        wrapped = wrapping % wrapped
    found = written_answer(reply % wrapped)
    assert found is not None
    assert same_answer(found, answer)
    assert same_answer(found, wrapped)
    assert not same_answer(found, f"{answer} a")


@given(
    st.sampled_from("ABCDEFGHJ"),
    st.lists(st.sampled_from([*WRAPPINGS, "(%s)"]), max_size=3),
    st.sampled_from(["%s", "The answer is: %s", "The answer is %s", "Hm.\n\n%s\n"]),
)
@settings(max_examples=500)
def test_a_letter_survives_wrapping(letter, wrappings, reply):
    wrapped = letter
    for wrapping in wrappings:
        wrapped = wrapping % wrapped
    assert chosen_letter(reply % wrapped, OPTIONS) == letter


def test_real_replies_are_read_as_upstream_read_them(shared_data):
    """Published replies of two models: never another letter than upstream's, and hardly any that only one of the two finds."""
    paths = sorted((shared_data / "raw").glob("model_outputs_*.zip"))
    assert len(paths) == 2
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".json") and "MACOSX" not in name)
            records = json.loads(archive.read(name))
        replies = [record.get("model_outputs") or record.get("generated_text") or "" for record in records]
        ours = [chosen_letter(reply, tuple(map(str, r["options"]))) for reply, r in zip(replies, records, strict=True)]
        pairs = [(letter, record["pred"]) for letter, record in zip(ours, records, strict=True)]
        assert not [pair for pair in pairs if None not in pair and pair[0] != pair[1]]
        assert sum(a != b for a, b in pairs) <= 0.004 * len(pairs)
