"""What is best, as properties that hold for any probabilities and prices."""

from hypothesis import given
from hypothesis import strategies as st

from satjax.policy.objective import Cheapest, Quality, Worth
from satjax.serving.offers import Offer, in_order

chances = st.floats(0, 1, allow_nan=False)
prices = st.floats(0, 1, allow_nan=False)
pairs = st.lists(st.tuples(chances, prices), min_size=1, max_size=8)
objectives = st.one_of(
    st.just(Quality()),
    st.builds(Worth, st.floats(0, 1e6)),
    st.builds(Cheapest, chances),
)


def offers_of(values):
    return [Offer(f"c{i}", *pair) for i, pair in enumerate(values)]


@given(objectives, pairs)
def test_every_offer_once_and_no_matter_in_which_order_they_came(objective, values):
    offers = offers_of(values)
    ranked = in_order(objective, offers)
    assert sorted(ranked, key=str) == sorted(offers, key=str)
    again = in_order(objective, offers[::-1])
    assert [(o.probability, o.price_usd) for o in again] == [(o.probability, o.price_usd) for o in ranked]


@given(pairs)
def test_quality_asks_for_the_likeliest_and_then_for_the_cheaper(values):
    first = in_order(Quality(), offers_of(values))[0]
    best = max(p for p, _ in values)
    assert (first.probability, first.price_usd) == (best, min(price for p, price in values if p == best))


@given(pairs)
def test_at_no_price_value_is_quality(values):
    offers = offers_of(values)
    assert in_order(Worth(0.0), offers) == in_order(Quality(), offers)


@given(pairs, st.floats(0, 100), st.floats(0, 100))
def test_the_dearer_money_is_the_less_is_spent(values, one, other):
    low, high = sorted((one, other))
    offers = offers_of(values)
    at_low, at_high = (in_order(Worth(number), offers)[0] for number in (low, high))
    assert at_high.price_usd <= at_low.price_usd + 1e-9 or low == high
    for number, first in ((low, at_low), (high, at_high)):
        assert all(first.probability - number * first.price_usd >= o.probability - number * o.price_usd for o in offers)


@given(pairs, chances)
def test_the_cheapest_above_a_threshold(values, threshold):
    offers = offers_of(values)
    ranked = in_order(Cheapest(threshold), offers)
    above = [o for o in ranked if o.probability >= threshold]
    assert ranked[: len(above)] == above
    assert [o.price_usd for o in above] == sorted(o.price_usd for o in above)
    below = [o.probability for o in ranked[len(above) :]]
    assert below == sorted(below, reverse=True)


@given(pairs, chances, chances)
def test_a_higher_threshold_never_spends_less_while_something_is_above(values, one, other):
    low, high = sorted((one, other))
    offers = offers_of(values)
    if any(o.probability >= high for o in offers):
        assert in_order(Cheapest(low), offers)[0].price_usd <= in_order(Cheapest(high), offers)[0].price_usd
