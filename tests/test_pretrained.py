"""The routers that come with the package: what their cards say of them holds."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from satjax import Router
from satjax.aptitude import CapabilityProfile, profile_from_outcomes
from satjax.evaluation.evaluate import evaluate
from satjax.evaluation.zoos import read_zoos
from satjax.outcomes import read_table
from satjax.pretrained import DEFAULT, HERE, SHIPPED, is_shipped, router_directory
from tests.test_load import CONFIGS

RECIPES = {"default": "smollm2.py", "large": "qwen25_coder.py"}
CARDS = {name: (HERE / name / "README.md").read_text(encoding="utf-8") for name in SHIPPED}
LABELS = {
    "auroc_pooled": "AUROC of P(handled), pooled",
    "auroc_per_candidate": "AUROC, mean over candidates",
    "auroc_within_instruction": "AUROC, mean over instructions",
    "brier": "Brier score",
    "ece": "expected calibration error",
}
SAMPLE = 60


def figures_of(card: str) -> dict[str, float]:
    return {name: float(re.search(rf"\| {re.escape(label)} \| ([\d.]+) \[", card)[1]) for name, label in LABELS.items()}


@pytest.fixture(scope="module")
def router():
    return Router.load()


@pytest.fixture(scope="module")
def table(shared_data):
    return read_table(shared_data / "mmlu_pro")


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_and_holds_no_single_outcome(name):
    assert sum(path.stat().st_size for path in (HERE / name).rglob("*") if path.is_file()) < 25 * 2**20
    profiles = [CapabilityProfile.read(path) for path in (HERE / name / "profiles").glob("*.json")]
    assert len(profiles) == 25
    assert all(profile.item_outcome_TK is None for profile in profiles)
    assert all(profile.candidate in CARDS[name] for profile in profiles)


def test_a_shipped_router_goes_by_its_name_unless_a_router_of_that_name_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert router_directory("default") == DEFAULT
    assert all(is_shipped(router_directory(name)) for name in SHIPPED)
    (tmp_path / "large").mkdir()
    assert router_directory("large") == HERE / "large", "a folder of another kind"
    (tmp_path / "large" / "config.json").write_text("{}")
    assert router_directory("large") == Path("large")
    assert router_directory(tmp_path / "other") == tmp_path / "other"
    assert not is_shipped(tmp_path / "large")


def test_it_ranks_its_candidates(router):
    ranked = router.rank("Find all c such that Z_3[x]/(x^2 + c) is a field.")
    assert len(ranked) == 25
    strong, weak = ("gemini-1.5-pro-002", "Meta-Llama-3_1-70B-Instruct"), ("Llama-2-7b-hf", "Mistral-7B-Instruct-v0.1")
    place = {entry.candidate: i for i, entry in enumerate(ranked)}
    assert max(place[name] for name in strong) < min(place[name] for name in weak)
    assert all(0 < entry.probability < 1 for entry in ranked)


@pytest.mark.parametrize(
    "question",
    [
        "Find all c such that Z_3[x]/(x^2 + c) is a field.",
        "Which amendment to the constitution of the United States gave women the vote?",
    ],
)
def test_its_rankings_are_those_that_the_readme_shows(router, question):
    """A prompt of other words, or other layers, move these by a tenth or more; another machine moves the third decimal."""
    readme = (CONFIGS.parent / "README.md").read_text(encoding="utf-8")
    _, _, below = readme.partition(f"{question}\n")
    shown = re.findall(r"^\d  (\S+) +(0\.\d{3})", below.partition("(20 more")[0], re.MULTILINE)
    assert len(shown) == 5
    probability = {entry.candidate: entry.probability for entry in router.rank(question)}
    found = [probability[name] for name, _ in shown]
    assert found == pytest.approx([float(value) for _, value in shown], abs=0.01)


def test_tasks_are_alike_by_what_they_demand(router):
    tasks = [task.name for task in router.aptitude_test.tasks]
    likeness_T = router.task_likeness("Find all c such that Z_3[x]/(x^2 + c) is a field.")
    assert likeness_T.shape == (len(tasks),)
    assert likeness_T.dtype == np.float32
    assert np.abs(likeness_T).max() <= 1 + 1e-6
    nearest = [tasks[t] for t in np.argsort(-likeness_T)[:10]]
    assert sum("math" in task or "algebra" in task for task in nearest) > sum("law" in task for task in nearest)


def test_a_candidate_that_it_knows_is_found_again_by_its_aptitude_test(router, table):
    """Measured as a stranger, from the outcomes of 1,000 items, it gets nearly the probabilities that training gave it."""
    name = "Meta-Llama-3_1-8B"
    known = profile_from_outcomes(table, router.aptitude_test, name)
    router.add(replace(known, candidate="stranger"))
    texts = [item.text for item in table.split("test").items[:20]]
    probability = router.probability(texts, [name, "stranger", "gemini-1.5-pro-002"])
    router.remove("stranger")
    off = np.abs(probability[:, :1] - probability[:, 1:]).mean(axis=0)
    assert off[0] < 0.05 < 0.2 < off[1]


def test_a_sample_of_real_outcomes_is_what_the_card_promises(router, table):
    """Wide bounds, for 60 instructions; `make slow` holds the figures themselves."""
    held = [i for i, item in enumerate(table.items) if item.split == "test"]
    chosen = np.sort(np.random.default_rng(0).permutation(held)[:SAMPLE])
    train = [i for i, item in enumerate(table.items) if item.split == "train"]
    found = evaluate(router, table.select_items(np.concatenate([train, chosen])))["correctness"]
    for name, value in figures_of(CARDS["default"]).items():
        assert found[name] == pytest.approx(value, abs=0.07), name


@pytest.mark.slow
@pytest.mark.parametrize("router_name", SHIPPED)
def test_the_figures_of_the_card_hold(table, router_name):
    """Of the large one that takes half an hour of two cores and a gigabyte of base weights."""
    card, zoos = CARDS[router_name], read_zoos(CONFIGS / "zoos.toml")
    found = evaluate(Router.load(router_name, keep_features=True), table, zoos=zoos)
    for name, value in figures_of(card).items():
        assert found["correctness"][name] == pytest.approx(value, abs=0.002), name
    for zoo, routing in found["routing"].items():
        row = re.search(rf"\| {zoo} \(\d+\) \| ([\d.]+) \| ([\d.]+) \|", card)
        assert 100 * routing["router"] == pytest.approx(float(row[1]), abs=0.3), zoo
        assert 100 * routing["best_single"] == pytest.approx(float(row[2]), abs=0.01), zoo


@pytest.mark.parametrize("name", SHIPPED)
def test_it_was_made_by_its_config(name):
    from satjax.config.load import load_config

    made = json.loads((HERE / name / "config.json").read_text(encoding="utf-8"))["router"]
    config = load_config(str(CONFIGS / RECIPES[name])).router
    assert made["ability_head"]["rank"] == config.ability_head.rank
    assert made["ability_head"]["hidden"] == config.ability_head.hidden
    assert made["param_dtype"] == config.param_dtype
    assert made["profile_encoder"]["kind"] == config.profile_encoder.kind
    assert tuple(made["ability_head"]["mean_layers"]) == config.ability_head.mean_layers
    assert made["llm"]["weights"] == config.llm.weights
