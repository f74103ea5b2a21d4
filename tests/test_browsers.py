import pytest

from satjax.serving.browsers import by_another_name, from_another_site, host_of, is_loopback


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1:8000", "127.0.0.1", "[::1]:8000", "LOCALHOST", "app.localhost:1"]
)
def test_who_calls_the_machine_by_its_own_name_may_ask(host):
    assert not from_another_site({"host": host}, "127.0.0.1")


@pytest.mark.parametrize(
    "host", ["evil.example:8000", "localhost.evil.example", "10.0.0.7", "", "[::1", "127.0.0.1.evil.example"]
)
def test_a_name_made_to_point_here_may_not(host):
    assert from_another_site({"host": host}, "127.0.0.1")
    assert from_another_site({"host": host}, "::1")


def test_on_an_address_of_a_network_names_are_what_they_are():
    assert not from_another_site({"host": "router.example"}, "10.0.0.7")
    assert not from_another_site({"host": "router.example"}, None)


def test_what_gives_no_host_is_no_browser():
    assert not from_another_site({}, "127.0.0.1")


def test_browsers_word_is_taken_everywhere():
    for site in ("cross-site", "same-site"):
        assert from_another_site({"host": "localhost", "sec-fetch-site": site}, "10.0.0.7")
    assert not from_another_site({"host": "localhost", "sec-fetch-site": "same-origin"}, "127.0.0.1")


@pytest.mark.parametrize("server", ["10.0.0.7", "127.0.0.1", None])
def test_where_browsers_say_nothing_of_the_site_the_origin_tells(server):
    host = {"host": "localhost:8080"}
    for origin in ("http://evil.example", "http://localhost", "http://localhost:80801", "null", ""):
        assert from_another_site({**host, "origin": origin}, server)
    for origin in ("http://localhost:8080", "https://LOCALHOST:8080"):
        assert not from_another_site({**host, "origin": origin}, server)
    behind_a_proxy = {"host": "10.0.0.7", "origin": "https://router.example", "sec-fetch-site": "same-origin"}
    assert not from_another_site(behind_a_proxy, "10.0.0.7")


def test_another_name_is_all_that_counts_where_nothing_is_changed():
    assert by_another_name({"host": "evil.example"}, "127.0.0.1")
    assert not by_another_name({"host": "localhost", "sec-fetch-site": "cross-site"}, "127.0.0.1")


def test_hosts_and_loopback_names():
    assert host_of("user@a.example:1") == "a.example"
    assert host_of("[::1]:80") == "::1"
    assert not is_loopback("")
    assert is_loopback("127.9.9.9")
