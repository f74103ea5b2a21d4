"""Profiles as arrays: norms by hand, and texts that the encoder reads whole."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satjax.aptitude import AptitudeTest, CapabilityProfile, CoreTask, render_sentences
from satjax.aptitude.capability import AccuracyNorms, ProfileReader, accuracy_norms, hide_items
from satjax.config import ProfileEncoderConfig
from satjax.errors import SatjaxError
from satjax.models.text_encoder import EncoderConfig
from tests.tiny import tiny_tokenizer

NAN = float("nan")
tokenizer = cache(tiny_tokenizer)


def exam(num_tasks: int, keywords: tuple[str, ...] = ("sort", "list", "of", "many", "words")) -> AptitudeTest:
    return AptitudeTest(
        0,
        "s",
        tuple(
            CoreTask(f"s/{t}", (*keywords[:-1], f"w{t}"), tuple(f"{t}.{k}" for k in range(4))) for t in range(num_tasks)
        ),
    )


def profile_of(right: list[int | None], notes: tuple[str, ...] = ()) -> CapabilityProfile:
    """A profile with that many of four items right in each task; None = task unobserved."""
    test = exam(len(right))
    outcome_TK = np.array([[NAN] * 4 if n is None else [1] * n + [0] * (4 - n) for n in right], np.float32)
    count_T = np.array([0 if n is None else 4 for n in right], np.int32)
    accuracy_T = np.array([NAN if n is None else n / 4 for n in right], np.float32)
    tasks, keywords = tuple(task.name for task in test.tasks), tuple(task.keywords for task in test.tasks)
    return CapabilityProfile("alpha", test.fingerprint, tasks, keywords, accuracy_T, count_T, outcome_TK, notes)


def reader(kind: str, num_tasks: int, *, max_positions: int = 512, prefix: str = "", orders: int = 2) -> ProfileReader:
    encoder = EncoderConfig(tokenizer().get_vocab_size(), 16, 2, 2, 32, max_positions, query_prefix=prefix)
    norms = AccuracyNorms((0.5,) * num_tasks, (0.25,) * num_tasks)
    return ProfileReader(ProfileEncoderConfig(kind=kind, orders=orders), encoder, tokenizer(), exam(num_tasks), norms)


def texts(token: np.ndarray, length: np.ndarray) -> list[str]:
    """What stands in the rows, rows of length 0 left out."""
    rows = np.asarray(token).reshape(-1, token.shape[-1])
    return [tokenizer().decode(row[:n].tolist()) for row, n in zip(rows, np.asarray(length).ravel(), strict=True) if n]


def test_norms_by_hand():
    norms = accuracy_norms([profile_of([0, 2, None, 1]), profile_of([4, 2, None, None]), profile_of([2, 2, None, 3])])
    assert norms.mean == pytest.approx((0.5, 0.5, 0.5, 0.5))
    # sqrt((0.25 + 0.25 + 0) / 3); never under 0.05; nobody took the third; 0.25 and 0.75 alone in the fourth
    assert norms.spread == pytest.approx((np.sqrt(1 / 6), 0.05, 0.05, 0.25))


def test_a_zoo_of_one_has_the_smallest_spread():
    norms = accuracy_norms([profile_of([1, 4])])
    assert norms == AccuracyNorms((0.25, 1.0), (0.05, 0.05))


@given(st.lists(st.lists(st.none() | st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=5))
def test_norms_are_finite_and_standardize_the_profiles_they_came_from(right):
    profiles = [profile_of(row) for row in right]
    norms = accuracy_norms(profiles)
    assert np.isfinite([norms.mean, norms.spread]).all()
    assert min(norms.spread) >= 0.05
    standard = np.asarray(replace(reader("tasks", 3), norms=norms).inputs(profiles, 0).accuracy_MT)
    np.testing.assert_allclose(standard.sum(axis=0), 0, atol=1e-5)
    assert (np.abs(standard) <= len(right) ** 0.5 + 1e-5).all()


@pytest.mark.parametrize("kind", ["tasks", "text"])
def test_numbers_are_standardized_and_unobserved_tasks_are_zero(kind):
    partial = replace(profile_of([4, 4, 4]), count_T=np.array([4, 1, 4], np.int32))
    inputs = reader(kind, 3).inputs([profile_of([0, 2, None]), partial], 0)
    np.testing.assert_allclose(inputs.accuracy_MT, [[-2, 0, 0], [2, 2, 2]])
    np.testing.assert_allclose(inputs.certainty_MT, [[1, 1, 0], [1, 0.25, 1]])
    assert {str(inputs.accuracy_MT.dtype), str(inputs.certainty_MT.dtype)} == {"float32"}


def test_a_summary_is_read_like_the_profile_that_it_sums_up():
    profile = profile_of([0, 2, None])
    whole, short = (reader("tasks", 3).inputs([p], 0) for p in (profile, profile.summary()))
    np.testing.assert_array_equal(whole.accuracy_MT, short.accuracy_MT)
    np.testing.assert_array_equal(whole.certainty_MT, short.certainty_MT)


def test_tasks_are_read_by_their_keywords_once_for_all_candidates():
    inputs = reader("tasks", 3, prefix="query: ").inputs([profile_of([0, 2, None])] * 2, 0)
    assert texts(inputs.token, inputs.length) == [f"query: sort, list, of, many, w{t}" for t in range(3)]
    assert inputs.token.shape[0] == inputs.length.shape[0] == 3
    other = reader("tasks", 3, prefix="query: ").inputs([profile_of([4, 4, 4])], 7)
    np.testing.assert_array_equal(other.token, inputs.token)


RIGHT = st.lists(st.none() | st.integers(0, 4), min_size=1, max_size=8).filter(any)


@given(
    RIGHT,
    st.integers(0, 9),
    st.integers(100, 400),
    st.sampled_from(["", "query: "]),
    st.lists(st.just("A note."), max_size=1),
)
@settings(max_examples=40)
def test_texts_fit_the_encoder_and_lose_no_clause(right, seed, max_positions, prefix, notes):
    profile = profile_of(right, tuple(notes))
    inputs = reader("text", len(right), max_positions=max_positions, prefix=prefix).inputs([profile], seed)
    assert inputs.token.ndim == 3
    assert int(inputs.length.max()) <= max_positions
    chunks = [chunk.removeprefix(prefix) for chunk in texts(inputs.token, inputs.length)]
    order = np.random.default_rng(seed).permutation(len(right))
    assert " ".join(chunks) == " ".join(render_sentences(profile, order))
    assert all(chunk.endswith(".") for chunk in chunks)  # cut between clauses only
    for a, b in pairwise(chunks):
        clause = b[: b.index(".") + 1]
        assert len(tokenizer().encode(f"{prefix}{a} {clause}").ids) > max_positions  # as few texts as will do


def test_profiles_with_fewer_clauses_have_empty_chunks():
    inputs = reader("text", 6, max_positions=100).inputs(
        [profile_of([1] * 6), profile_of([1, None, 1, *[None] * 3])], 0
    )
    assert inputs.token.shape[:2] == inputs.length.shape == (2, 6)
    assert (np.asarray(inputs.length) > 0).sum(axis=1).tolist() == [6, 2]
    assert not np.asarray(inputs.token)[1, 2:].any()


@given(st.integers(0, 50), st.integers(0, 50))
@settings(max_examples=20)
def test_the_seed_changes_the_order_only(a, b):
    profile = profile_of([0, 1, 2, 3, 4, None], ("A note.",))
    read = reader("text", 6)
    first, second = (read.inputs([profile], seed) for seed in (a, b))
    np.testing.assert_array_equal(first.accuracy_MT, second.accuracy_MT)
    np.testing.assert_array_equal(first.certainty_MT, second.certainty_MT)
    (one,), (two,) = texts(first.token, first.length), texts(second.token, second.length)
    clauses = render_sentences(profile)
    for text in (one, two):
        assert len(text) == len(" ".join(clauses))
        assert all(clause in text for clause in clauses)
    assert (one == two) or a != b


def test_seeds_give_different_orders_and_the_same_to_every_candidate():
    profiles = [profile_of([0, 1, 2, 3, 4, 0]), profile_of([4, 4, 4, 4, 4, 4])]
    seen = set()
    for seed in range(8):
        inputs = reader("text", 6).inputs(profiles, seed)
        orders = {
            tuple(int(part[0]) for part in text.split("the task of '")[1:])
            for text in texts(inputs.token, inputs.length)
        }
        assert len(orders) == 1
        seen |= orders
    assert len(seen) > 4


def test_only_texts_have_orders_to_average():
    assert reader("text", 3, orders=4).num_orders == 4
    assert reader("tasks", 3, orders=4).num_orders == 1


@pytest.mark.parametrize("kind", ["tasks", "text"])
def test_a_clause_longer_than_the_encoder_is_named(kind):
    with pytest.raises(SatjaxError, match=r"profile text .+… has \d+ tokens; the text encoder reads 10"):
        reader(kind, 3, max_positions=10).inputs([profile_of([1, 1, 1])], 0)


@given(st.floats(0, 0.99), st.integers(0, 2**32 - 1))
def test_hidden_items_are_unobserved_and_the_others_stay(most, seed):
    outcome_MTK = np.random.default_rng(1).integers(0, 2, (5, 6, 20)).astype(np.float32)
    outcome_MTK[0, 0] = NAN
    hidden = hide_items(outcome_MTK, most, np.random.default_rng(seed))
    stays = ~np.isnan(hidden)
    np.testing.assert_array_equal(hidden[stays], outcome_MTK[stays])
    assert np.isnan(hidden[0, 0]).all()
    np.testing.assert_array_equal(hidden, hide_items(outcome_MTK, most, np.random.default_rng(seed)))


def test_each_candidate_loses_a_share_of_its_own():
    hidden = hide_items(np.ones((4000, 10, 20), np.float32), 0.8, np.random.default_rng(0))
    share_M = np.isnan(hidden).mean(axis=(1, 2))
    assert share_M.mean() == pytest.approx(0.4, abs=0.02)
    assert share_M.std() == pytest.approx(0.8 / 12**0.5, abs=0.02)
    assert share_M.max() < 0.95


def test_task_orders_make_texts_of_one_shape():
    """Or every order would be a program of its own."""
    many = reader("text", 12, max_positions=400)
    profiles = [profile_of([3] * 12, notes=("good at sorting",)), profile_of([0] * 12)]
    shapes = {many.inputs(profiles, seed).token.shape for seed in range(12)}
    lengths = {int(many.inputs(profiles, seed).length.max()) for seed in range(12)}
    assert len(shapes) == 1
    assert len(lengths) > 1
    assert next(iter(shapes))[-1] % 64 == 0 or next(iter(shapes))[-1] == 400
