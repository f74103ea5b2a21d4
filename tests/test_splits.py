import pytest

from satjax.outcomes.splits import split_of


def test_split_of_folds_blanks_and_holds_still():
    assert split_of("a  question\n") == split_of("a question")
    # Changing the hash would move instructions of existing routers between splits.
    initials = "".join(split_of(f"question {n}")[1] for n in range(12))
    assert initials == "rraerreerrar"  # second letters: tRain, vAl, tEst


def test_shares_are_those_of_the_design():
    splits = [split_of(f"instruction {n}") for n in range(4000)]
    shares = [splits.count(name) / len(splits) for name in ("train", "val", "test")]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)
