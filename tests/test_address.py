import pytest

from satjax.address import check_address
from satjax.errors import SatjaxError


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "https://host/v1/", "http://[::1]:80/v1", "http://h"])
def test_addresses(url):
    check_address(url, "here", "a variable")


@pytest.mark.parametrize(
    "url", ["localhost/v1", "http://h:0/v1", "http://h:x/v1", "ftp://h", "http://h/a b", "http://é/v1"]
)
def test_what_is_none(url):
    with pytest.raises(SatjaxError, match=r"^here is no address; give one such as http://localhost:8000/v1$"):
        check_address(url, "here", "a variable")
