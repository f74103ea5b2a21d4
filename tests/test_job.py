"""What a run starts from: a config that can work, its aptitude test and clusters, and that it goes on with what it began with."""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from satjax.aptitude import AptitudeTest
from satjax.checkpoint import Checkpoints
from satjax.config import AptitudeConfig, TrainConfig
from satjax.config.mapping import from_mapping
from satjax.errors import SatjaxError
from satjax.files import canonical_json
from satjax.outcomes import cluster_numbers
from satjax.outcomes.parquet import write_table
from satjax.processes.interruption import Interrupted
from satjax.sharding import make_mesh
from satjax.train import newest, train
from satjax.training.data import place_params
from satjax.training.job import NOT_COUNTED, PLACES, clusters_of, prepare, settings_without
from tests.runs import ONE, job_on, run
from tests.tiny import ABILITY_ALONE, ABILITY_OF_TASKS, tiny_config, tiny_table, write_tiny_llm


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def test_an_objective_that_teaches_nothing_is_said(home, tmp_path, caplog):
    """Of a log in which each instruction went to one candidate."""
    table = tiny_table()
    num_candidates, num_items = table.scores_MN.shape
    asked = np.arange(num_items) % num_candidates == np.arange(num_candidates)[:, None]
    scores = np.where(asked, table.scores_MN, np.nan).astype(np.float32)
    write_table(dataclasses.replace(table, scores_MN=scores), tmp_path / "log")
    changes = {**ABILITY_ALONE, "data__outcomes": str(tmp_path / "log")}
    prepare(tiny_config(home, **changes), tmp_path / "a")
    said = "config loss.over_candidates compares nothing in stage 'ability': no batch has two different outcomes of one instruction"
    assert caplog.messages == [said]
    with pytest.raises(SatjaxError, match="nothing to compare in stage 'ability', so nothing would be learned"):
        prepare(tiny_config(home, **changes, loss={"pointwise": 0.0}), tmp_path / "b")
    assert not (tmp_path / "b").exists()


