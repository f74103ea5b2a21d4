"""The thin inference function, on a router that was trained and exported by satjax itself."""

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from satjax.aptitude import profile_from_outcomes
from satjax.calibration import Calibration
from satjax.config import MeshConfig
from satjax.errors import SatjaxError
from satjax.export.directory import read_router
from satjax.outcomes import read_table
from satjax.pretrained import DEFAULT
from satjax.router import Ranked, Router, ranking
from satjax.sharding import make_mesh
from tests.trained import Trained
from tests.xla import compilations

TEXTS = ["What is 17 percent of 240?", "Reverse the word 'lantern'.", "Sort the list 3, 1, 2."]


@pytest.fixture
def router(trained: Trained) -> Router:
    return Router.load(trained.router)


def test_scores_are_a_float32_matrix_of_the_zoo(router, trained):
    scores = router.score(TEXTS)
    assert scores.shape == (3, 6)
    assert scores.dtype == np.float32
    assert sorted(router.candidates) == sorted(read_table(trained.outcomes).candidate_ids)
    calibration = json.loads((trained.router / "calibration.json").read_text())
    expected = 1 / (1 + np.exp(-(calibration["scale"] * scores + calibration["offset"])))
    np.testing.assert_allclose(router.probability(TEXTS), expected, atol=1e-6)


def test_a_ranking_goes_from_the_likeliest_down(router):
    ranked = router.rank(TEXTS[0])
    assert [entry.candidate for entry in ranked] != []
    assert sorted(entry.candidate for entry in ranked) == sorted(router.candidates)
    probabilities = [entry.probability for entry in ranked]
    assert probabilities == sorted(probabilities, reverse=True)
    row = dict(zip(router.candidates, router.probability([TEXTS[0]])[0], strict=True))
    assert all(entry.probability == row[entry.candidate] for entry in ranked)
    assert router.rank(TEXTS[0], top=2) == ranked[:2]


class Labelled:
    """Texts by labels of their own, as a shuffled column of a data frame has them: `column[0]` need not be the first."""

    def __init__(self, text_of: dict[int, str]):
        self.text_of = text_of

    def __len__(self) -> int:
        return len(self.text_of)

    def __iter__(self) -> Iterator[str]:
        return iter(self.text_of.values())

    def __getitem__(self, label: int) -> str:
        return self.text_of[label]


def test_scores_stand_in_the_order_in_which_instructions_come():
    router = Router.load()
    column, expected = Labelled({2: TEXTS[2], 0: TEXTS[0], 1: TEXTS[1]}), router.score([TEXTS[2], TEXTS[0], TEXTS[1]])
    np.testing.assert_array_equal(router.score(column), expected)  # type: ignore[arg-type]
    np.testing.assert_array_equal(router.score(iter(column)), expected)  # type: ignore[arg-type]


def test_some_candidates_rank_as_they_do_among_all(router):
    chosen = [router.candidates[4], router.candidates[1]]
    every = {entry.candidate: entry for entry in router.rank(TEXTS[1])}
    some = router.rank(TEXTS[1], candidates=chosen)
    assert {entry.candidate for entry in some} == set(chosen)
    assert all(entry == every[entry.candidate] for entry in some)
    np.testing.assert_array_equal(router.score(TEXTS, chosen), router.score(TEXTS)[:, [4, 1]])


def test_loaded_twice_it_scores_the_same(router, trained):
    np.testing.assert_array_equal(router.score(TEXTS), Router.load(trained.router).score(TEXTS))


def test_a_mesh_of_other_axes_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(SatjaxError, match=r"satjax\.sharding\.make_mesh"):
        Router.load(tmp_path, mesh=jax.make_mesh((2,), ("x",), devices=jax.devices()[:2]))


def test_a_mesh_that_jax_made_will_do(router, trained):
    mesh = jax.make_mesh((2, 1, 1), ("data", "fsdp", "tensor"), devices=jax.devices()[:2])
    np.testing.assert_allclose(Router.load(trained.router, mesh=mesh).score(TEXTS), router.score(TEXTS), atol=1e-5)


