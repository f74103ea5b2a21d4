"""The card of an exported router says what it is and what it is not for."""

from dataclasses import replace

import pytest

from satjax.calibration import Calibration
from satjax.config import AbilityHeadConfig, PromptConfig, RouterConfig
from satjax.export.directory import read_router
from satjax.export.model_card import calibration_fact, code, model_card, with_fact, with_section
from satjax.outcomes import read_table
from tests.trained import Trained


def test_the_card_names_weights_data_and_limits(trained: Trained):
    files, card = read_router(trained.router), (trained.router / "README.md").read_text(encoding="utf-8")
    for fact in (
        *(files.base_sha256[part][:16] for part in ("llm", "encoder")),
        trained.config.router.llm.weights,
        trained.config.router.encoder.weights,
        "LoRA rank 2, candidates join at layer 1",
        "6 candidates, 10 steps",
        "6 tasks x 4 items",
        files.test.fingerprint[:16],
        "fitted on 16 validation instructions",
        "beyond 320 tokens",
        *(f"`{profile.candidate}`" for profile in files.profiles),
    ):
        assert fact in card, fact
    assert "{" not in card


def test_only_a_synthetic_zoo_is_called_one(trained: Trained):
    files, table = read_router(trained.router), read_table(trained.outcomes)
    assert "**The zoo is synthetic**" in model_card(trained.config, files, table)
    real = replace(table, items=tuple(replace(item, source="mmlu_pro") for item in table.items))
    card = model_card(trained.config, files, real)
    assert "The zoo is synthetic" not in card
    assert "`mmlu_pro`" in card


def test_what_was_held_out_is_named_so_that_it_can_be_measured_on(trained: Trained):
    files, table = read_router(trained.router), read_table(trained.outcomes)
    assert "held out" not in model_card(trained.config, files, table)
    data = replace(trained.config.data, held_out_candidates=("a", "b`c"), held_out_categories=("law",))
    card = model_card(replace(trained.config, data=data), files, table)
    assert (
        "10 steps |\n| held out of training | candidates `a`, `` b`c ``; categories `law` |\n| aptitude test |" in card
    )


def test_an_ability_head_is_named_beside_the_answer_and_alone(trained: Trained):
    files, table = read_router(trained.router), read_table(trained.outcomes)
    head = AbilityHeadConfig(rank=3, mean_layers=(2,))
    beside = replace(files, config=replace(files.config, ability_head=head))
    assert "join at layer 1, beside an ability head of rank 3" in model_card(trained.config, beside, table)
    alone = RouterConfig(head="none", ability_head=head, prompt=PromptConfig(tail=""))
    assert "frozen, up to layer 2, under an ability head of rank 3" in model_card(
        trained.config, replace(files, config=alone, learned={}), table
    )
    tuned = replace(files, config=alone, learned={"llm/upper/mlp/up/kernel": ((3, 32, 64), "float32")})
    assert "trained, up to layer 2, under an ability head of rank 3" in model_card(trained.config, tuned, table)


@pytest.mark.parametrize(
    ("learned", "said"), [("llm/upper/mlp/up/kernel", "trained"), ("connector/project/kernel", "frozen")]
)
def test_an_llm_without_adapters_is_trained_or_frozen_and_has_no_rank(trained: Trained, learned, said):
    files, table = read_router(trained.router), read_table(trained.outcomes)
    changed = replace(files, learned={learned: ((1,), "float32")})
    assert f"), {said}, candidates join at layer 1 |" in model_card(trained.config, changed, table)


def test_a_calibration_that_nothing_was_fitted_to_is_none(trained: Trained):
    files, table = read_router(trained.router), read_table(trained.outcomes)
    card = model_card(trained.config, replace(files, calibration=Calibration()), table)
    assert "| calibration | none was fitted: probability = sigmoid(1 x score + 0) |" in card
    assert "fitted on 0" not in card


def test_an_offset_below_zero_is_taken_off():
    fact = calibration_fact(Calibration(0.9, -0.11, 941), "validation instructions")
    assert fact == "probability = sigmoid(0.9 x score - 0.11), fitted on 941 validation instructions"


@pytest.mark.parametrize(("name", "span"), [("a-7b", "`a-7b`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```")])
def test_a_name_is_code_whatever_is_in_it(name, span):
    assert code(name) == span


def test_a_fact_takes_the_place_of_another_and_a_card_without_it_stays():
    card = "# A\n\n| | |\n|---|---|\n| calibration | old |\n| other | calibration |\n"
    assert with_fact(card, "calibration", r"new \1") == card.replace("| old |", r"| new \1 |")
    assert with_fact("# A\n", "calibration", "new") == "# A\n"


def test_a_section_stands_once_at_the_end():
    card = "# A\n\ntext\n\n## Limits\n\n- one\n"
    once = with_section(card, "Added", "- x")
    assert once == "# A\n\ntext\n\n## Limits\n\n- one\n\n## Added\n\n- x\n"
    other = with_section(once, "Other", "- y")
    again = with_section(other, "Added", "- z")
    assert again.endswith("## Limits\n\n- one\n\n## Other\n\n- y\n\n## Added\n\n- z\n")