BESIDE = {"rank": 2, "hidden": 8, "mean_layers": (1,)}
HEAD_ONLY = {**ABILITY_OF_TASKS["stages"][0], "trainable": ("connector/.*", "ability/(read|demand)/.*")}
ADAPTERS_ONLY = {"name": "s", "steps": 1, "learning_rate": 1e-3, "trainable": ("llm/upper/mlp/.*/lora_b",)}


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({**ABILITY_ALONE, "router__llm__lora_rank": 2}, "llm/.*/lora_[ab]"),
        ({"router__head": "linear"}, "regression/.*"),
        ({"router__ability_head": BESIDE}, "ability/ability/.*', 'ability/demand/.*', 'ability/read/.*"),
        ({**ABILITY_OF_TASKS, "stages": (HEAD_ONLY,)}, "ability/ability/.*"),
        ({"stages": (ADAPTERS_ONLY,), "router__profile_encoder": {"kind": "text"}}, "connector/project/.*"),
    ],
    ids=["adapters", "head", "ability head", "abilities", "connector"],
)
def test_what_would_stay_as_it_was_initialized_is_named_before_anything_is_read(home, tmp_path, changes, missing):
    with pytest.raises(SatjaxError, match=rf"none trains .* add '{re.escape(missing)}' to the trainable of one"):
        prepare(tiny_config(home, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_later_stage_lacks_is_said_before_the_llm_is_opened(home, tmp_path, monkeypatch):
    """It is the config's to mend, which is part of what a run's checkpoints belong to."""
    monkeypatch.setattr("satjax.training.job.assemble", lambda *given: pytest.fail("opened"))
    config = tiny_config(home, batch={"instructions": 8, "candidates": 60})
    with pytest.raises(SatjaxError, match=r"config batch\.candidates = 60: there are 6 to train on"):
        prepare(config, tmp_path / "run")
    monkeypatch.setattr("satjax.training.batches.of_tasks", lambda table, tasks: np.zeros(len(table.items), bool))
    later = dataclasses.replace(tiny_config(home).stages[1], instructions="aptitude_tasks")
    config = dataclasses.replace(tiny_config(home), stages=(tiny_config(home).stages[0], later))
    with pytest.raises(
        SatjaxError, match="config stage 'all': no training instruction is of the aptitude test's tasks"
    ):
        prepare(config, tmp_path / "run")


def test_hosts_compare_the_validation_outcomes_that_the_run_ends_with(home, tmp_path, monkeypatch):
    """Who found no validation instructions would not come to the calibration in which the others wait."""
    compared = []
    monkeypatch.setattr("satjax.training.job.check_same", lambda what, value: compared[-1].append((what, value)))

    def differing(changes: np.ndarray, instructions: int = 16) -> list[str]:
        tables = [table, dataclasses.replace(table, scores_MN=np.where(changes, 1 - table.scores_MN, table.scores_MN))]
        for i, one in enumerate(tables):
            write_table(one, tmp_path / f"outcomes{i}")
            compared.append([])
            data = {"outcomes": str(tmp_path / "outcomes"), "held_out_candidates": (table.candidate_ids[0],)}
            (tmp_path / "outcomes").unlink(missing_ok=True)
            (tmp_path / "outcomes").symlink_to(tmp_path / f"outcomes{i}")
            prepare(tiny_config(home, data=data, calibration_instructions=instructions), tmp_path / "run")
        return [what for (what, one), (_, other) in zip(*compared[-2:], strict=True) if one != other]

    table = tiny_table()
    val = np.array([item.split == "val" for item in table.items])
    trained = np.arange(len(table.candidates))[:, None] > 0
    assert differing(val & trained) == ["set of validation outcomes"]
    without = table.select_items(np.flatnonzero(~val))
    write_table(without, tmp_path / "without")
    compared.append([])
    prepare(tiny_config(home, data={"outcomes": str(tmp_path / "without")}), tmp_path / "none")
    assert {what for what, _ in compared[-1]} == {what for what, _ in compared[0]}, "there may be none"
    train = np.array([item.split == "train" for item in table.items])
    assert differing(train & trained)[0] == "set of outcomes"
    names = [what for what, _ in compared[-1]]
    assert names.index("set of outcomes") < names.index("aptitude test"), "which is drawn from them"
    assert differing(val & ~trained) == differing(val & trained, instructions=0) == [], "what is not read counts"


def test_an_aptitude_test_of_other_items_is_refused(home, tmp_path):
    config = tiny_config(home, **ABILITY_ALONE)
    job = prepare(config, tmp_path / "first")
    task, *others = job.test.tasks
    for stranger in ("unknown", job.table.split("val").items[0].id):
        changed = dataclasses.replace(task, item_ids=(stranger, *task.item_ids[1:]))
        test = dataclasses.replace(job.test, tasks=(changed, *others))
        with pytest.raises(
            SatjaxError, match=rf"1 of the \d+ aptitude items, such as '{stranger}', are no training items"
        ):
            prepare(config, tmp_path / "given", test)
    assert not (tmp_path / "given").exists()
    run(job_on(config, tmp_path / "first", ONE), tmp_path / "first")
    items = tuple(dataclasses.replace(item, id=f"another {item.id}") for item in job.table.items)
    write_table(dataclasses.replace(job.table, items=items), tmp_path / "outcomes")
    renamed = tiny_config(home, **ABILITY_ALONE, data={"outcomes": str(tmp_path / "outcomes")})
    with pytest.raises(SatjaxError, match=r"first holds a run of other outcomes; use another --workdir"):
        train(renamed, tmp_path / "first")


def test_to_hold_everybody_out_leaves_nothing_to_train_on(home, tmp_path):
    names = prepare(tiny_config(home), tmp_path / "one").table.candidate_ids
    config = tiny_config(home, data={"outcomes": str(home / "outcomes"), "held_out_candidates": names})
    with pytest.raises(SatjaxError, match="held_out_candidates leaves no candidate to train on"):
        prepare(config, tmp_path / "two")


def test_a_workdir_belongs_to_one_config(home, tmp_path):
    with pytest.raises(Interrupted):
        run(job_on(tiny_config(home), tmp_path, ONE), tmp_path, stop=lambda: True)
    with pytest.raises(SatjaxError, match="holds a run of another config; use another --workdir") as raised:
        train(tiny_config(home, seed=9), tmp_path)
    assert str(raised.value).endswith("to start over: it has config.seed = 1 (9 now)")


def test_a_setting_that_is_new_to_satjax_changes_nothing_for_a_run_that_began_without_it(home, tmp_path):
    """It is at its default there, which is what the run has done all the time."""
    config = tiny_config(home)
    first = job_on(config, tmp_path, ONE)
    kept = json.loads((tmp_path / "train_config.json").read_text())
    assert from_mapping(TrainConfig, kept) == config
    del kept["optimizer"]["final_scale"], kept["stages"][0]["warmup_steps"]
    (tmp_path / "train_config.json").write_text(json.dumps(kept))
    as_it_was = hashlib.sha256(canonical_json(settings_without(NOT_COUNTED, kept)).encode()).hexdigest()
    assert as_it_was != first.identity["config"]
    with pytest.raises(Interrupted):
        run(dataclasses.replace(first, identity={**first.identity, "config": as_it_was}), tmp_path, stop=lambda: True)
    again = job_on(config, tmp_path, ONE)
    assert again.identity["config"] == as_it_was
    with Checkpoints(tmp_path / "checkpoints", 2) as checkpoints:
        assert newest(again, checkpoints, place_params(again), tmp_path)[0] == 1
    changed = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, final_scale=0.5))
    with pytest.raises(SatjaxError, match=r"it has config\.optimizer\.final_scale = 0\.1 \(0\.5 now\)$"):
        prepare(changed, tmp_path)
    (tmp_path / "train_config.json").write_text('{"of_another_satjax": 1}')
    with pytest.raises(
        SatjaxError,
        match=r"train_config\.json is no config of this satjax \(unknown config key .*use another --workdir",
    ):
        prepare(config, tmp_path)


