import datetime
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.endpoints.retry_after import retry_after


def test_retry_after_in_its_two_forms():
    assert retry_after("120") == 120.0
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=60)
    assert retry_after(email.utils.format_datetime(soon, usegmt=True)) == pytest.approx(60, abs=2)
    assert [retry_after(value) for value in (None, "", "soon", "-5", "nan", "Wed, 21 Oct 2015 07:28:00 GMT")] == [
        0.0
    ] * 6
    assert retry_after("Mon, 01 Jan 2020 00:00:00 +99999999999999") == 0.0


@given(st.text(max_size=40))
def test_any_retry_after_is_a_number_of_seconds(value):
    assert 0.0 <= retry_after(value) <= 1e9
