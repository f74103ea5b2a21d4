"""The playground in headless Chromium: what the page shows after it ranked, and pictures of it."""

import re
import shutil
import subprocess
from urllib.parse import urlencode

import numpy as np
import pytest

from tests.serving import FakeRouter, serving, write_zoo
from tests.test_evidence import profile

NAMES = ("large & dear", "middle", "small <b>")
TEXT = "Find all c such that Z_3[x]/(x^2 + c) is a field. & <i>why?</i>"


class Router(FakeRouter):
    def task_likeness(self, text):
        return np.array([0.9, 0.8, 0.7], np.float32)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed: apt install chromium")
    home = tmp_path_factory.mktemp("chromium")

    def run(address, *options, **fragment):
        found = subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={home}",
                "--virtual-time-budget=5000",
                *options,
                f"{address}/#{urlencode(fragment)}",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return found.stdout

    return run


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "zoo.toml"
    price = {
        name: {"usd_per_million_output_tokens": value}
        for name, value in zip(NAMES, ("60.0", "6.0", "0.6"), strict=True)
    }
    return write_zoo(path, "http://localhost:1", dict.fromkeys(NAMES, "m"), **price)


@pytest.fixture(scope="module")
def address(zoo):
    router = Router(dict(zip(NAMES, (0.9, 0.85, 0.4), strict=True)))
    router.profiles = tuple(
        profile(name, row) for name, row in zip(NAMES, ([0.9, 0.1, 0.5], [0.8, 0.6, 0.4], [0.1, 0.2, 0.3]), strict=True)
    )
    with serving(router, zoo) as (address, _):
        yield address


def shown(page):
    """Names in the order of the bars, and their widths."""
    return re.findall(r'<span class="name">(.*?)</span>.*?width: ([\d.]+)%', page)


def test_bars_prices_and_tasks_of_an_instruction(chromium, address):
    page = chromium(address, "--dump-dom", instruction=TEXT, slider=0)
    assert shown(page) == [("large &amp; dear", "90"), ("middle", "85"), ("small &lt;b&gt;", "40")]
    assert "90.0 %" in page
    assert "$0.031" in page
    assert '<span id="first">large &amp; dear</span>' in page
    spoke_for, against = (re.search(rf'<div id="{side}">(.*?)</div></div>', page)[1] for side in ("for", "against"))
    assert "task0" in spoke_for
    assert "90.0 % right, the mean is 60.0 %" in spoke_for
    assert "task1" in against
    assert "By quality" in page


@pytest.mark.parametrize(
    ("slider", "first", "said"), [(30, "middle", "may cost $0.00032"), (60, "small &lt;b&gt;", "may cost $0.000010")]
)
def test_the_slider_weighs_cost(chromium, address, slider, first, said):
    page = chromium(address, "--dump-dom", instruction=TEXT, slider=slider)
    assert shown(page)[0][0] == first
    assert said in page


def test_a_page_that_needs_a_key_asks_for_it(chromium, zoo):
    with serving(FakeRouter(dict.fromkeys(NAMES, 0.5)), zoo, keys=["k" * 20]) as (address, _):
        page = chromium(address, "--dump-dom", instruction="hello")
    assert '<div id="locked">' in page
    assert "give one of the server's API keys" in page
    assert not shown(page)


@pytest.mark.parametrize("width", [1100, 500])
def test_a_picture_of_it(chromium, address, tmp_path, width):
    from matplotlib.image import imread

    chromium(
        address, f"--screenshot={tmp_path / 'page.png'}", f"--window-size={width},1200", instruction=TEXT, slider=0
    )
    picture = imread(tmp_path / "page.png")
    assert picture.shape[:2] == (1200, width)
    blue = (picture[..., 2] > 0.7) & (picture[..., 0] < 0.3)
    assert blue.any(axis=0).sum() > width // 4


def test_the_page_needs_nothing_from_elsewhere():
    from importlib.resources import files

    text = files("satjax.serving").joinpath("playground.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)|https?://|@import|innerHTML', text)
