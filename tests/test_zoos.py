import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.evaluation.comparison import Method, compare
from satjax.evaluation.zoos import columns_of_zoos, read_zoos
from satjax.outcomes import Candidate, read_table, synthetic_zoo

ZOOS = Path(__file__).parents[1] / "configs" / "zoos.toml"


def fault(tmp_path: Path, text: str) -> str:
    path = tmp_path / "zoos.toml"
    path.write_text(text)
    with pytest.raises(SatjaxError) as caught:
        read_zoos(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_our_zoos_are_what_they_say(shared_data):
    zoos, table = read_zoos(ZOOS), read_table(shared_data / "mmlu_pro")
    assert list(zoos) == ["small", "small_mixed", "middle_mixed", "larger_mixed", "high"]
    size = {candidate.id: candidate.params_b for candidate in table.candidates}

    def below(bound: float) -> set[str]:
        return {name for name, params in size.items() if params is not None and params < bound}

    assert set(zoos["small"]) == below(10)
    assert set(zoos["middle_mixed"]) == below(60)
    assert set(zoos["larger_mixed"]) == below(1000)
    train = table.split("train")
    mean = dict(zip(table.candidate_ids, np.nanmean(train.scores_MN, axis=1), strict=True))
    best_small = sorted(below(10), key=lambda name: -mean[name])[:5]
    assert set(best_small) < set(zoos["small_mixed"]) < below(10)
    assert len(zoos["small_mixed"]) == 8
    best_large = sorted(below(1000) - below(60), key=lambda name: -mean[name])[:3]
    assert set(zoos["high"]) == set(best_large)


def test_only_whole_zoos_count():
    zoos = {"ab": ("b", "a"), "ac": ("a", "c")}
    assert columns_of_zoos(zoos, ["a", "x", "b"]) == {"ab": [2, 0], "all": [0, 1, 2]}


def test_a_zoo_that_is_left_out_is_warned_of_once(caplog):
    zoos = {"ab": ("b", "a"), "ac": ("a", "c"), "far": tuple("vwxyz")}
    table = synthetic_zoo(seed=2, num_items=100, num_candidates=2)
    table = replace(table, candidates=(Candidate("a"), Candidate("b")))
    test = table.split("test")
    method = Method(np.full((2, *test.scores_MN.T.shape), 0.5), {}, None)
    with caplog.at_level(logging.WARNING, "satjax"):
        compare({"router": method, "other": method}, table, test, zoos)
    assert caplog.messages == [
        "zoo 'ac' is left out: no candidate 'c'",
        "zoo 'far' is left out: no candidate 'v', 'w', 'x' and 2 more",
    ]


def test_a_zoo_includes_others_once(tmp_path):
    path = tmp_path / "zoos.toml"
    path.write_text("[a]\ncandidates = ['x', 'y']\n[b]\nincludes = ['a']\ncandidates = ['y', 'z']\nabout = 'more'\n")
    assert read_zoos(path) == {"a": ("x", "y"), "b": ("x", "y", "z")}


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    path = tmp_path / "zoos.toml"
    path.write_text("[a]\ncandidates = ['x', 'y']\n", encoding="utf-8-sig")
    assert read_zoos(path) == {"a": ("x", "y")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[a\n", "cannot be read"),
        ("a = 1\n", "a is no zoo"),
        ("[a]\nmodels = ['x']\n", "a is no zoo; give it candidates, includes and about"),
        ("[a]\ncandidates = 'x'\n", "a.candidates: a list of names is expected"),
        ("[a]\ncandidates = ['x', 2]\n", "a.candidates: a list of names is expected"),
        ("[a]\ncandidates = ['x', 'x']\n", "fewer than two candidates"),
        ("[b]\nincludes = ['a']\n", "b.includes: no zoo 'a' stands further up in the file"),
        ("[a]\nincludes = ['a']\n", "a.includes: no zoo 'a' stands further up in the file"),
        ("a = " + 5_000 * "[", "cannot be read"),
        ("[candidates.a]\nmodel = 'x'\n", "says how candidates are served, which is for --zoo; give"),
        ("[all]\ncandidates = ['x', 'y']\n", "all stands for every candidate"),
    ],
)
def test_faults_are_one_line(tmp_path, text, words):
    assert words in fault(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SatjaxError, match=r"absent.toml cannot be read"):
        read_zoos(tmp_path / "absent.toml")
