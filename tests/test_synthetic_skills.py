"""The answers of the generated instructions are right, by another way of solving them than the generators'."""

import ast
import datetime
import re
from collections import Counter

import numpy as np
import pytest

from satjax.outcomes.synthetic import synthetic_zoo
from satjax.outcomes.synthetic_skills import ROMAN, SKILLS


@pytest.fixture(scope="module")
def zoo():
    return synthetic_zoo()


def numbers(text: str) -> list[int]:
    return [int(word) for word in re.findall(r"\d+", text)]


def day(text: str) -> datetime.date:
    return datetime.datetime.strptime(text, "%d %B %Y").date()


def solve(skill: str, text: str) -> str | None:
    """An answer found from the text alone, in another way than the generator's."""
    if skill == "arithmetic":
        a, b = numbers(text)
        if "Subtract" in text:
            return str(b - a)
        return str(a - b if " - " in text or "minus" in text else a + b)
    if skill == "multiplication":
        a, b = numbers(text)
        return str(sum(a for _ in range(b)))
    if skill == "percentage":
        found = numbers(text)
        share, price = (found[1], found[0]) if "coat" in text else (found[0], found[1])
        return f"{price / 100 * share:.1f}".removesuffix(".0")
    if skill == "sequence":
        a, b, c, d, e = numbers(text)
        return str(e * 2 if b == 2 * a and c == 2 * b and d == 2 * c else e + (e - d))
    if skill == "weekday":
        dates = [day(found) for found in re.findall(r"\d+ [A-Z][a-z]+ \d{4}", text)]
        return dates[0].strftime("%A") if len(dates) == 1 else str((dates[1] - dates[0]).days)
    if skill == "units":
        factor = {"metres": 1000, "minutes": 60, "grams": 1000, "inches": 12, "hours": 24}
        small = min((unit for unit in factor if re.search(rf"\b{unit}\b", text)), key=lambda unit: unit == "hours")
        return str(numbers(text)[0] * factor[small])
    if skill == "time_zone":
        here, there = (int(found) for found in re.findall(r"UTC([+-]\d+)", text))
        hour, minute = re.findall(r"(\d\d):(\d\d)", text)[0]
        moment = datetime.datetime(2024, 1, 2, int(hour), int(minute)) + datetime.timedelta(hours=there - here)
        return moment.strftime("%H:%M")
    if skill == "reversal":
        return "".join(reversed(re.findall(r"'(\w+)'", text)[0]))
    if skill == "letter_count":
        letter = re.findall(r"letter (\w) ", text)[0]
        return str(Counter(re.findall(r"'(.+)'", text)[0])[letter])
    if skill == "sorting":
        return str(sorted(numbers(text))[:: 1 if "ascending" in text else -1])
    if skill == "set_operation":
        a, b = ([word.strip() for word in part.split(",")] for part in re.findall(r"{(.+?)}", text))
        shared = "share" in text or "intersection" in text
        return ", ".join([word for word in a if word in b] if shared else dict.fromkeys(a + b))
    if skill == "boolean":
        given = {name: value == "True" for name, value in re.findall(r"(\w) = (True|False)", text)}
        form = re.search(r"evaluate (.+)\.$|'(.+)'", text)
        return str(eval(form[1] or form[2], {}, given))
    if skill == "syllogism":
        return "no" if "Some" in text else "yes"
    if skill == "roman":
        digits = numbers(text)
        if digits:
            return None
        values = {letters: value for value, letters in ROMAN}
        word = re.findall(r"numeral ([IVXLCDM]+)", text)[0]
        return str(
            sum(
                -values[a] if values[a] < values.get(b, 0) else values[a]
                for a, b in zip(word, word[1:] + " ", strict=True)
            )
        )
    if skill == "base":
        return format(numbers(text)[0], "x" if "hexadecimal" in text else "b")
    line = re.findall(r"print\((.+)\)", text)[0]
    ast.parse(line)
    return str(eval(line))


@pytest.mark.parametrize("skill", list(SKILLS))
def test_answers_are_right(zoo, skill):
    items = [item for item in zoo.items if item.task == f"synthetic/{skill}"]
    solved = [(item.text, item.answer, solve(skill, item.text)) for item in items]
    assert sum(answer is not None for *_, answer in solved) > 50
    for text, answer, own in solved:
        assert own is None or own == answer, text


def test_roman_numerals_to_text():
    pairs = {"1994": "MCMXCIV", "2024": "MMXXIV", "49": "XLIX"}
    found = {}
    rng = np.random.default_rng(0)
    for _ in range(60_000):
        text, answer = SKILLS["roman"](rng)
        for number in numbers(text):
            found[str(number)] = answer
    assert {number: found.get(number) for number in pairs} == pairs
