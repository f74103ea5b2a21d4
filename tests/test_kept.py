"""A baseline that was fitted is not fitted again, unless it would be given or asked something else."""

import dataclasses

import numpy as np
import pytest

from satjax.evaluation.baselines import BaselineData, Fold, Instructions, Predictor, fitted, kept


def instructions(seed: int, number: int = 5) -> Instructions:
    embedding_BE = np.random.default_rng(seed).normal(size=(number, 4)).astype(np.float32)
    embedding_BE /= np.linalg.norm(embedding_BE, axis=1, keepdims=True)
    return Instructions(embedding_BE, tuple(f"task {n % 2}" for n in range(number)))


def fold(seed: int) -> Fold:
    return Fold(instructions(seed), np.random.default_rng(seed).random((5, 3), np.float32))


@pytest.fixture
def given():
    return BaselineData(fold(0), fold(1), fold(2))


class Counting:
    """Fits by adding up everything that it is given."""

    def __init__(self):
        self.calls = 0

    def __call__(self, data, seed):
        self.calls += 1
        level = float(np.nanmean(data.train.outcome_BM)) + seed / 100
        return Predictor(lambda x: np.full((len(x.tasks), 3), level), {"neighbours": 7, "rate": 0.5}, 0.6)


def test_it_is_fitted_once(given, tmp_path):
    fit, directory = Counting(), tmp_path / "report" / "baselines"
    first = fitted(directory, "a", 0, fit, given, asked=instructions(3))
    again = fitted(directory, "a", 0, fit, given, asked=instructions(3))
    assert fit.calls == 1
    np.testing.assert_array_equal(first.probability_BM, again.probability_BM)
    assert again.probability_BM.dtype == np.float32
    assert (again.chosen, again.seconds) == (first.chosen, first.seconds)
    for _ in range(2):
        np.testing.assert_array_equal(
            fitted(None, "a", 0, fit, given, asked=instructions(3)).probability_BM, first.probability_BM
        )
    assert fit.calls == 3


def test_whatever_differs_is_fitted_anew(given, tmp_path):
    fit = Counting()
    fitted(tmp_path, "a", 0, fit, given, asked=instructions(3))
    train = given.train
    outcome_BM = train.outcome_BM.copy()
    outcome_BM[0, 0] = np.nan
    renamed = Instructions(train.instructions.embedding_BE, ("another", *train.instructions.tasks[1:]))
    others = [
        ("b", 0, given, instructions(3)),
        ("a", 1, given, instructions(3)),
        ("a", 0, dataclasses.replace(given, train=Fold(train.instructions, outcome_BM)), instructions(3)),
        ("a", 0, dataclasses.replace(given, train=Fold(renamed, train.outcome_BM)), instructions(3)),
        ("a", 0, dataclasses.replace(given, val=fold(4)), instructions(3)),
        ("a", 0, dataclasses.replace(given, aptitude=fold(4)), instructions(3)),
        ("a", 0, given, instructions(4)),
        ("a", 0, given, instructions(3, 4)),
    ]
    for number, (name, seed, data, asked) in enumerate(others, 2):
        fitted(tmp_path, name, seed, fit, data, asked=asked)
        assert fit.calls == number
    assert len(list(tmp_path.iterdir())) == len(others) + 1


def test_what_is_of_another_version_or_damaged_is_fitted_anew(given, tmp_path, monkeypatch):
    fit = Counting()
    first = fitted(tmp_path, "a", 0, fit, given, asked=instructions(3))
    [path] = tmp_path.iterdir()
    for damage in (b"", path.read_bytes()[:40]):
        path.write_bytes(damage)
        again = fitted(tmp_path, "a", 0, fit, given, asked=instructions(3))
        np.testing.assert_array_equal(again.probability_BM, first.probability_BM)
    assert fit.calls == 3
    for name, value in (("FORMAT", kept.FORMAT + 1), ("__version__", "another")):
        monkeypatch.setattr(kept, name, value)
        fitted(tmp_path, "a", 0, fit, given, asked=instructions(3))
    assert fit.calls == 5


def test_what_fails_leaves_nothing(given, tmp_path):
    def failing(data, seed):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "kept", "a", 0, failing, given, asked=instructions(3))
    assert not (tmp_path / "kept").exists()
