"""The three objectives, by hand and by what defines them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.errors import SatjaxError
from satjax.policy.objective import Cheapest, Quality, Worth, order, parse_objective

NAN = math.nan
P, PRICE = [0.5, 0.9, 0.7, 0.8], [1.0, 8.0, 2.0, NAN]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Quality(), [1, 3, 2, 0]),
        (Worth(0.0), [1, 3, 2, 0]),
        (Worth(0.1), [2, 0, 1, 3]),
        (Worth(0.01), [1, 2, 0, 3]),
        (Cheapest(0.6), [2, 1, 3, 0]),
        (Cheapest(0.0), [0, 2, 1, 3]),
        (Cheapest(0.95), [1, 3, 2, 0]),
        (Cheapest(0.7), [2, 1, 3, 0]),
    ],
)
def test_by_hand(objective, expected):
    assert order(P, PRICE, objective) == expected


def test_equals_go_by_price_then_as_given():
    assert order([0.5, 0.5, 0.5], [2.0, 1.0, 1.0], Quality()) == [1, 2, 0]
    assert order([0.4, 0.6, 0.5], [1.0, 1.0, 1.0], Cheapest(0.45)) == [1, 2, 0]


OBJECTIVES = st.one_of(st.just(Quality()), st.floats(0, 1e6).map(Worth), st.floats(0, 1).map(Cheapest))
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.one_of(st.just(NAN), st.floats(0, 1e3))), max_size=12)


@given(PAIRS, OBJECTIVES)
def test_it_is_a_permutation_whose_first_is_the_best(pairs, objective):
    probability, price = [p for p, _ in pairs], [c for _, c in pairs]
    ranked = order(np.array(probability), np.array(price), objective)
    assert sorted(ranked) == list(range(len(pairs)))
    if not ranked:
        return
    first = ranked[0]
    match objective:
        case Quality():
            assert probability[first] == max(probability)
        case Cheapest(above) if any(p >= above for p in probability):
            assert probability[first] >= above
            assert not any(p >= above and c < price[first] for p, c in pairs)
        case Cheapest():
            assert probability[first] == max(probability)
        case Worth(weight):
            worth = [p - weight * c for p, c in pairs if not math.isnan(c)]
            assert not worth or not weight or probability[first] - weight * price[first] == max(worth)


@pytest.mark.parametrize(
    "make",
    [lambda: Worth(-1.0), lambda: Worth(math.inf), lambda: Worth(NAN), lambda: Cheapest(1.1), lambda: Cheapest(NAN)],
)
def test_numbers_that_make_no_sense_are_refused(make):
    with pytest.raises(SatjaxError, match="objective: the"):
        make()


def test_lengths_that_differ_are_a_bug():
    with pytest.raises(ValueError, match="2 probabilities and 1 prices"):
        order([0.1, 0.2], [1.0], Quality())


@given(
    st.sampled_from(["quality", "probability - {:g} * price", "cheapest above {:g}"]), st.floats(0, 1, allow_nan=False)
)
def test_what_is_said_is_read_again(form, number):
    text = form.format(number)
    assert str(parse_objective(text)) == text
    assert parse_objective(f"  {text} ") == parse_objective(text)


@given(OBJECTIVES)
def test_an_objective_reads_itself_again(objective):
    assert parse_objective(str(objective)) == objective


def test_short_numbers_stay_short():
    assert [str(Worth(20.0)), str(Cheapest(0.7)), str(Cheapest(0.74123456789))] == [
        "probability - 20 * price",
        "cheapest above 0.7",
        "cheapest above 0.74123456789",
    ]


@given(st.text(max_size=60))
def test_any_other_text_is_one_clear_error(text):
    with pytest.raises(SatjaxError) as error:
        parse_objective(text + "?")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "best",
        "probability - -1 * price",
        "probability-1e999*price",
        "cheapest above 1.1",
        "cheapest above",
        "quality " + " " * 300,
        "cheapest above ٣",
    ],
)
def test_what_is_no_objective(text):
    with pytest.raises(SatjaxError, match="'quality', 'probability - LAMBDA"):
        parse_objective(text)