def test_a_run_may_go_on_with_other_machines_memory_and_cadence(home, tmp_path):
    """What Phi-3.5's config fixes, 16 chips for its parameters, is not there any more when the run comes back on fewer."""
    first = prepare(tiny_config(home), tmp_path).identity
    shutil.copytree(home / "outcomes", tmp_path / "copied")
    for part in ("llm", "encoder"):
        shutil.copytree(home / part, tmp_path / part)
    changes = {
        "mesh": {"data": 2, "fsdp": 4},
        "checkpoint": {"every_steps": 1, "keep": 1},
        "validation": {"every_steps": 1},
        "data": {"outcomes": str(tmp_path / "copied")},
        "router__attention": "xla",
        "router__llm__remat": "full",
        "router__llm__weights": f"dir:{tmp_path / 'llm'}",
        "router__encoder__weights": f"dir:{tmp_path / 'encoder'}",
        "batch__accumulate": 1,
    }
    assert prepare(tiny_config(home, **changes), tmp_path).identity == first


def test_hosts_may_have_data_and_weights_in_different_places(home, tmp_path):

    def compared(**changes) -> dict:
        return settings_without(PLACES, dataclasses.asdict(tiny_config(home, **changes)))

    llm = vars(tiny_config(home).router.llm)
    there = {"data": {"outcomes": "/there"}, "router__llm": {**llm, "weights": "dir:/there"}}
    assert compared(**there) == compared()
    assert compared(router__llm={**llm, "weights": "hub:there"}) != compared()
    assert compared(mesh={"data": 2}) != compared(), "they run one program together"


@pytest.mark.parametrize("what", ["config", "outcomes", "base weights"])
def test_what_a_run_is_made_of_must_not_change_under_it(what, home, tmp_path):
    for part in ("outcomes", "llm", "encoder"):
        shutil.copytree(home / part, tmp_path / part)
    with pytest.raises(Interrupted):
        run(job_on(tiny_config(tmp_path), tmp_path, ONE), tmp_path, lambda: True)
    config = tiny_config(tmp_path, **({"batch__hidden_items": 0.5} if what == "config" else {}))
    if what == "outcomes":
        table = tiny_table()
        write_table(dataclasses.replace(table, scores_MN=1 - table.scores_MN), tmp_path / "outcomes")
    if what == "base weights":
        shutil.rmtree(tmp_path / "llm")
        write_tiny_llm(tmp_path / "llm", seed=7)
    one = "another" if what == "config" else "other"
    with pytest.raises(SatjaxError, match=f"holds a run of {one} {what}; use another --workdir"):
        train(config, tmp_path)


def test_what_candidates_did_on_the_aptitude_test_must_not_change_under_a_run(home, tmp_path):
    """It is in their profiles, and in no outcome that is trained on."""
    before = (job := prepare(tiny_config(home), tmp_path)).identity
    asked = [item.id in job.test.item_ids for item in job.table.items]
    scores = np.where(asked, 1 - job.table.scores_MN, job.table.scores_MN)
    write_table(dataclasses.replace(job.table, scores_MN=scores), tmp_path / "outcomes")
    after = prepare(tiny_config(home, data={"outcomes": str(tmp_path / "outcomes")}), tmp_path).identity
    assert [what for what in before if before[what] != after[what]] == ["outcomes"]


