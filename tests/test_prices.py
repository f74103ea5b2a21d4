"""Prices out of a zoo file, and what calls are expected to cost."""

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.evaluation.prices import Prices, read_prices

ZOO = """
[serve]
expected_output_tokens = 100

[candidates."a/b"]
base_url = "http://localhost:1/v1"
usd_per_million_input_tokens = 2
usd_per_million_output_tokens = 10.0

[candidates.free]
usd_per_million_input_tokens = 0
usd_per_million_output_tokens = 0
"""


def test_expected_costs_by_hand(tmp_path):
    path = tmp_path / "zoo.toml"
    path.write_text(ZOO)
    prices = read_prices(path)
    assert prices == Prices({"a/b": (2.0, 10.0), "free": (0.0, 0.0)}, 100)
    expected_BM = prices.expected(["x" * 8, "é" * 3], ["free", "a/b", "unknown"])
    np.testing.assert_allclose(expected_BM[:, :2], [[0, (2 * 2 + 100 * 10) / 1e6]] * 2)
    assert np.isnan(expected_BM[:, 2]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no zoo file with prices"),
        ("x = [", "is no zoo file with prices"),
        ("candidates = 3", "is no zoo file with prices"),
        (ZOO.replace("10.0", "-1"), "candidates.a/b.usd_per_million_output_tokens is -1, not a price"),
        (ZOO.replace("10.0", "inf"), "not a price"),
        (ZOO.replace("= 2", "= true"), "not a price"),
        (ZOO.replace("usd_per_million_input_tokens = 2", ""), "is None, not a price"),
        (ZOO.replace("= 100", '= "many"'), "is no zoo file with prices"),
    ],
)
def test_what_has_no_prices_is_said(tmp_path, text, message):
    path = tmp_path / "zoo.toml"
    path.write_text(text)
    with pytest.raises(SatjaxError, match=message) as raised:
        read_prices(path)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SatjaxError, match="cannot be read"):
        read_prices(tmp_path / "zoo.toml")
