import pytest

from satjax.outcomes.splits import split_of, validation_from_train


def test_split_of_folds_blanks_and_holds_still():
    assert split_of("a  question\n") == split_of("a question")
    # Changing the hash would move instructions of existing routers between splits.
    initials = "".join(split_of(f"question {n}")[1] for n in range(12))
    assert initials == "rraerreerrar"  # second letters: tRain, vAl, tEst


def test_shares_are_those_of_the_design():
    splits = [split_of(f"instruction {n}") for n in range(4000)]
    shares = [splits.count(name) / len(splits) for name in ("train", "val", "test")]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


def test_a_tenth_of_the_training_items_can_validate():
    texts = [f"instruction {n}" for n in range(4000)]
    assert [validation_from_train("train", text) for text in texts].count("val") / 4000 == pytest.approx(0.1, abs=0.02)
    assert all(split_of(text) == "train" for text in texts if validation_from_train("train", text) == "val")
    # Another tenth would move training items of existing routers to what they are calibrated on.
    assert [n for n in range(60) if validation_from_train("train", f"question {n}") == "val"] == [1, 49]
    assert {validation_from_train("test", text) for text in texts} == {"test"}
    assert validation_from_train("train", "a  question\n") == validation_from_train("train", "a question")
