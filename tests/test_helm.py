"""The HELM importer on real runs, and on what it must refuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from satjax.assess.answers import mark
from satjax.assess.prompts import question_of
from satjax.errors import SatjaxError
from satjax.outcomes.importers.helm import import_helm
from satjax.outcomes.splits import split_of

DATA = Path(__file__).parent / "data" / "helm"
SPEC = {"name": "sums:kind=easy,model=org_m", "adapter_spec": {"model": "org/m"}, "groups": ["arithmetic", "all"]}


def state(name: str = "id1", **changes) -> dict:
    return {"instance": {"id": name, "input": {"text": f"Q {name}?"}, "references": []} | changes}


def result(name: str = "id1", mean: object = 1.0, metric: str = "exact_match", **changes) -> dict:
    return {"instance_id": name, "train_trial_index": 0, "stats": [{"name": {"name": metric}, "mean": mean}]} | changes


def write(folder: Path, states: list, results: list, spec: object = SPEC) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (
        ("run_spec", spec),
        ("scenario_state", {"adapter_spec": {}, "request_states": states}),
        ("per_instance_stats", results),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def test_real_runs():
    table = import_helm([DATA])
    assert table.candidate_ids == ("simple/garden1", "simple/garden2")
    nan = np.nan
    np.testing.assert_array_equal(table.scores_MN, [[1, 1, 1, 0, 1, 1, 1, 0], [0, 1, 0, 1, nan, nan, nan, nan]])
    choice, answer = table.items[0], table.items[4]
    assert choice.id == "helm/simple_mcqa/id0"
    assert choice.text == "A gardener plants 3 rows of 4 tulips. How many tulips is that?\nA. 7\nB. 12\nC. 34"
    assert (choice.task, choice.category, choice.source, choice.answer) == ("simple_mcqa", "simple_mcqa", "helm", "12")
    assert answer.text == "A gardener plants 3 rows of 4 tulips. How many tulips is that?"
    assert all(item.split == split_of(item.text) for item in table.items)
    # Their own means say the same.
    np.testing.assert_array_equal(import_helm([DATA], "quasi_exact_match").scores_MN, table.scores_MN)
    with pytest.raises(
        SatjaxError, match="has no stat 'luck'; choose one with --metric: 'batch_size', 'exact_match', "
    ):
        import_helm([DATA], "luck")


def test_trials_are_averaged_and_perturbed_copies_left_out(tmp_path):
    perturbed = {"name": "typos"}
    run = write(
        tmp_path,
        [state(), state(), state("id1", perturbation=perturbed), state("id2")],
        [result(), result(mean=0.5), result(mean=0.0, perturbation=perturbed), result("id2", None)],
    )
    table = import_helm([run])
    np.testing.assert_array_equal(table.scores_MN, [[0.75, np.nan]])
    assert (table.items[0].task, table.items[0].category) == ("sums:kind=easy", "arithmetic")


def test_numbers_as_python_writes_them(tmp_path):
    tokens = {"completions": [{"text": "4", "logprob": -float("inf"), "seed": 2**64}]}
    run = write(tmp_path, [state(result=tokens), state("id2")], [result(), result("id2", float("nan"))])
    np.testing.assert_array_equal(import_helm([run]).scores_MN, [[1, np.nan]])


def test_what_is_set_for_a_model_makes_no_other_scenario(tmp_path):
    states, results = [state(f"id{n}") for n in range(3)], [result(f"id{n}") for n in range(3)]
    for model, name in (
        ("a", "gsm:model=a"),
        ("b", "gsm:model=b,stop=none"),
        ("c", "gsm:stop=hash,model_deployment=c,global_prefix=nlg"),
    ):
        write(tmp_path / model, states, results, {"name": name, "adapter_spec": {"model": model}, "groups": []})
    table = import_helm([tmp_path])
    assert table.item_ids == ("helm/gsm/id0", "helm/gsm/id1", "helm/gsm/id2")
    np.testing.assert_array_equal(table.scores_MN, np.ones((3, 3)))
    # How many examples a prompt has, and how often it is asked, are the same for all models of a run.
    name = "gsm:model=d,max_train_instances=0"
    write(tmp_path / "d", states, results, {"name": name, "adapter_spec": {"model": "d"}, "groups": []})
    assert len(import_helm([tmp_path]).items) == 6


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("A week has 7 days. 2*7 = <<2*7=14>>14 eggs. The answer is 14.", "14"),
        ("They cost $1,234.50 in all.  The answer is 1,234.50.", "1,234.50"),
        ("The answer is 14.", "The answer is 14."),
        ("Who knows. The answer is blowing in the wind.", "Who knows. The answer is blowing in the wind."),
        ("a raincoat", "a raincoat"),
    ],
)
def test_of_a_solution_only_its_end_is_the_answer(tmp_path, reference, answer):
    references = [{"output": {"text": "7"}, "tags": []}, {"output": {"text": reference}, "tags": ["correct"]}]
    one = {"instance": {"id": "id1", "input": {"text": "How many?"}, "references": references}}
    assert import_helm([write(tmp_path, [one], [result()])]).items[0].answer == answer


@pytest.mark.parametrize("reply", ["The answer is (B).", "Paris.\nThe answer is: B", "The answer is: 12", "12"])
def test_right_replies_to_its_options_are_marked_right(reply):
    choice = question_of(import_helm([DATA]).items[0])
    assert choice.options == ("7", "12", "34")
    assert mark(choice, 0, reply).right
    assert not mark(choice, 0, reply.replace("B", "A").replace("12", "7")).right


@pytest.mark.parametrize(
    ("states", "results", "spec", "words"),
    [
        ([state()], [result()], {"name": "x"}, "does not name a run and its model"),
        ([state()], [result()], [], "no JSON object"),
        ([7], [result()], SPEC, "request 0 has no instance"),
        ([state()], [7], SPEC, "entry 0 has no stats"),
        ([state()], [result("id2")], SPEC, "instance 'id2' is not in scenario_state.json"),
        ([state()], [result(mean=2)], SPEC, "instance 'id1': score 2 of 'org/m' is outside"),
        ([state()], [result(mean="much")], SPEC, "exact_match is 'much', not a number"),
        ([state(input={"text": " "})], [result()], SPEC, "has an empty text"),
    ],
)
def test_bad_runs(tmp_path, states, results, spec, words):
    with pytest.raises(SatjaxError) as caught:
        import_helm([write(tmp_path, states, results, spec)])
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path):
    with pytest.raises(SatjaxError, match=r"no run_spec\.json in this directory"):
        import_helm([tmp_path])
    run = write(tmp_path, [state()], [result()])
    (run / "per_instance_stats.json").write_text('[{"instance_id": "id1", "stats": [')
    with pytest.raises(SatjaxError, match=r"per_instance_stats\.json cannot be read as a HELM run"):
        import_helm([run])
    (run / "scenario_state.json").unlink()
    with pytest.raises(SatjaxError, match=r"scenario_state\.json cannot be read"):
        import_helm([run])
