"""Lettered options in texts: where they are found, and where they end."""

import pytest

from satjax.outcomes.lettered import lettered_runs
from tests.seconds import seconds


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("Which?\nA. one\nB. two", [(7, ("one", "two"))]),
        ("Which?\n(A) one\n(B) two\n", [(7, ("one", "two"))]),
        ("Which?\nA. one\nB. two\nAnswer:", [(7, ("one", "two"))]),
        ("Which?\nA. one\nB. two\n\n答案：\n", [(7, ("one", "two"))]),
        ("Which?\nA. one\nB. two:", [(7, ("one", "two:"))]),
        ("Which?\nA. one\nB. two, which\nis even", [(7, ("one", "two, which\nis even"))]),
        ("A. a\nB. b\nAnswer: B\n\nA. c\nB. d\nAnswer:", [(21, ("c", "d")), (0, ("a", "b\nAnswer: B"))]),
        ("哪座城市？\nA、北京\nB、上海", [(6, ("北京", "上海"))]),
        ("哪座城市？\nA．北京\nB．上海", [(6, ("北京", "上海"))]),
        ("哪座城市？\n（Ａ）北京\n（Ｂ） 上海", [(6, ("北京", "上海"))]),
        ("哪座城市？\nA.北京\nB.上海", [(6, ("北京", "上海"))]),
        ("Who?\nA.B. Yehoshua\nB.C. Forbes", []),
        ("A. alone", []),
        ("B. two\nC. three", []),
        ("", []),
    ],
)
def test_runs_are_found_the_last_first(text, runs):
    # An earlier run of as many options takes in all later ones with its last option; only the last run is compared whole.
    found = list(lettered_runs(text))
    assert [start for start, _ in found] == [start for start, _ in runs]
    assert [options[:-1] for _, options in found] == [options[:-1] for _, options in runs]
    assert found[:1] == runs[:1]


def test_many_letters_take_no_long_time():
    def taken(lines):
        text = "A. x\n" * lines
        assert list(lettered_runs(text)) == []
        return seconds(lambda: list(lettered_runs(text)))

    # What grows with the square of the lines takes a hundred times as long, and what grows with them ten times.
    assert taken(100_000) < 40 * max(taken(10_000), 0.01)
