"""What a candidate is asked: the text of an item, its options rotated if that is wanted, and how to end the answer."""

import re
from dataclasses import dataclass
from functools import cached_property

from satjax.assess.spelling import plainly
from satjax.outcomes import Item
from satjax.outcomes.lettered import LETTERS, lettered_runs, with_letters
from satjax.outcomes.splits import folded

CHOOSE = 'Think step by step, then end with "The answer is" and the letter of the right option in brackets.'
WRITE = 'Think step by step, then end with a line of "The answer is:" and nothing but the answer.'

_LETTERED = re.compile(r"\(?([A-Za-z])(?:[.)、]\s*|\s+|\Z)(.*)", re.DOTALL)
"""An answer that is a letter, however it is written, or a letter and a text: `b`, `(B)`, `B. Rome`."""


@dataclass(frozen=True)
class Question:
    """An item as it is asked. `options` are those of its text, or none where the answer is to be written; `right` is the index among them."""

    item_id: str
    text: str
    answer: str
    stem: str = ""
    options: tuple[str, ...] = ()
    right: int = -1

    @cached_property
    def rotations(self) -> int:
        """Orders of the options in which it can be asked: as many as there are options, 1 where there are none."""
        return max(1, len(self.options))

    def right_letter(self, rotation: int) -> str:
        """The letter of the right option in a rotation."""
        return LETTERS[(self.right - rotation) % len(self.options)]

    def rotated(self, rotation: int) -> tuple[str, ...]:
        """The options in the order of a rotation: each moves up by that many places, the first ones come last."""
        return self.options[rotation:] + self.options[:rotation]

    def prompt(self, rotation: int = 0) -> str:
        """The user message: the item's own text, or in another rotation its question and options lettered anew, and how to end the answer."""
        text = with_letters(self.stem, self.rotated(rotation)) if rotation else self.text
        return f"{text}\n\n{CHOOSE if self.options else WRITE}"


def question_of(item: Item) -> Question | None:
    """How an item is asked, or None where nobody knows its answer.

    Where the text ends with lettered options and the answer is the letter of one, or else the very text of exactly one, or else its letter in
    another form (`(B)`, `b`, `B.`, `B. Rome`), an option is to be chosen; everything else is to be written.
    """
    answer = (item.answer or "").strip()
    if not answer:
        return None
    said = plainly(answer)
    runs = list(lettered_runs(item.text))
    if len(said) == 1 and said in LETTERS:
        right = LETTERS.index(said)
        for start, options in runs:
            if right < len(options):
                return Question(item.id, item.text, answer, item.text[:start].rstrip(), options, right)
    # Of earlier runs, those of worked examples, a text says nothing.
    for start, options in runs[:1]:
        same = [place for place, option in enumerate(options) if _same(option, said)]
        if not same and (named := _LETTERED.fullmatch(said)):
            place, rest = LETTERS.index(named[1].upper()), named[2].strip()
            same = [place] if place < len(options) and (not rest or _same(rest, options[place])) else []
        if len(same) == 1:
            return Question(item.id, item.text, answer, item.text[:start].rstrip(), options, same[0])
    return Question(item.id, item.text, answer)


def _same(a: str, b: str) -> bool:
    return folded(plainly(a)) == folded(plainly(b))
