from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.policy.price import fits, price_usd, request_size
from satjax.policy.zoo_file import ServedCandidate

CANDIDATE = ServedCandidate("a", "http://localhost/v1", "a", 2.0, 8.0, 1000, True)


def test_a_price_is_expected_tokens_at_the_candidates_prices():
    size = request_size(4001, 500)
    assert (size.input_tokens, size.output_tokens) == (1001, 500)
    assert price_usd(CANDIDATE, size) == pytest.approx((1001 * 2 + 500 * 8) / 1e6)
    cheap = replace(CANDIDATE, usd_per_million_input_tokens=0.2, usd_per_million_output_tokens=0.1)
    assert str(price_usd(cheap, request_size(4, 1))) == "3e-07"  # and not 3.0000000000000004e-07


def test_a_request_that_allows_fewer_tokens_is_expected_to_be_cheaper():
    assert request_size(0, 500, 100).output_tokens == 100
    assert request_size(0, 500, 9999).output_tokens == 500
    assert request_size(0, 500, 100, choices=3).output_tokens == 300


@given(st.integers(0, 10**7), st.integers(0, 10**6), st.integers(1, 20))
def test_a_longer_request_never_costs_less(size, tokens, choices):
    price = price_usd(CANDIDATE, request_size(size, tokens, choices=choices))
    assert price <= price_usd(CANDIDATE, request_size(size + 4, tokens, choices=choices))
    assert price <= price_usd(CANDIDATE, request_size(size, tokens + 1, choices=choices))
    assert price <= price_usd(CANDIDATE, request_size(size, tokens, choices=choices + 1))


def test_request_and_answer_fit_the_context_together():
    assert fits(CANDIDATE, request_size(4 * 984, 1), 16)
    assert not fits(CANDIDATE, request_size(4 * 985, 1), 16)
