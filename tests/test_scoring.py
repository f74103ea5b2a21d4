"""The score matrix for any number of instructions."""

import dataclasses

import jax
import numpy as np
import pytest

from satjax.aptitude import profile_from_outcomes, sample_aptitude_test
from satjax.aptitude.capability import ProfileReader, accuracy_norms
from satjax.assembly import assemble
from satjax.features.row_batches import Batching
from satjax.scoring import FeatureScorer, make_scorer
from satjax.scoring.candidates import CandidateEncoder
from satjax.scoring.llm import sets_at_once
from tests.tiny import ABILITY_OF_TASKS, tiny_config, tiny_table, untrained_params
from tests.xla import compilations


def scorer_of(directory, batching=None, **changes):
    """A scorer with untrained parameters, what encodes candidates for it, and the profiles of its zoo."""
    config, table = tiny_config(directory, **changes), tiny_table()
    test = sample_aptitude_test(table, 6, 4, 0)
    profiles = [profile_from_outcomes(table, test, name) for name in table.candidate_ids]
    assembly = assemble(config.router)
    params = untrained_params(assembly)
    # An untrained adapter is zero, and soft tokens would hardly show behind the text.
    params = {path: value + 0.1 if "/lora_b" in path else value for path, value in params.items()}
    reader = ProfileReader(
        config.router.profile_encoder,
        assembly.model.encoder,
        assembly.encoder_tokenizer,
        test,
        accuracy_norms(profiles),
    )
    return (
        make_scorer(assembly, params, batching or Batching(sizes=(1,))),
        CandidateEncoder(assembly, params, reader, order_seed=1),
        profiles,
    )


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return scorer_of(tmp_path_factory.mktemp("tiny"), router__prompt__buckets=(96, 128, 160))


TEXTS = [f"What is {n} + {n}? {'Show every step. ' * (n % 7)}" for n in range(60)]


