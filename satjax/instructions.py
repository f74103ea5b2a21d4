"""Capability instructions `z = [e_c, e_x, e_p]` as token rows, in both layouts (paper section 3.3; docs/architecture.md)."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from satjax.config import PromptConfig
from satjax.errors import SatjaxError

log = logging.getLogger("satjax")

INQUIRY = "Considering the capability of the model, predict whether the model can handle the instruction by answering 'Yes' or 'No'."
HEAD = "Instruction:\n"
END = "\n\n" + INQUIRY
CAPABILITY_FIRST_TAIL = "\nAnswer:"
ANSWER = "\n\nAnswer:"
TEXTS_AT_ONCE = 1024
"""What a tokenizer makes of a text takes tens of times the memory of its tokens."""
LONG = 64
"""Characters of an instruction for each token that there is room for, from which on only its ends are tokenized: ten times as many as tokens mostly have."""
NEAR, AROUND = 1000, 32
"""Characters in which a place to cut is looked for, and on each side of it those that decide whether the tokenizer splits there itself."""
BETWEEN_WORDS = re.compile(r"[0-9A-Za-z](?= [A-Za-z])")


@dataclass(frozen=True)
class TokenRows:
    """Texts as token ids: `token` int32 `[rows, L]`, padded on the right with 0, and `length` int32 `[rows]`."""

    token: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.length)

    def take(self, index: np.ndarray, width: int) -> "TokenRows":
        """Rows by index, cut or padded to `width` columns; no row may be longer than that."""
        rows = self.token[index, :width]
        return TokenRows(np.pad(rows, ((0, 0), (0, width - rows.shape[1]))), self.length[index])


def pad_rows(rows: Sequence[Sequence[int] | np.ndarray], width: int | None = None) -> TokenRows:
    """Token lists as one array, as wide as the longest of them or as `width`."""
    length = np.array([len(row) for row in rows], np.int32)
    token = np.zeros((len(rows), width or max(1, int(length.max(initial=0)))), np.int32)
    for row, ids in zip(token, rows, strict=True):
        row[: len(ids)] = ids
    return TokenRows(token, length)


def lose_middle(ids: list[int], room: int) -> list[int]:
    """Tokens of a text, both ends of it where there is no room for more."""
    return ids if len(ids) <= room else ids[: (room + 1) // 2] + ids[len(ids) - room // 2 :]


def answer_ids(tokenizer: Tokenizer, context: str) -> tuple[int, int]:
    """Ids of the answers "Yes" and "No" as they would follow `context`; each must be a single token there."""
    start = tokenizer.encode(context, add_special_tokens=False).ids
    found = []
    for answer in (" Yes", " No"):
        ids = tokenizer.encode(context + answer, add_special_tokens=False).ids
        if ids[: len(start)] != start or len(ids) != len(start) + 1:
            raise SatjaxError(
                f"tokenizer: {answer.strip()!r} after {context!r} is not a single token; use base weights whose tokenizer has both answers"
            )
        found.append(ids[-1])
    return found[0], found[1]


@dataclass(frozen=True)
class PromptWriter:
    """Writes instructions as the text rows of a layout.

    `instruction_first`: `head, x, inquiry` (or the other ending) is the text and `tail_ids` follow each candidate's soft tokens.
    `capability_first`: `x, inquiry, tail` follows the soft tokens as one text, and there is no separate tail.
    """

    config: PromptConfig
    tokenizer: Tokenizer
    start_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    tail_ids: tuple[int, ...]
    yes_id: int
    no_id: int

    def encode(self, instructions: Sequence[str]) -> TokenRows:
        """Token rows of the instructions; longer ones lose their middle, never the prompt, with one counted warning.

        Raises SatjaxError for an instruction that is empty or no text.
        """
        check_instructions(instructions)
        room = self.config.max_tokens - len(self.start_ids) - len(self.end_ids)
        texts, rows, num_cut = list(instructions), list[np.ndarray](), 0
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            for ids in self._ids(texts[start : start + TEXTS_AT_ONCE], room):
                num_cut += len(ids) > room
                ids = lose_middle(ids, room)
                rows.append(np.array([*self.start_ids, *ids, *self.end_ids], np.int32))
        if num_cut:
            log.warning("%d of %d instructions exceed %d tokens and lost their middle", num_cut, len(texts), room)
        return pad_rows(rows)

    def _ids(self, texts: Sequence[str], room: int) -> Iterator[list[int]]:
        """Tokens of texts; of one far too long those of both ends, more than there is room for."""
        pieces = [self._ends(text, room) for text in texts]
        encodings = iter(
            self.tokenizer.encode_batch([piece for of_text in pieces for piece in of_text], add_special_tokens=False)
        )
        for text, of_text in zip(texts, pieces, strict=True):
            ids = [next(encodings).ids for _ in of_text]
            if len(ids) > 1 and min(map(len, ids)) < room:  # such as of blanks, of which many are one token
                ids = [self.tokenizer.encode(text, add_special_tokens=False).ids]
            yield [token for piece in ids for token in piece]

    def _ends(self, text: str, room: int) -> tuple[str, ...]:
        """The text, or both ends of one that is far too long, where it can be cut with no token at its ends another one."""
        half = LONG * room // 2
        if len(text) <= 2 * half + 2 * NEAR:
            return (text,)
        end, start = self._cut(text, half), self._cut(text, len(text) - half - NEAR)
        return (text,) if end is None or start is None else (text[:end], text[start:])

    def _cut(self, text: str, begin: int) -> int | None:
        """A place soon after `begin` where the tokenizer splits texts before it looks at words, whatever stands further off."""
        found, split = BETWEEN_WORDS.search(text, begin, begin + NEAR), self.tokenizer.pre_tokenizer
        if found is None or split is None:
            return None
        cut = found.end()
        pieces = split.pre_tokenize_str(text[cut - AROUND : cut + AROUND])
        return cut if any(place == AROUND for _, (place, _) in pieces) else None

    def bucket(self, length: int) -> int:
        """The width that a row of `length` tokens is padded to."""
        return next(width for width in self.config.buckets if length <= width)


SHORT_BUCKETS = (24, 32, 48, 64, 96, 128, 192)
"""Of a server, below the shortest that the router was trained with: padding changes no score, and costs time."""


def with_short_buckets(writer: PromptWriter) -> PromptWriter:
    """The same prompts, the short ones in buckets of their own."""
    buckets = writer.config.buckets
    return with_buckets(writer, (*(width for width in SHORT_BUCKETS if width < buckets[0]), *buckets))


def with_buckets(writer: PromptWriter, buckets: tuple[int, ...]) -> PromptWriter:
    """The same prompts, padded to other widths; the longest has to stay."""
    return replace(writer, config=replace(writer.config, buckets=buckets))


def check_instructions(instructions: Sequence[str]) -> None:
    """Raises SatjaxError naming the first instruction that is empty or no text."""
    for index, text in enumerate(instructions):
        if fault := _fault(text):
            raise SatjaxError(
                f"instruction {index + 1} of {len(instructions)} is {fault}; give every instruction as non-empty text"
            )


def is_instruction(text: object) -> bool:
    """Whether it is a non-empty text, in valid Unicode."""
    return _fault(text) is None


def _fault(text: object) -> str | None:
    """What keeps it from being an instruction, if anything."""
    if not isinstance(text, str):
        return f"{type(text).__name__}, not text"
    if not text.strip():
        return "empty"
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates: how Python shows command-line bytes that are not UTF-8
        return "not valid Unicode"
    return None


def prompt_writer(config: PromptConfig, tokenizer: Tokenizer, bos_id: int | None) -> PromptWriter:
    """Tokenizes the fixed parts of the prompt once and resolves the answer tokens.

    From here on `tokenizer` takes names of control tokens, such as `<|im_end|>`, for the text that they are: nothing of an instruction, which
    anybody may have written, ends it or begins another.
    """
    tokenizer.encode_special_tokens = True

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

    if config.layout == "instruction_first":
        bos = () if bos_id is None else (bos_id,)
        ending = END if config.ending == "inquiry" else ANSWER
        start, end, tail = (*bos, *ids(HEAD)), ids(ending), ids(config.tail)
        context = config.tail or ending
    else:
        start, end, tail = ids(HEAD), ids(END + CAPABILITY_FIRST_TAIL), ()
        context = CAPABILITY_FIRST_TAIL
    if config.max_tokens < len(start) + len(end) + 8:
        raise SatjaxError(
            f"config router.prompt.buckets: the longest, {config.max_tokens} tokens, leaves no room beside the prompt's {len(start) + len(end)}; raise it"
        )
    yes_id, no_id = answer_ids(tokenizer, context) if config.ending == "inquiry" else (0, 0)  # nobody asks
    return PromptWriter(config, tokenizer, start, end, tail, yes_id, no_id)
