"""Re-ranking takes the response that is most similar to the instruction."""

import json
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from satjax.errors import SatjaxError
from satjax.evaluation import embed as embedding
from satjax.evaluation.baselines import BASELINES
from satjax.evaluation.baselines.rerank import rerank
from satjax.evaluation.embed import embed
from satjax.outcomes import OutcomeTable, Responses, read_table, synthetic_zoo
from satjax.weights.fetch import BaseModel, resolve
from tests.tiny import write_tiny_encoder

TABLE = synthetic_zoo(seed=5, num_items=200, num_candidates=3)
HELD, VAL = TABLE.split("test"), TABLE.split("val")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> BaseModel:
    return resolve(f"dir:{write_tiny_encoder(tmp_path_factory.mktemp('tiny') / 'encoder')}")


def responses(table: OutcomeTable = TABLE) -> Responses:
    """The candidate that is right echoes the instruction; the others say something else."""
    texts = [*(item.text for item in table.items), "sort", "a number of words"]
    echo_N = np.arange(len(table.items))
    place_MN = np.where(table.scores_MN == 1, echo_N, len(echo_N) + echo_N % 2).astype(np.int32)
    return Responses(table.candidate_ids, table.item_ids, tuple(texts), place_MN)


def test_an_echo_is_most_similar_and_calibrated(encoder):
    found = rerank(encoder, responses(), HELD, VAL)
    right_BM = HELD.scores_MN.T == 1
    assert found.probability_BM.shape == right_BM.shape
    assert found.probability_BM.dtype == np.float32
    assert found.probability_BM[right_BM].min() > found.probability_BM[~right_BM].max()
    assert found.chosen["calibrated_on"] == len(VAL.items)


def test_scores_are_cosines_of_the_encoder(encoder):
    found = rerank(encoder, responses(), HELD, VAL)
    place_BM = responses().places(HELD)
    instruction = embed(encoder, [HELD.items[7].text])
    reply = embed(encoder, [responses().texts[i] for i in place_BM[7]])
    logit = found.chosen["slope"] * (reply @ instruction[0]) + found.chosen["offset"]
    np.testing.assert_allclose(found.probability_BM[7], 1 / (1 + np.exp(-logit)), atol=1e-4)


def test_held_outcomes_change_nothing(encoder):
    turned = replace(HELD, scores_MN=1 - HELD.scores_MN)
    first, second = (rerank(encoder, responses(), held, VAL).probability_BM for held in (HELD, turned))
    np.testing.assert_array_equal(first, second)


def test_texts_that_are_cut_are_counted(encoder, monkeypatch):
    monkeypatch.setattr(embedding, "MAX_TOKENS", 8)
    chosen = rerank(encoder, responses(), HELD, VAL).chosen
    assert chosen["instructions_cut"] == embedding.count_cut(encoder, [item.text for item in HELD.items]) > 0
    assert 0 < chosen["responses_cut"] <= len(HELD.items)


def without(table: OutcomeTable, candidates: list[int]) -> Responses:
    """No response of these candidates to the items of the table."""
    place_MN = responses().place_MN.copy()
    place_MN[np.ix_(candidates, [TABLE.item_ids.index(name) for name in table.item_ids])] = -1
    return replace(responses(), place_MN=place_MN)


def test_where_a_response_is_missing_candidates_have_their_mean(encoder):
    whole, gappy = (
        rerank(encoder, r, HELD, VAL) for r in (responses(), without(HELD.select_items(np.array([3, 8])), [1]))
    )
    assert (whole.chosen["not_reranked"], gappy.chosen["not_reranked"]) == (0, 2)
    kept = np.setdiff1d(np.arange(len(HELD.items)), [3, 8])
    np.testing.assert_array_equal(gappy.probability_BM[kept], whole.probability_BM[kept])
    np.testing.assert_allclose(gappy.probability_BM[[3, 8]], np.tile(VAL.scores_MN.mean(axis=1), (2, 1)), rtol=1e-6)
    assert gappy.probability_BM.dtype == np.float32


def test_what_is_not_reranked_is_not_counted_as_cut(encoder, monkeypatch):
    monkeypatch.setattr(embedding, "MAX_TOKENS", 8)
    chosen = rerank(encoder, without(HELD.select_items(np.arange(4, len(HELD.items))), [0]), HELD, VAL).chosen
    assert chosen["not_reranked"] == len(HELD.items) - 4
    assert chosen["instructions_cut"] == embedding.count_cut(encoder, [item.text for item in HELD.items[:4]])


