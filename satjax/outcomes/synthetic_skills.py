"""Generators of the synthetic zoo's instructions: each makes one text and its answer from a random generator."""

import datetime
from collections.abc import Callable

import numpy as np

Skill = Callable[[np.random.Generator], tuple[str, str]]

WORDS = [
    "lantern",
    "harbor",
    "meadow",
    "copper",
    "violin",
    "glacier",
    "pepper",
    "saddle",
    "thunder",
    "compass",
    "orchard",
    "velvet",
    "marble",
    "ticket",
    "canyon",
    "button",
    "shadow",
    "planet",
    "garden",
    "mirror",
    "anchor",
    "basket",
    "candle",
    "dragon",
    "engine",
    "forest",
    "guitar",
    "hammer",
    "island",
    "jacket",
    "kettle",
    "ladder",
    "magnet",
    "needle",
    "oyster",
    "pencil",
    "quiver",
    "rocket",
    "spider",
    "tunnel",
    "umbrella",
    "valley",
    "window",
    "yogurt",
    "zipper",
    "bridge",
    "castle",
    "desert",
    "feather",
    "granite",
]
ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL")),
    *((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)
UNITS = (
    ("kilometres", "metres", 1000),
    ("hours", "minutes", 60),
    ("kilograms", "grams", 1000),
    ("feet", "inches", 12),
    ("days", "hours", 24),
)


def _pick(rng: np.random.Generator, *options: str) -> str:
    return options[int(rng.integers(len(options)))]


def _words(rng: np.random.Generator, count: int) -> list[str]:
    return [str(word) for word in rng.choice(WORDS, count, replace=False)]


def _date(rng: np.random.Generator, first_year: int, days: int) -> datetime.date:
    return datetime.date(first_year, 1, 1) + datetime.timedelta(days=int(rng.integers(days)))


def _day(date: datetime.date) -> str:
    return f"{date.day} {date:%B} {date.year}"


def arithmetic(rng: np.random.Generator) -> tuple[str, str]:
    """Sums and differences of large numbers."""
    a, b = map(int, rng.integers(1000, 99999, 2))
    if rng.random() < 0.5:
        return _pick(rng, f"What is {a} + {b}?", f"Add {a} and {b} together.", f"Compute the sum of {a} and {b}."), str(
            a + b
        )
    return _pick(rng, f"What is {a} - {b}?", f"Subtract {b} from {a}, please.", f"How much is {a} minus {b}?"), str(
        a - b
    )


def multiplication(rng: np.random.Generator) -> tuple[str, str]:
    """Products of two-digit and three-digit numbers."""
    a, b = int(rng.integers(12, 99)), int(rng.integers(101, 999))
    texts = (
        f"Multiply {a} by {b} and give only the result.",
        f"What is {a} times {b} exactly?",
        f"Compute the product {a} x {b} without rounding.",
    )
    return _pick(rng, *texts), str(a * b)


def percentage(rng: np.random.Generator) -> tuple[str, str]:
    """Percentages of a price."""
    share, price = int(rng.integers(2, 95)), int(rng.integers(2, 90)) * 10
    texts = (
        f"How much is {share} percent of {price} euros?",
        f"A coat costs {price} euros and is reduced by {share} percent. How big is the discount?",
        f"Calculate {share}% of {price} and give the result.",
    )
    return _pick(rng, *texts), f"{share * price / 100:g}"


def sequence(rng: np.random.Generator) -> tuple[str, str]:
    """The next number of a linear or geometric sequence."""
    start, step = int(rng.integers(2, 120)), int(rng.integers(3, 40))
    geometric = rng.random() < 0.3
    terms = [start * 2**i if geometric else start + step * i for i in range(6)]
    shown = ", ".join(map(str, terms[:5]))
    return _pick(rng, f"Continue the sequence: {shown}, ...", f"Which number comes next: {shown}?"), str(terms[5])


def weekday(rng: np.random.Generator) -> tuple[str, str]:
    """Dates: the day of the week, or the days between two."""
    first = _date(rng, 1950, 27000)
    if rng.random() < 0.6:
        texts = (f"What day of the week was {_day(first)}?", f"On which weekday does {_day(first)} fall?")
        return _pick(rng, *texts), f"{first:%A}"
    days = int(rng.integers(5, 300))
    last = _day(first + datetime.timedelta(days=days))
    texts = (
        f"How many days after {_day(first)} is {last}?",
        f"Find the number of days from {_day(first)} to {last}.",
    )
    return _pick(rng, *texts), str(days)


def units(rng: np.random.Generator) -> tuple[str, str]:
    """Conversion of units."""
    large, small, factor = UNITS[int(rng.integers(len(UNITS)))]
    amount = int(rng.integers(3, 900))
    texts = (
        f"Convert a measure of {amount} {large} to {small}.",
        f"How many {small} are there in {amount} {large}?",
        f"Express a measure of {amount} {large} in {small}.",
    )
    return _pick(rng, *texts), str(amount * factor)


def time_zone(rng: np.random.Generator) -> tuple[str, str]:
    """The time at another offset from UTC."""
    here, there = (int(offset) for offset in rng.choice(np.arange(-11, 13), 2, replace=False))
    hour, minute = int(rng.integers(0, 24)), int(rng.integers(0, 60))
    clock, after = f"{hour:02}:{minute:02}", f"{(hour + there - here) % 24:02}:{minute:02}"
    texts = (
        f"It is {clock} in the zone UTC{here:+}. What time is it in UTC{there:+}?",
        f"When clocks at UTC{here:+} show {clock}, what do clocks at UTC{there:+} show?",
    )
    return _pick(rng, *texts), after


def reversal(rng: np.random.Generator) -> tuple[str, str]:
    """Words spelled backwards."""
    word = "".join(_words(rng, 2))
    texts = (
        f"Reverse the letters of the word '{word}'.",
        f"Write the word '{word}' backwards.",
        f"Spell '{word}' from its end to its start.",
    )
    return _pick(rng, *texts), word[::-1]


def letter_count(rng: np.random.Generator) -> tuple[str, str]:
    """How often a letter stands in a phrase."""
    phrase, letter = " ".join(_words(rng, 3)), _pick(rng, *"aeinrt")
    texts = (
        f"How many times does the letter {letter} occur in '{phrase}'?",
        f"Count the letter {letter} in the phrase '{phrase}'.",
    )
    return _pick(rng, *texts), str(phrase.count(letter))


def sorting(rng: np.random.Generator) -> tuple[str, str]:
    """Lists put in order."""
    numbers = [int(n) for n in rng.choice(999, 6, replace=False)]
    shown = ", ".join(map(str, numbers))
    down = bool(rng.random() < 0.5)
    order = _pick(rng, "from the largest to the smallest", "in descending order") if down else "in ascending order"
    texts = (f"Sort the list {shown} {order}.", f"Arrange these numbers {order}: {shown}.")
    return _pick(rng, *texts), str(sorted(numbers, reverse=down))


def set_operation(rng: np.random.Generator) -> tuple[str, str]:
    """Common or joined members of two sets."""
    words = _words(rng, 6)
    a, b = words[:4], words[2:]
    shown = f"{{{', '.join(a)}}} and {{{', '.join(b)}}}"
    if rng.random() < 0.5:
        texts = (f"Which members do the sets {shown} share?", f"Give the intersection of {shown}.")
        return _pick(rng, *texts), ", ".join(words[2:4])
    return _pick(rng, f"Give the union of the sets {shown}.", f"Merge the sets {shown}."), ", ".join(words)


def boolean(rng: np.random.Generator) -> tuple[str, str]:
    """Truth of a formula about three named propositions."""
    p, q, r = (bool(value) for value in rng.integers(0, 2, 3))
    a, b, c = (str(letter) for letter in rng.choice(list("abcdpqrstxyz"), 3, replace=False))
    form, value = (
        (f"({a} and {b}) or not {c}", (p and q) or not r),
        (f"not {a} or ({b} and {c})", not p or (q and r)),
        (f"({a} or {c}) and not {b}", (p or r) and not q),
    )[int(rng.integers(3))]
    given = f"{a} = {p}, {b} = {q}, {c} = {r}"
    return _pick(rng, f"Given {given}, evaluate {form}.", f"Is '{form}' true or false when {given}?"), str(value)


def syllogism(rng: np.random.Generator) -> tuple[str, str]:
    """Conclusions from two premises."""
    a, b, c = _words(rng, 3)
    valid = rng.random() < 0.5
    premise = f"All {a}s are {b}s. {'All' if valid else 'Some'} {b}s are {c}s."
    texts = (f"Does it follow that all {a}s are {c}s? {premise}", f"{premise} Must every {a} be a {c}?")
    return _pick(rng, *texts), "yes" if valid else "no"


def roman(rng: np.random.Generator) -> tuple[str, str]:
    """Roman numerals, to and from."""
    number = rest = int(rng.integers(20, 3000))
    text = ""
    for value, letters in ROMAN:
        text += letters * (rest // value)
        rest %= value
    if rng.random() < 0.5:
        return _pick(
            rng, f"Write the number {number} as a Roman numeral.", f"What is {number} in Roman numerals?"
        ), text
    texts = (f"Which number is the Roman numeral {text}?", f"Convert the Roman numeral {text} to digits.")
    return _pick(rng, *texts), str(number)


def base(rng: np.random.Generator) -> tuple[str, str]:
    """Binary and hexadecimal."""
    number = int(rng.integers(17, 4000))
    name, shown = (("binary", f"{number:b}"), ("hexadecimal", f"{number:x}"))[int(rng.integers(2))]
    texts = (f"Convert the decimal number {number} to {name} digits.", f"Write the decimal number {number} in {name}.")
    return _pick(rng, *texts), shown


def code(rng: np.random.Generator) -> tuple[str, str]:
    """What a line of Python prints."""
    numbers, k = [int(n) for n in rng.integers(1, 60, 4)], int(rng.integers(2, 9))
    line, value = (
        (f"print(sum(x * {k} for x in {numbers}))", sum(x * k for x in numbers)),
        (f"print(max({numbers}) % {k})", max(numbers) % k),
        (f"print(len([x for x in {numbers} if x > {k * 5}]))", len([x for x in numbers if x > k * 5])),
    )[int(rng.integers(3))]
    texts = (f"What does this Python line print? {line}", f"Trace the code {line} and give its output.")
    return _pick(rng, *texts), str(value)


SKILLS: dict[str, Skill] = {
    skill.__name__: skill
    for skill in (
        *(arithmetic, multiplication, percentage, sequence, weekday, units, time_zone, reversal),
        *(letter_count, sorting, set_operation, boolean, syllogism, roman, base, code),
    )
}
GROUPS = {
    **dict.fromkeys(("arithmetic", "multiplication", "percentage", "sequence"), "numbers"),
    **dict.fromkeys(("weekday", "units", "time_zone"), "measures"),
    **dict.fromkeys(("reversal", "letter_count"), "text"),
    **dict.fromkeys(("sorting", "set_operation"), "collections"),
    **dict.fromkeys(("boolean", "syllogism"), "logic"),
    **dict.fromkeys(("roman", "base", "code"), "formats"),
}
"""Skills that tend to come together in a candidate."""
