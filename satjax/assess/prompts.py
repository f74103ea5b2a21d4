"""What a candidate is asked: the text of an item, its options rotated if that is wanted, and how to end the answer."""

import re
from dataclasses import dataclass
from functools import cached_property

from satjax.outcomes import Item

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHOOSE = 'Think step by step, then end with "The answer is" and the letter of the right option in brackets.'
WRITE = 'Think step by step, then end with a line of "The answer is:" and nothing but the answer.'
_MARKER = re.compile(r"^\(?([A-Z])[.)][ \t]+", re.MULTILINE)


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
        text = self.text
        if rotation:
            lettered = (f"{letter}. {option}" for letter, option in zip(LETTERS, self.rotated(rotation), strict=False))
            text = "\n".join([self.stem, *lettered])
        return f"{text}\n\n{CHOOSE if self.options else WRITE}"


def question_of(item: Item) -> Question | None:
    """How an item is asked, or None where nobody knows its answer.

    Where the answer is a letter and the text ends with lettered options, one of which it names, an option is to be chosen; everything else is
    to be written.
    """
    answer = (item.answer or "").strip()
    if not answer:
        return None
    written = Question(item.id, item.text, answer)
    if len(answer) != 1 or answer not in LETTERS:
        return written
    markers = list(_MARKER.finditer(item.text))
    for first in reversed([i for i, marker in enumerate(markers) if marker[1] == "A"]):
        run: list[re.Match[str]] = []
        for marker in markers[first:]:
            if len(run) < len(LETTERS) and marker[1] == LETTERS[len(run)]:
                run.append(marker)
        right = LETTERS.index(answer)
        if right < len(run) > 1:
            ends = [marker.start() for marker in run[1:]] + [len(item.text)]
            options = tuple(item.text[marker.end() : end].strip() for marker, end in zip(run, ends, strict=True))
            return Question(item.id, item.text, answer, item.text[: run[0].start()].rstrip(), options, right)
    return written
