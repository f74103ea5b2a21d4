"""The LLM that reads profiles as text: each score is that of the whole prompt run as one text, computed once."""

from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from satjax.aptitude import CapabilityProfile, render
from satjax.errors import SatjaxError
from satjax.evaluation.baselines.llm_text import AFTER_PROFILE, _Reader, answers, llm_text
from satjax.evaluation.sample import draw_pairs
from satjax.instructions import CAPABILITY_FIRST_TAIL, END, HEAD
from satjax.models.decoder import Decoder
from satjax.outcomes import synthetic_zoo
from satjax.weights.base import open_base
from satjax.weights.fetch import BaseModel, resolve
from satjax.weights.names import decoder_config, decoder_params
from tests.hf import with_params
from tests.tiny import write_tiny_encoder, write_tiny_llm

TEXTS = ["sort the list of words", "convert 17 to a word", "what is the number of words in it, and how many?"]


def profile(name: str, *accuracy: float) -> CapabilityProfile:
    tasks, keywords = ("sort", "count"), (("list",), ("number",))
    return CapabilityProfile(name, "test", tasks, keywords, np.float32(accuracy), np.int32([4, 4]), None)


PROFILES = [profile("a", 0.25, 1.0), profile("b", 0.75, 0.5)]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> BaseModel:
    return resolve(f"dir:{write_tiny_llm(tmp_path_factory.mktemp('tiny') / 'llm')}")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("satjax.evaluation.baselines.llm_text.cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def whole(base: BaseModel, candidate: CapabilityProfile, text: str) -> float:
    """The logits of the answers after the whole prompt, in one pass."""
    files = open_base(base.directory)
    config = decoder_config(files.config)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
    decoder = with_params(graphdef, decoder_params(files.tensors, config))
    encode = lambda part: files.tokenizer.encode(part, add_special_tokens=False).ids  # noqa: E731
    parts = (render(candidate) + AFTER_PROFILE, HEAD, text, END + CAPABILITY_FIRST_TAIL)
    ids = [files.config["bos_token_id"], *(token for part in parts for token in encode(part))]
    token = jnp.asarray([ids])
    last = nnx.jit(lambda d, t, n: d(d.embed(t), n).text)(decoder, token, jnp.asarray([len(ids)]))[0, -1]
    yes, no = (encode(answer)[-1] for answer in (" Yes", " No"))
    yes_logit, no_logit = decoder.output_rows(jnp.asarray([yes, no])) @ last
    return float(yes_logit - no_logit)


def test_every_score_is_that_of_the_whole_prompt(base):
    score_BM = answers(base, PROFILES, TEXTS, np.ones((3, 2), bool))
    assert score_BM.dtype == np.float32
    for b, m in ((0, 0), (2, 1)):
        assert score_BM[b, m] == pytest.approx(whole(base, PROFILES[m], TEXTS[b]), abs=1e-3)
    assert np.abs(score_BM[:, 0] - score_BM[:, 1]).max() > 1e-3


def test_only_wanted_pairs_are_computed_and_only_once(base, monkeypatch):
    wanted_BM = np.array([[True, False], [True, True], [False, True]])
    heard: list[tuple[int, int]] = []
    score_BM = answers(base, PROFILES, TEXTS, wanted_BM, lambda *count: heard.append(count))
    np.testing.assert_array_equal(np.isnan(score_BM), ~wanted_BM)
    assert heard[-1] == (4, 4)
    read: list[list[str]] = []
    compute = _Reader._compute
    monkeypatch.setattr(_Reader, "_compute", lambda self, p, texts: read.append(texts) or compute(self, p, texts))
    again_BM = answers(base, PROFILES, TEXTS, np.ones((3, 2), bool))
    assert read == [[TEXTS[2]], [TEXTS[0]]]
    np.testing.assert_array_equal(again_BM[wanted_BM], score_BM[wanted_BM])


def test_probabilities_are_calibrated_on_the_pairs_that_are_given(base):
    table = synthetic_zoo(seed=6, num_items=80, num_candidates=2)
    held, val = table.split("test"), draw_pairs(table.split("val"), 3)
    found = llm_text(base, PROFILES, held, val)
    assert found.probability_BM.shape == (len(held.items), 2)
    assert found.chosen["calibration_pairs"] == 6
    score_BM = answers(base, PROFILES, [item.text for item in held.items], np.ones((len(held.items), 2), bool))
    logit_BM = found.chosen["slope"] * score_BM + found.chosen["offset"]
    np.testing.assert_allclose(found.probability_BM, 1 / (1 + np.exp(-logit_BM)), atol=1e-5)


def test_what_the_llm_cannot_read_is_one_line(base, tmp_path):
    long = replace(PROFILES[0], expert_notes=("good at words " * 300,))
    with pytest.raises(SatjaxError, match=r"a profile and an instruction are .* tokens; .* reads 512"):
        answers(base, [long], TEXTS, np.ones((3, 1), bool))
    encoder = resolve(f"dir:{write_tiny_encoder(tmp_path / 'encoder')}")
    with pytest.raises(SatjaxError, match="no LLM"):
        answers(encoder, PROFILES, TEXTS, np.ones((3, 2), bool))
