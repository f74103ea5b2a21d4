"""What a candidate answered: the option that a reply names, or the answer that it writes, and whether that is right."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from satjax.assess.prompts import Question
from satjax.assess.spelling import plainly
from satjax.outcomes.lettered import LETTERS
from satjax.outcomes.splits import folded

_GAP = r"[\s*_`$\\({\[\"'“‘:<>]{0,9}"
_WORD = (
    r"(?<!/)(?i:answer|\b(?:correct|right|best)\s(?:option|choice)|respuesta|réponse|resposta|risposta|antwort|ответ"
    r"|答案|答え|回答|正解|정답|故[选選]|[应應][选選])(?i:\s(?:correct[ae]|corret[ao]|corretta|finale?))?"
)
"""What calls something an answer, in the languages that models most often fall into; not the tag that closes one."""
_IS = r"is|es|est|ist|é|è|是|[为為]|は|은|는"
_VERB = (
    rf"(?i:(?:{_IS}|would be|must be|should be|has to be|seems to be|[应應](?:[为為]|[该該]?是))"
    r"(?:\s(?:thus|therefore|then|hence|clearly|definitely|(?:most\s)?likely|probably|indeed))?|=)?"
)
_BETWEEN = rf"{_GAP}{_VERB}{_GAP}"
_LETTER = r"(?:\(([a-z])\)|([A-HJ-Z])(?!['’]?[A-Za-z])|(I)(?!['’]?[A-Za-z]|\s[a-z]))"
_ENDS = r"(?=[ \t*_`)]{0,9}(?:[.,;:。\n]|\Z))"
_OTHERS = r"(?!\)?,?\s(?:n?or)\s\(?[A-Z]\b)"
"""Not where another letter goes with it."""
_NAMED = re.compile(
    rf"{_WORD}({_BETWEEN})(?:(?i:(?:the\s)?(?:option|choice|letter)){_GAP}(?:([a-z]){_ENDS}|{_LETTER})|\(?{_LETTER}){_OTHERS}"
)
"""“The answer is (B)”, “Answer: **B**”, “the answer is option b”; of small letters otherwise only bracketed ones, and not the pronoun."""
_SMALL = re.compile(rf"{_WORD}({_BETWEEN})([a-z])(\.?)(?=[.。 \t*_`)\]}}$]{{0,9}}(?:\n|</|\Z))")
"""“The answer is: b”, where nothing but the letter stands to the end of the line."""
_SAYS = re.compile(r"[^\W_]|[=:>]")
"""Of what stands between “answer” and the letter: “answer (B)” alone may speak of one that is wrong."""
_ALONE = re.compile(r"([A-Z])")
_AT_END = re.compile(r"(?<!nor )(?<!\bor )(?<!not )(?<!and )(?:\(|option )([A-Z])\)?$")
_WRITTEN = re.compile(
    rf"{_WORD}[\s*_`]{{0,9}}(?:(?i:{_IS})[\s*_`]{{0,9}}:?|=|:|>)[\s*_`$]{{0,9}}(?P<answer>[^\s*_`$][^\n]*?)(?=</|\n|\Z)"
)
_END = re.compile(r"(?:[.!?](?=\s|[^\x00-\x7f])|。|\s(?=[(\[]))(?!\s*[(\[]?\s*(?i:or|oder|ou|或|或者)\b)")
"""Where a sentence ends, or brackets begin that say more, but not another answer."""
MOST_ENDS = 5
"""Of what a reply calls its answer, as far as they are tried."""
_BRACE = re.compile(r"\\(?P<name>boxed|text(?:bf|it|rm)?|math(?:bf|rm))\s{0,9}\{|\\[{}]|[{}]")
"""Braces, with the commands of LaTeX that only dress what is in them."""
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
"""A number whose commas group thousands; in any other, such as 3,14, they may be decimal marks."""
_SPELLINGS = (("−", "-"), ("\\%", "%"), ("{,}", ","))
"""How signs of numbers are typeset, and how they are typed."""
_EDGES = " \t\r\n.,;:!?。、*_`$\"'“”‘’()[]{}\\"
_MARKS = " \t\r\n*_`\"'“”.:。"
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
WORDS_TO_REPEAT = 8
"""Of an answer that a right reply can be expected to give word for word."""
LONGEST = 200_000
"""Characters of a reply that are read, from its end: the answer stands there."""
LONGEST_LETTER = 80
"""Characters of a box that may hold a letter and its fonts."""


@dataclass(frozen=True)
class Mark:
    """What was read of a reply: the option's letter or the written answer, None where there is none; and whether it is right."""

    answer: str | None
    right: bool


def mark(question: Question, rotation: int, reply: str) -> Mark:
    """Marks the reply to a question in a rotation. A reply without an answer is wrong, as in the published results of MMLU-Pro.

    A written answer may go on after the right one, where a sentence ends or in brackets. A last line that is not the right answer is none, where the
    reply calls nothing so.
    """
    if question.options:
        letter = chosen_letter(reply, question.rotated(rotation))
        return Mark(letter, letter == question.right_letter(rotation))
    answer = written_answer(reply)
    if answer is None:
        return Mark(None, False)
    ends = [end.start() for end in islice(_END.finditer(answer), MOST_ENDS)]
    right = any(same_answer(answer[:end], question.answer) for end in (None, *ends))
    return Mark(answer if right or _said(_conclusion(reply)) else None, right)