def test_instructions_scored_together_equal_each_alone(scorer):
    scorer, encoder, profiles = scorer
    soft = encoder.soft_tokens(profiles)
    heard: list[tuple[int, int]] = []
    together = scorer.score(TEXTS, soft, lambda *count: heard.append(count))
    assert together.shape == (60, 6)
    assert together.dtype == np.float32
    alone = np.concatenate([scorer.score([text], soft) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.ptp(together, axis=0).min() > 0
    assert np.ptp(together, axis=1).min() > 0
    assert heard == sorted(heard)
    assert heard[-1] == (60, 60)


def test_many_candidates_go_in_parts_of_one_size(scorer, monkeypatch):
    scorer, encoder, profiles = scorer
    soft = encoder.soft_tokens(profiles)
    expected = scorer.score(TEXTS[:3], soft)
    monkeypatch.setattr("satjax.scoring.llm.SETS", 4)
    with compilations() as compiled:
        np.testing.assert_allclose(scorer.score(TEXTS[:3], soft), expected, atol=1e-5)
    widths = {scorer.writer.bucket(length) for length in scorer.writer.encode(TEXTS[:3]).length}
    assert compiled.count("run") == len(widths)


def test_warming_up_compiles_what_many_candidates_need(tmp_path, monkeypatch):
    scorer, encoder, profiles = scorer_of(tmp_path, router__prompt__buckets=(160,))
    soft = encoder.soft_tokens(profiles)
    monkeypatch.setattr("satjax.scoring.llm.SETS", 4)
    with compilations() as compiled:
        list(scorer.warm_up(soft, 1))
    assert compiled.count("run") == 1
    with compilations() as compiled:
        scorer.score(TEXTS[:1], soft)
    assert compiled == []


def test_two_programs_for_each_bucket_and_no_more(tmp_path):
    scorer, encoder, profiles = scorer_of(tmp_path, router__prompt__buckets=(96, 128, 160))
    soft = encoder.soft_tokens(profiles)
    widths = {scorer.writer.bucket(length) for length in scorer.writer.encode(TEXTS).length}
    assert len(widths) > 1
    with compilations() as compiled:
        for count in (1, 60, 7, 33, 60):
            scorer.score(TEXTS[:count], soft)
    assert len(widths) <= compiled.count("run") <= 2 * len(widths)


def test_task_orders_are_averaged(tmp_path):
    scorer, encoder, profiles = scorer_of(
        tmp_path, router__profile_encoder={"kind": "text", "orders": 3}, router__prompt__buckets=(320,)
    )
    soft_MOKD = encoder.soft_tokens(profiles)
    assert soft_MOKD.shape[:2] == (6, 3)
    single = [scorer.score(TEXTS[:4], soft_MOKD[:, i : i + 1]) for i in range(3)]
    assert np.abs(single[0] - single[1]).max() > 0
    np.testing.assert_allclose(scorer.score(TEXTS[:4], soft_MOKD), np.mean(single, axis=0), atol=1e-5)


def test_texts_of_many_profiles_are_read_a_few_at_a_time_by_one_program(tmp_path, monkeypatch):
    kind = {"kind": "text", "orders": 2}
    _, encoder, profiles = scorer_of(tmp_path, router__profile_encoder=kind, router__prompt__buckets=(320,))
    at_once = encoder.soft_tokens(profiles)
    monkeypatch.setattr("satjax.aptitude.capability.PROFILES", 4)
    sizes = []
    encode = encoder._encode

    def watching(params, inputs):
        sizes.append({len(value) for value in jax.tree.leaves(inputs)})
        return encode(params, inputs)

    encoder._encode = watching
    np.testing.assert_allclose(encoder.soft_tokens(profiles), at_once, atol=1e-5)
    assert sizes == [{4}] * 4, "six profiles in two parts, in two orders"


def test_soft_tokens_of_a_candidate_do_not_depend_on_the_others(scorer):
    scorer, encoder, profiles = scorer
    together = encoder.soft_tokens(profiles)
    alone = encoder.soft_tokens(profiles[2:3])
    assert isinstance(together, jax.Array)
    np.testing.assert_allclose(together[2:3], alone, atol=1e-5)


def test_an_ability_head_alone_scores_any_number_of_instructions_with_two_programs(tmp_path):
    scorer, encoder, profiles = scorer_of(tmp_path, **ABILITY_OF_TASKS, router__prompt__buckets=(96, 128, 160))
    scorer.params = {
        path: jax.random.normal(jax.random.key(0), value.shape) if path == "ability/ability/kernel" else value
        for path, value in scorer.params.items()
    }
    soft = encoder.soft_tokens(profiles)
    for texts in (TEXTS, *([text] for text in TEXTS[:5])):
        scorer.features.read(scorer.params, texts)  # the programs of which are not counted here
    with compilations() as compiled:
        heard: list[tuple[int, int]] = []
        together = scorer.score(TEXTS, soft, lambda *count: heard.append(count))
        assert heard[-1] == (60, 60)
        assert together.shape == (60, 6)
        assert np.ptp(together, axis=1).min() > 0
        alone = np.concatenate([scorer.score([text], soft) for text in TEXTS[:5]])
        np.testing.assert_allclose(together[:5], alone, atol=1e-5)
        for count in (2, 7, 33):
            np.testing.assert_allclose(scorer.score(TEXTS[:count], soft), together[:count], atol=1e-5)
    assert compiled.count("run") == 2
    assert scorer.score([], soft).shape == (0, 6)


@pytest.mark.parametrize("changes", [ABILITY_OF_TASKS, {}], ids=["ability alone", "LLM"])
def test_after_warming_up_no_number_of_instructions_compiles_anything(tmp_path, changes):
    scorer, encoder, profiles = scorer_of(tmp_path, Batching(sizes=(1, 4)), router__prompt__buckets=(160,), **changes)
    soft, reference = encoder.soft_tokens(profiles), None
    with compilations() as compiled:
        assert list(scorer.warm_up(soft, 60)) == [(1, 160), (4, 160), (25, 160)]
    assert compiled.count("run") == (6 if isinstance(scorer, FeatureScorer) else 3)
    with compilations() as compiled:
        assert list(scorer.warm_up(soft, 12)) == [(1, 160), (4, 160)]
        for count in (60, 1, 3, 5, 30):
            scores = scorer.score(TEXTS[:count], soft)
            reference = scores if reference is None else reference
            np.testing.assert_allclose(scores, reference[:count], atol=1e-5)
    assert compiled == []


def test_warming_up_for_few_covers_batches_that_are_padded_to_more(tmp_path):
    scorer, encoder, profiles = scorer_of(
        tmp_path, Batching(sizes=(1, 4, 16)), **ABILITY_OF_TASKS, router__prompt__buckets=(160,)
    )
    soft = encoder.soft_tokens(profiles)
    with compilations() as compiled:
        assert list(scorer.warm_up(soft, 6)) == [(1, 160), (4, 160)]
    assert compiled.count("run") == 2 + 3, "what reads texts, and what meets candidates"
    with compilations() as compiled:
        for count in range(1, 7):
            scorer.score(TEXTS[:count], soft)
    assert compiled == []


def test_where_candidates_stand_first_few_of_them_make_a_pass(tmp_path, monkeypatch):
    """Each is another text of every row, so that memory does not grow with the zoo."""
    assert sets_at_once("instruction_first", 32, 128) == 512
    assert [sets_at_once("capability_first", rows, 128) for rows in (1, 32, 1000)] == [256, 8, 1]
    first = {
        "router__prompt__layout": "capability_first",
        "router__prompt__tail": "\nAnswer:",
        "router__llm__join_layer": 0,
        "router__llm__lora_tokens": "all",
    }
    scorer, encoder, profiles = scorer_of(tmp_path, **first, router__prompt__buckets=(160,))
    soft = encoder.soft_tokens(profiles)
    whole = scorer.score(TEXTS[:30], soft)
    monkeypatch.setattr("satjax.scoring.llm.TOKENS_OF_AN_ACCELERATOR", 4 * 160)
    np.testing.assert_allclose(scorer.score(TEXTS[:30], soft), whole, atol=1e-5)
    shapes = []
    run = scorer._run
    scorer._run = lambda *given: shapes.append((len(given[1]), len(given[3]))) or run(*given)
    np.testing.assert_allclose(scorer.score(TEXTS[:30], soft), whole, atol=1e-5)
    assert set(shapes) == {(25, 1), (1, 4)}, "five instructions alone, four candidates at once"


def test_demands_are_what_scores_are_made_of(tmp_path):
    scorer, encoder, profiles = scorer_of(tmp_path, **ABILITY_OF_TASKS, router__prompt__buckets=(160,))
    soft_MOKD = encoder.soft_tokens(profiles)
    demand_BR = scorer.demands(TEXTS[:5])
    assert demand_BR.shape == (5, 3)
    assert demand_BR.dtype == np.float32
    # Untrained abilities are zero: what is left of a score is the ease.
    np.testing.assert_allclose(scorer.score(TEXTS[:5], soft_MOKD), np.repeat(demand_BR[:, -1:], 6, axis=1), atol=1e-5)


def test_warming_up_also_compiles_more_instructions_than_meet_candidates_at_once(tmp_path, monkeypatch):
    """An accelerator reads 32,768 tokens at once: 1,365 instructions of 24."""
    scorer, encoder, profiles = scorer_of(tmp_path, **ABILITY_OF_TASKS, router__prompt__buckets=(160,))
    soft = encoder.soft_tokens(profiles)
    monkeypatch.setattr("satjax.scoring.features.ROWS", 30)
    scorer.features.batching = dataclasses.replace(scorer.features.batching, largest_tokens=50 * 160)
    with compilations() as compiled:
        assert list(scorer.warm_up(soft, 60)) == [(1, 160), (25, 160), (50, 160)]
    assert compiled.count("run") == 3 + 2
    with compilations() as compiled:
        assert scorer.score(TEXTS, soft).shape == (60, 6)
    assert compiled == []


def test_on_an_accelerator_a_few_instructions_make_one_small_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("satjax.features.row_batches.jax.default_backend", lambda: "gpu")
    scorer, encoder, profiles = scorer_of(tmp_path, Batching(), **ABILITY_OF_TASKS, router__prompt__buckets=(160,))
    soft, rows = encoder.soft_tokens(profiles), []
    assert list(scorer.warm_up(soft, 12)) == [(1, 160), (8, 160)]
    run = scorer.features.run
    monkeypatch.setattr(scorer.features, "run", lambda params, batch: rows.append(len(batch)) or run(params, batch))
    with compilations() as compiled:
        assert scorer.score(TEXTS[:12], soft).shape == (12, 6)
    assert sorted(rows) == [1, 1, 1, 1, 8]
    assert compiled == []