def test_a_response_without_an_outcome_may_be_missing(encoder):
    gappy = without(HELD.select_items(np.array([3])), [1])
    scores_MN = HELD.scores_MN.copy()
    scores_MN[1, 3] = np.nan
    found, whole = (rerank(encoder, r, replace(HELD, scores_MN=scores_MN), VAL) for r in (gappy, responses()))
    assert found.chosen["not_reranked"] == 0
    np.testing.assert_array_equal(found.probability_BM[3, [0, 2]], whole.probability_BM[3, [0, 2]])
    assert np.isfinite(found.probability_BM).all()


def test_validation_items_without_responses_are_not_calibrated_on(encoder):
    few = VAL.select_items(np.arange(5))
    found = rerank(encoder, without(VAL.select_items(np.arange(5, len(VAL.items))), [0, 1, 2]), HELD, VAL)
    assert found.chosen["calibrated_on"] == 5
    np.testing.assert_allclose(found.probability_BM, rerank(encoder, responses(), HELD, few).probability_BM, rtol=1e-6)
    with pytest.raises(SatjaxError, match="nothing to calibrate on"):
        rerank(encoder, without(VAL, [0, 1, 2]), HELD, VAL)


def test_where_nothing_can_be_reranked_the_candidate_is_named(encoder):
    words = rf"none of the {len(HELD.items)} instructions .* '{TABLE.candidate_ids[1]}' lacks {len(HELD.items)}"
    with pytest.raises(SatjaxError, match=words) as raised:
        rerank(encoder, without(HELD, [1]), HELD, VAL)
    assert "\n" not in str(raised.value)


def test_an_encoder_that_takes_the_first_token_is_read_so(encoder, tmp_path):
    copied = Path(shutil.copytree(encoder.directory, tmp_path / "bge"))
    (copied / "1_Pooling").mkdir()
    (copied / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    bge = resolve(f"dir:{copied}")
    found = rerank(bge, responses(), HELD, VAL)
    right_BM = HELD.scores_MN.T == 1
    assert found.probability_BM[right_BM].min() > found.probability_BM[~right_BM].max()
    place_BM = responses().places(HELD)
    instruction, reply = embed(bge, [HELD.items[7].text]), embed(bge, [responses().texts[i] for i in place_BM[7]])
    logit = found.chosen["slope"] * (reply @ instruction[0]) + found.chosen["offset"]
    np.testing.assert_allclose(found.probability_BM[7], 1 / (1 + np.exp(-logit)), atol=1e-4)
    assert np.abs(found.probability_BM - rerank(encoder, responses(), HELD, VAL).probability_BM).max() > 1e-4


def test_a_cross_encoder_is_refused(encoder, tmp_path):
    copied = Path(shutil.copytree(encoder.directory, tmp_path / "cross"))
    tensors = load_file(copied / "model.safetensors")
    save_file({**tensors, "classifier.weight": np.zeros((1, 4), np.float32)}, copied / "model.safetensors")
    with pytest.raises(SatjaxError, match=r"classifier\.weight is not known"):
        rerank(resolve(f"dir:{copied}"), responses(), HELD, VAL)


def test_the_benchmark_records_all_methods_on_the_same_instructions(trained, tmp_path, monkeypatch):
    """Responses as RouterBench has them, those of one task missing; the baselines that take minutes are left out."""
    quick = ("candidate_means", "neighbours")
    for name in set(BASELINES) - set(quick):
        monkeypatch.delitem(BASELINES, name)
    table = read_table(trained.outcomes)
    tasks = [item.task for item in table.items]
    outcomes = Path(shutil.copytree(trained.outcomes, tmp_path / "outcomes"))
    rows = [
        (name, item.id, f"['{item.text[:20] if score else 'no'}']")
        for name, score_N in zip(table.candidate_ids, table.scores_MN, strict=True)
        for item, score in zip(table.items, score_N, strict=True)
        if item.task != tasks[0]
    ]
    columns = dict(zip(("model_id", "item_id", "response"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), outcomes / "responses.parquet")
    benchmarks = Path(__file__).parents[1] / "benchmarks"
    out = tmp_path / "record.json"
    arguments = [
        "--outcomes",
        outcomes,
        "--router",
        trained.router,
        "--encoder",
        f"dir:{trained.directory / 'encoder'}",
    ]
    monkeypatch.syspath_prepend(benchmarks)
    monkeypatch.setattr("sys.argv", ["rerank.py", *map(str, arguments), "--out", str(out)])
    runpy.run_path(str(benchmarks / "rerank.py"), run_name="__main__")
    figures = json.loads(out.read_text())["figures"]
    assert list(figures["methods"]) == ["router", *quick, "rerank"]
    assert len({method["routing"]["all"]["n"] for method in figures["methods"].values()}) == 1
    held = table.split("test").items
    missing = sum(item.task == tasks[0] for item in held)
    assert figures["methods"]["rerank"]["chosen"]["not_reranked"] == missing > 0
    assert figures["instructions"] == len(held)