@pytest.mark.parametrize(("axes", "shape"), [(("model",), (2,)), (("data", "fsdp", "tensor"), (2, 1, 1))])
def test_a_program_may_have_set_a_mesh_and_float64(router, trained, axes, shape):
    profile, expected = router.profiles[0], router.score(TEXTS)
    theirs = jax.make_mesh(shape, axes, devices=jax.devices()[:2])
    ours = make_mesh(MeshConfig(2, 1, 1), jax.devices()[2:4])
    with jax.enable_x64(True), jax.set_mesh(theirs):
        for one in (router, Router.load(trained.router), Router.load(trained.router, mesh=ours)):
            for _ in one.warm_up(1):
                assert jax.sharding.get_mesh() == theirs
            one.add(profile)
            np.testing.assert_allclose(one.score(TEXTS), expected, atol=1e-5)
        assert jax.numpy.ones(()).dtype == np.float64


def test_on_a_cpu_that_multiplies_bfloat16(router, trained, monkeypatch):
    monkeypatch.setattr("satjax.assembly.cpu_multiplies_bfloat16", lambda: True)
    narrow = Router.load(trained.router)
    packed = [path for path, value in narrow._scorer.params.items() if value.dtype == np.uint32]
    assert "llm/upper/mlp/up/kernel" in packed
    difference = np.abs(narrow.probability(TEXTS) - router.probability(TEXTS)).max()
    assert 0 < difference < 0.02
    np.testing.assert_array_equal(Router.load(trained.router, exact=True).score(TEXTS), router.score(TEXTS))


@pytest.mark.parametrize("attention", ["auto", "xla"])
def test_exact_is_float32_whatever_the_router_says(router, trained, monkeypatch, attention):
    def as_bfloat16(directory):
        files = read_router(directory)
        return replace(files, config=replace(files.config, compute_dtype="bfloat16", attention=attention))

    monkeypatch.setattr("satjax.router.read_router", as_bfloat16)
    assert np.abs(Router.load(trained.router).score(TEXTS) - router.score(TEXTS)).max() > 0
    np.testing.assert_array_equal(Router.load(trained.router, exact=True).score(TEXTS), router.score(TEXTS))


def test_candidates_join_and_leave_by_profile_file(router, trained, tmp_path):
    before, names = router.score(TEXTS), router.candidates
    value = json.loads(next((trained.router / "profiles").glob("*.json")).read_text())
    value["candidate"] = "newcomer"
    for task in value["tasks"]:
        task["item_outcomes"] = [1.0 for _ in task["item_outcomes"]]
    path = tmp_path / "newcomer.json"
    path.write_text(json.dumps(value))
    router.add(path)
    assert router.candidates == (*names, "newcomer")
    with_it = router.score(TEXTS)
    np.testing.assert_allclose(with_it[:, :-1], before, atol=1e-5)
    assert "newcomer" in [entry.candidate for entry in router.rank(TEXTS[0])]
    router.add(str(path))
    assert router.candidates == (*names, "newcomer"), "a candidate of the same name is replaced"
    router.remove("newcomer")
    assert router.candidates == names
    np.testing.assert_allclose(router.score(TEXTS), before, atol=1e-5)
    for name in names:
        router.remove(name)
    with pytest.raises(SatjaxError, match=r"no candidate to rank; add one"):
        router.rank(TEXTS[0])


def test_a_profile_of_another_test_adds_nothing(router, trained, tmp_path):
    table = read_table(trained.outcomes)
    fit = profile_from_outcomes(table, router.aptitude_test, table.candidate_ids[0])
    value = json.loads(next((trained.router / "profiles").glob("*.json")).read_text())
    value |= {"candidate": "stranger", "aptitude_test": "0" * 64}
    (tmp_path / "stranger.json").write_text(json.dumps(value))
    router.remove(fit.candidate)
    before = router.candidates
    with pytest.raises(SatjaxError, match=r"'stranger' belongs to aptitude test 000000000000…, the router's is"):
        router.add(fit, tmp_path / "stranger.json")
    assert router.candidates == before


def test_soft_tokens_are_computed_once(router, monkeypatch):
    router.score(TEXTS)
    monkeypatch.setattr(router._encoder, "soft_tokens", lambda *_: pytest.fail("computed again"))
    router.rank(TEXTS[0])
    router.rank(TEXTS[1], candidates=router.candidates[:2])


