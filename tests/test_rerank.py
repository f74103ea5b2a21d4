"""Re-ranking takes the response that is most similar to the instruction."""

from dataclasses import replace

import numpy as np
import pytest

from satjax.errors import SatjaxError
from satjax.evaluation import embed as embedding
from satjax.evaluation.baselines.rerank import rerank
from satjax.evaluation.embed import embed
from satjax.outcomes import OutcomeTable, Responses, synthetic_zoo
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


def test_a_missing_response_is_named_unless_nobody_asks(encoder):
    place_MN = responses().place_MN.copy()
    n = TABLE.item_ids.index(HELD.item_ids[3])
    place_MN[1, n] = -1
    gappy = replace(responses(), place_MN=place_MN)
    with pytest.raises(
        SatjaxError, match=rf"1 of .* have none, such as that of '{TABLE.candidate_ids[1]}' to '{HELD.item_ids[3]}'"
    ):
        rerank(encoder, gappy, HELD, VAL)
    scores_MN = HELD.scores_MN.copy()
    scores_MN[1, 3] = np.nan
    assert np.isfinite(rerank(encoder, gappy, replace(HELD, scores_MN=scores_MN), VAL).probability_BM).all()
