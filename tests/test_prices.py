"""What calls are expected to cost at a zoo file's prices."""

import numpy as np

from satjax.evaluation.prices import expected_prices
from satjax.policy.zoo_file import read_zoo_file

ZOO = """
[serve]
expected_output_tokens = 100

[candidates."a/b"]
base_url = "http://localhost:1/v1"
model = "b"
context_tokens = 100
tools = false
usd_per_million_input_tokens = 2
usd_per_million_output_tokens = 10.0

[candidates.free]
base_url = "http://localhost:2/v1"
model = "free"
context_tokens = 100
tools = false
usd_per_million_input_tokens = 0
usd_per_million_output_tokens = 0
"""


def test_by_hand(tmp_path):
    path = tmp_path / "zoo.toml"
    path.write_text(ZOO)
    expected_BM = expected_prices(read_zoo_file(path), ["x" * 8, "é" * 3], ["free", "a/b", "unknown"])
    np.testing.assert_allclose(expected_BM[:, :2], [[0, (2 * 2 + 100 * 10) / 1e6]] * 2)
    assert np.isnan(expected_BM[:, 2]).all()
    assert expected_prices(read_zoo_file(path), [], ["free"]).shape == (0, 1)