def test_an_aptitude_test_that_no_checkpoint_belongs_to_is_drawn_anew(home, tmp_path):
    """A run that failed in its first steps leaves one, and the config is mended."""
    prepare(tiny_config(home), tmp_path)
    other = tiny_config(home, aptitude={"num_tasks": 5, "shots": 3, "seed": 4})
    test = prepare(other, tmp_path).test
    assert (test.num_tasks, test.shots, test.seed) == (5, 3, 4)
    assert AptitudeTest.read(tmp_path / "aptitude_test.json") == test


def test_an_aptitude_test_may_be_given_and_stays_with_its_checkpoints(home, tmp_path):
    given = prepare(tiny_config(home, aptitude={"num_tasks": 6, "shots": 4, "seed": 4}), tmp_path / "given").test
    job = dataclasses.replace(prepare(tiny_config(home), tmp_path, given), mesh=make_mesh(ONE, jax.devices()[:1]))
    with pytest.raises(Interrupted):
        run(job, tmp_path, stop=lambda: True)
    assert job.test == prepare(tiny_config(home), tmp_path).test == given


def test_a_run_goes_on_with_its_clusters_where_a_machine_finds_others(home, tmp_path, monkeypatch):
    config = tiny_config(home, aptitude={"num_tasks": 4, "shots": 3, "clusters": 5})
    job = job_on(config, tmp_path, mesh=ONE)
    with pytest.raises(Interrupted):
        run(job, tmp_path, stop=lambda: True)
    found = cluster_numbers(job.table, 5, 0)
    monkeypatch.setattr("satjax.training.job.cluster_numbers", lambda *_: np.roll(found, 1))
    assert prepare(config, tmp_path).identity == job.identity
    assert {item.task for item in job.train.items} == {f"cluster {n}" for n in range(1, 6)}
    assert prepare(config, tmp_path / "new").table.items != job.table.items


def test_every_process_asks_for_the_first_ones_clusters_whatever_it_sees(tmp_path, monkeypatch):
    """Whether there is a collective must not hang on a file that one host sees late, or not at all."""
    table, config, path = tiny_table(), AptitudeConfig(num_tasks=2, clusters=3), tmp_path / "clusters.json"
    shape = (sum(item.split == "train" for item in table.items),)
    asked = []
    monkeypatch.setattr("satjax.training.job.is_first", lambda: False)
    monkeypatch.setattr(
        "satjax.training.job.from_first", lambda value: asked.append((value.shape, value.dtype)) or value + 2
    )
    monkeypatch.setattr(
        "satjax.training.job.cluster_numbers", lambda *_: pytest.fail("what the others find counts for nothing")
    )
    for seen in (None, path, path):
        np.testing.assert_array_equal(clusters_of(table, config, seen), np.full(shape, 2))
        path.write_text(json.dumps([1] * shape[0]))
    assert asked == [(shape, np.int32)] * 3


@pytest.mark.parametrize("text", ["[1, 2", '{"1": 2}', '[1, "a"]', "[[1], 2]", "[99999999999]"])
def test_clusters_that_a_run_cannot_go_on_with_are_named(tmp_path, text):
    path = tmp_path / "clusters.json"
    path.write_text(text)
    with pytest.raises(SatjaxError, match=r"clusters\.json holds no clusters .*use another --workdir"):
        clusters_of(tiny_table(), AptitudeConfig(num_tasks=2, clusters=3), path)


def test_the_aptitude_test_is_drawn_without_held_out_candidates(home, tmp_path):
    """Nor does anything else that all are measured by hang on what those did."""
    first = prepare(tiny_config(home), tmp_path)
    held, turned = first.table.candidate_ids[0], str(tmp_path / "turned")
    scores = first.table.scores_MN.copy()
    scores[0] = 1 - scores[0]
    write_table(dataclasses.replace(first.table, scores_MN=scores), tmp_path / "turned")
    without = {"outcomes": str(home / "outcomes"), "held_out_candidates": (held,)}
    other = prepare(tiny_config(home, data=without), tmp_path / "b")
    again = prepare(tiny_config(home, data={**without, "outcomes": turned}), tmp_path / "c")
    seen = prepare(tiny_config(home, data={"outcomes": turned}), tmp_path / "d")
    assert (again.test, again.norms) == (other.test, other.norms)
    assert seen.test != first.test
    assert seen.norms != first.norms
    assert held not in other.train.candidate_ids
    assert len(other.norms.mean) == other.test.num_tasks
    assert not other.test.item_ids & set(other.train.item_ids)
