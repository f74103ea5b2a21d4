import hmac

import pytest

from satjax.errors import SatjaxError
from satjax.serving import keys as module
from satjax.serving.keys import KeyRing, read_keys, secret

GOOD, OTHER = "k" * 32, "o" * 32


def test_a_ring_knows_its_keys_and_no_others():
    ring = KeyRing([GOOD, OTHER])
    assert ring.holds(f"Bearer {GOOD}")
    assert ring.holds(f"bearer  {OTHER}")
    for header in (
        None,
        "",
        GOOD,
        f"Basic {GOOD}",
        f"Bearer {GOOD[:-1]}",
        f"Bearer {GOOD}x",
        "Bearer ",
        "Bearer \udce9",
    ):
        assert not ring.holds(header)
    assert not KeyRing().holds("Bearer ")


def test_every_key_is_compared_in_constant_time_whichever_fits(monkeypatch):
    compared, compare_digest = [], hmac.compare_digest

    def compare(a, b):
        compared.append((len(a), len(b)))
        return compare_digest(a, b)

    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    ring = KeyRing([GOOD, OTHER])
    for key in (GOOD, OTHER, "x"):
        ring.holds(f"Bearer {key}")
    assert compared == [(32, 32)] * 6


def test_keys_come_from_the_environment_and_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("KEYS", f"{GOOD}, {OTHER}\n")
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\n{'f' * 20}\n")
    ring = read_keys("KEYS", file)
    assert len(ring) == 3
    assert all(ring.holds(f"Bearer {key}") for key in (GOOD, OTHER, "f" * 20))
    monkeypatch.delenv("KEYS")
    assert len(read_keys("KEYS")) == 0


@pytest.mark.parametrize("content", [f"{GOOD}\r\n{OTHER}\r\n", f"# ours\n{GOOD}\n{OTHER}\n"])
def test_a_byte_order_mark_is_no_part_of_a_key_or_comment(tmp_path, content):
    file = tmp_path / "keys"
    file.write_text(content, encoding="utf-8-sig")
    ring = read_keys("NO_SUCH_VARIABLE", file)
    assert len(ring) == 2
    assert ring.holds(f"Bearer {GOOD}")


def test_what_is_wrong_with_keys_is_said_without_showing_them(tmp_path, monkeypatch):
    monkeypatch.setenv("KEYS", "hunter2")
    with pytest.raises(SatjaxError, match="environment variable KEYS holds a key of fewer than 16") as error:
        read_keys("KEYS")
    assert "hunter2" not in str(error.value)
    monkeypatch.delenv("KEYS")
    with pytest.raises(SatjaxError, match="cannot be read"):
        read_keys("KEYS", tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff" * 40)
    with pytest.raises(SatjaxError, match="no UTF-8 text"):
        read_keys("KEYS", tmp_path / "bytes")
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(SatjaxError, match="holds no key"):
        read_keys("KEYS", tmp_path / "empty")
    monkeypatch.setenv("KEYS", GOOD)
    with pytest.raises(SatjaxError, match="holds no key"):
        read_keys("KEYS", tmp_path / "empty")
    monkeypatch.setenv("SECRET", "two\nlines")
    with pytest.raises(SatjaxError, match="holds characters") as error:
        secret("SECRET", "zoo.toml")
    assert "two" not in str(error.value)
    with pytest.raises(SatjaxError, match="variable NOTHING is not set"):
        secret("NOTHING", "zoo.toml")