def chosen_letter(reply: str, options: tuple[str, ...]) -> str | None:
    """The letter of the option that a reply decides on, or None.

    In this order: the last letter that it says the answer is, the last one in a box, the last one right after “answer”, an option's text that it
    calls the answer or puts in a box, a small letter that it calls so, a letter that stands alone on the first or last line, or before its option's
    text there, an option's text that is the last line, and a letter in brackets, or after “option”, at the very end. Anything else would be a
    guess, and is not made.
    """
    text, letters = _conclusion(reply), LETTERS[: len(options)]
    bare = _unwrapped(text)
    named = [(between, "".join(letter).upper()) for between, *letter in _NAMED.findall(bare)]
    said_to_be = [letter for between, letter in named if _SAYS.search(between)]
    short = [text[box] for box in _boxes(text) if box.stop - box.start <= LONGEST_LETTER]
    boxed = [alone[1] for box in short if (alone := _ALONE.fullmatch(_unwrapped(box).strip(_EDGES)))]
    for called in (said_to_be, boxed, [letter for _, letter in named]):
        if known := [letter for letter in called if letter in letters]:
            return known[-1]
    if same := _option(_said(text), options):
        return same
    small = [
        letter.upper()
        for between, letter, stop in _SMALL.findall(bare)
        if _SAYS.search(between) and (letter not in "ai" or ":" in between or stop)  # these are words, too
    ]
    if known := [letter for letter in small if letter in letters]:
        return known[-1]
    lines = [line.strip(_MARKS) for line in text.splitlines() if line.strip(_MARKS)]
    for line in lines[:1] + lines[-1:]:
        if (alone := _ALONE.fullmatch(_unwrapped(line).strip(_EDGES))) and alone[1] in letters:
            return alone[1]
    if not lines:
        return None
    first, last = (_plain(line).replace(") ", ". ") for line in (lines[0], lines[-1]))
    whole = {x: _plain(f"{x}. {option}").replace(") ", ". ") for x, option in zip(letters, options, strict=True)}
    for before in ([x for x in letters if whole[x] == first], [x for x in letters if whole[x] in last]):
        if len(before) == 1:
            return before[0]
    if same := _option(lines[-1], options):
        return same
    at_end = _AT_END.search(lines[-1])
    return at_end[1] if at_end and at_end[1] in letters else None


def written_answer(reply: str) -> str | None:
    """What follows the last "the answer is", or stands in the last box, or on the last line; None where there is none of these.

    Boxes and fonts of LaTeX are taken off: of `\\boxed{\\text{yes}}` it is `yes`.
    """
    text = _conclusion(reply)
    if said := _said(text):
        return said
    lines = [bare for line in text.splitlines() if (bare := _unwrapped(line).strip(_EDGES))]
    return lines[-1] if lines else None


def same_answer(a: str, b: str) -> bool:
    """Whether two written answers are the same text, case, blanks and marks at the ends aside, or the same number; of a solution what it boxes counts."""
    a, b = (_typed(_unwrapped(_boxed(answer) or answer)) for answer in (plainly(a), plainly(b)))
    if _plain(a) == _plain(b):
        return bool(_plain(a)) or folded(a) == folded(b)
    x, y = _number(a), _number(b)
    return x is not None and y is not None and math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-12)


def is_free_text(answer: str) -> bool:
    """Whether an answer is too long to be repeated word for word; of a solution what it boxes counts. Two Chinese or Japanese letters are a word."""
    text = _boxed(answer) or answer
    return len(text.split()) + len(_IDEOGRAPH.findall(text)) // 2 > WORDS_TO_REPEAT


def _conclusion(reply: str) -> str:
    """What stands after a reasoning model's thoughts, in its plain spelling; nothing, where they do not end."""
    text = reply[-LONGEST:].rpartition("</think>")[2]
    return plainly(text.partition("<think>")[0])


def _said(text: str) -> str | None:
    """What a reply calls its answer, or else puts in its last box. A box in what it calls so is the answer alone, and may go on to other lines."""
    found = list(_WRITTEN.finditer(text))
    said = found[-1]["answer"] if found else ""
    if not said.strip(_EDGES) or "\\boxed" in said:
        said = _boxed(text) or said
    return _unwrapped(said).strip(_EDGES) or None


def _boxed(text: str) -> str | None:
    """What stands in the last box of a text."""
    boxes = _boxes(text)
    return folded(text[boxes[-1]]) if boxes else None


def _boxes(text: str) -> list[slice]:
    """Where in a text the contents of boxes stand, in the order in which they close."""
    return [slice(start.end(), end) for start, end in _wrappers(text) if start["name"] == "boxed"]


def _unwrapped(text: str) -> str:
    """The text without boxes and fonts around parts of it; a brace that does not close, and other commands, stay."""
    pieces, at = [], 0
    spans = [span for start, end in _wrappers(text) for span in (start.span(), (end, end + 1))]
    for start, end in sorted(spans):
        pieces.append(text[at:start])
        at = end
    return "".join([*pieces, text[at:]])


def _wrappers(text: str) -> Iterator[tuple[re.Match[str], int]]:
    """Boxes and fonts in the order in which they close: how each begins, and where its closing brace stands."""
    opened: list[re.Match[str]] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "}":
            if opened and (start := opened.pop())["name"]:
                yield start, brace.start()
        elif brace[0] not in ("\\{", "\\}"):
            opened.append(brace)


def _option(said: str | None, options: tuple[str, ...]) -> str | None:
    """The letter of the one option whose text this is."""
    if not said:
        return None
    plain = _plain(said)
    same = [letter for letter, option in zip(LETTERS, options, strict=False) if _plain(option) == plain]
    return same[0] if len(same) == 1 else None


def _plain(text: str) -> str:
    return " ".join(_unwrapped(plainly(text)).casefold().split()).strip(_EDGES)


def _typed(text: str) -> str:
    for typeset, typed in _SPELLINGS:
        text = text.replace(typeset, typed)
    return text


def _number(text: str) -> float | None:
    plain = text.strip(_EDGES).removesuffix("%").rstrip()
    if _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    try:
        value = float(plain)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