def test_compiled_once_for_each_bucket(router):
    for text in TEXTS:
        router.rank(text)
    with compilations() as compiled:
        for n in range(20):
            router.rank(f"Instruction number {n}: sort the words.", candidates=router.candidates[: 1 + n % 6], top=1)
    assert compiled == []


class Named:
    """Encoder and scorer: the soft token of a candidate is its number, and its score."""

    def soft_tokens(self, profiles):
        return np.array([float(p.candidate.partition("-")[2]) for p in profiles]).reshape(-1, 1, 1, 1)

    def score(self, instructions, soft_MOKD, on_progress):
        return np.asarray(soft_MOKD)[None, :, 0, 0, 0]


def test_candidates_come_and_go_while_others_rank():
    files = read_router(DEFAULT)
    profiles = [replace(files.profiles[0], candidate=f"c-{i}") for i in range(8)]
    router, wrong, done = Router(Named(), Named(), files.test, profiles, Calibration()), [], threading.Event()

    def rank():
        while not done.is_set():
            try:
                order = [entry.candidate for entry in router.rank("x")]
            except Exception as error:
                wrong.append(error)
                return
            if order != sorted(order, reverse=True):
                wrong.append(order)

    interval, threads = sys.getswitchinterval(), [threading.Thread(target=rank) for _ in range(2)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(60):
            router.remove("c-0")
            router.add(profiles[0])
            router.remove("c-3")
            router.add(profiles[3])
    finally:
        done.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert not wrong
    assert len(router.candidates) == 8


def test_what_cannot_be_ranked_is_one_line(router):
    name = router.candidates[0]
    with pytest.raises(SatjaxError, match=f"unknown candidate '{name[:-1]}': did you mean '{name}'"):
        router.rank(TEXTS[0], candidates=[name[:-1]])
    with pytest.raises(SatjaxError, match="unknown candidate 'nobody'"):
        router.remove("nobody")
    with pytest.raises(SatjaxError, match="takes a list of instructions"):
        router.score("one text")
    with pytest.raises(SatjaxError, match="instruction 2 of 2 is empty"):
        router.score(["fine", " \n"])
    with pytest.raises(SatjaxError, match="instruction 1 of 1 is int, not text"):
        router.score([5])  # type: ignore[list-item]
    with pytest.raises(SatjaxError, match=f"candidates = '{name}' is one name; put it into a list"):
        router.rank(TEXTS[0], name)
    with pytest.raises(SatjaxError, match="top = 0: ask for at least 1"):
        router.rank(TEXTS[0], top=0)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=20), st.integers(1, 25))
def test_equal_scores_keep_the_order_of_names(scores, top):
    names, calibration = [f"c{i}" for i in range(len(scores))], Calibration(2.0, 1.0)
    ranked = ranking(names, np.array(scores, np.float32), calibration, top)
    every = sorted(zip(names, scores, strict=True), key=lambda pair: -pair[1])
    probability = calibration.probability(np.array([score for _, score in every], np.float32)).tolist()
    assert ranked == [Ranked(name, p) for (name, _), p in zip(every, probability, strict=True)][:top]


def test_scores_rank_where_their_probabilities_are_the_same_number():
    ranked = ranking(["a", "b", "c"], np.array([18.0, 25.0, 19.0], np.float32), Calibration())
    assert [(entry.candidate, entry.probability) for entry in ranked] == [("b", 1.0), ("c", 1.0), ("a", 1.0)]


def test_what_no_ranking_can_have_is_said_before_anything_is_scored(router, monkeypatch):
    monkeypatch.setattr(router._scorer, "score", lambda *given: pytest.fail("scored"))
    with pytest.raises(SatjaxError, match="top = -1: ask for at least 1"):
        router.rank(TEXTS[0], top=-1)


def test_serving_changes_programs_and_not_probabilities(trained):
    serving, plain = Router.load(trained.router, serving=True), Router.load(trained.router)
    texts = [*TEXTS, "Sum: " + "3 plus " * 30]
    np.testing.assert_allclose(serving.probability(texts), plain.probability(texts), atol=1e-5)
    assert serving._scorer.writer.config.buckets[:2] == (24, 32)
    assert serving._scorer.writer.config.max_tokens == plain._scorer.writer.config.max_tokens


def test_a_router_that_measures_no_abilities_does_not_say_which_tasks_are_alike(router):
    assert router.task_likeness(TEXTS[0]) is None
