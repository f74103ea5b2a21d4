"""Several real processes as one run, through the command line: what they compute, and what becomes of them when one is lost."""

import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from satjax.checkpoint import load_arrays
from satjax.errors import SatjaxError
from satjax.processes.distributed import find_cluster
from satjax.train import train
from satjax.training.run_log import read_metrics
from tests.processes import SLOWLY, die_in_save, die_in_step, finish, start
from tests.tiny import ABILITY_ALONE, ABILITY_TUNED, tiny_config, write_tiny_config, write_tiny_llm

STEPS = 10
EXACT = {**ABILITY_ALONE, "router__compute_dtype": "float32"}
"""One process alone would read the LLM's states in products of bfloat16, where its CPU has them; several do not."""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("tiny")
    write_tiny_config(home / "ability.py", home, **EXACT)
    return home


@pytest.fixture(scope="module")
def whole(home, tmp_path_factory) -> Path:
    """The run of one process that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("whole")
    train(tiny_config(home, **EXACT), workdir)
    return workdir


def losses(workdir: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in read_metrics(workdir / "metrics.jsonl")}


def learned(workdir: Path) -> dict[str, np.ndarray]:
    import json

    config = json.loads((workdir / "router" / "config.json").read_text())
    learned = {path: (tuple(shape), dtype) for path, (shape, dtype) in config["learned"].items()}
    return load_arrays(workdir / "router" / "params", learned)


def check_same_run(workdir: Path, other: Path) -> None:
    """The same curve, every step once, and the same router."""
    assert list(losses(workdir)) == list(losses(other)) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(list(losses(workdir).values()), list(losses(other).values()), rtol=1e-4)
    a, b = learned(workdir), learned(other)
    assert a.keys() == b.keys()
    for path in a:
        np.testing.assert_allclose(a[path], b[path], atol=1e-3, rtol=1e-3, err_msg=path)


def saved(workdir: Path) -> set[int]:
    return {int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()}


def test_two_processes_lose_one_in_a_step_and_one_alone_goes_on(home, whole, tmp_path):
    (code, said), (killed, _) = finish(start(home / "ability.py", tmp_path, 2, {1: die_in_step(8)}))
    assert (code, killed) == (75, -signal.SIGKILL), said
    assert re.search(r"^satjax: process 1 \(.+\) was lost; start all processes again", said, re.M), said
    assert "Traceback" not in said
    before = losses(tmp_path)
    assert len(before) >= 6
    np.testing.assert_allclose(list(before.values()), list(losses(whole).values())[: len(before)], rtol=1e-4)
    assert 3 in saved(tmp_path)
    ((code, said),) = finish(start(home / "ability.py", tmp_path))
    assert code == 0, said
    assert "going on after step" in said
    check_same_run(tmp_path, whole)


def test_a_process_without_the_first_one_says_so(home, tmp_path):
    ((code, said),) = finish(start(home / "ability.py", tmp_path, 2, ids=[1], arguments=["--join-timeout", "1"]))
    assert code == 75, said
    assert re.fullmatch(r"satjax: process 0 did not come within 1 s at --coordinator 127.0.0.1:\d+ .*\n", said), said
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("num_processes", "fsdp"), [(2, 1), (2, 2), (4, 2)])
def test_an_llm_that_lies_on_several_processes_learns_the_same(num_processes, fsdp, home, tmp_path):
    config = write_tiny_config(home / f"fsdp{fsdp}.py", home, mesh={"data": -1, "fsdp": fsdp, "tensor": 1})
    train(tiny_config(home), tmp_path / "one")
    results = finish(start(config, tmp_path / "several", num_processes))
    assert [code for code, _ in results] == [0] * num_processes, results
    check_same_run(tmp_path / "several", tmp_path / "one")


@pytest.mark.slow
def test_an_llm_that_learns_under_the_ability_head_is_lost_in_its_stage_and_goes_on(home, tmp_path):
    tuned = {**ABILITY_TUNED, "router__compute_dtype": "float32"}
    config = write_tiny_config(home / "tuned.py", home, **tuned, mesh={"data": -1, "fsdp": 2, "tensor": 1})
    train(tiny_config(home, **tuned), tmp_path / "one")
    results = finish(start(config, tmp_path / "several", 2, {1: die_in_step(8)}))
    assert [code for code, _ in results] == [75, -signal.SIGKILL], results
    again = finish(start(config, tmp_path / "several", 2))
    assert [code for code, _ in again] == [0, 0], again
    assert re.search(r"going on after step [4-7]", again[0][1])
    check_same_run(tmp_path / "several", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_kill_in_a_save_leaves_the_checkpoint_before(victim, home, whole, tmp_path):
    results = finish(start(home / "ability.py", tmp_path, 2, {victim: die_in_save(6)}))
    assert results[victim][0] == -signal.SIGKILL, results
    assert results[1 - victim][0] == 75, results
    assert f"process {victim} (" in results[1 - victim][1]
    assert saved(tmp_path) == {3}
    again = finish(start(home / "ability.py", tmp_path, 2))
    assert [code for code, _ in again] == [0, 0], again
    assert "going on after step 3" in again[0][1]
    check_same_run(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "victim"),
    [(signal.SIGTERM, 1), (signal.SIGTERM, 0), (signal.SIGINT, 1)],
    ids=["term-1", "term-0", "interrupt-1"],
)
def test_a_signal_to_one_process_saves_and_stops_all_of_them(number, victim, home, whole, tmp_path):
    processes = start(home / "ability.py", tmp_path, 2, {0: SLOWLY, 1: SLOWLY})
    deadline = time.monotonic() + 200
    while len(losses(tmp_path)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    processes[victim].send_signal(number)
    results = finish(processes)
    assert [code for code, _ in results] == [75, 75], results
    steps = {re.search(r"interrupted after step (\d+); everything is saved", said)[1] for _, said in results}
    (step,) = map(int, steps)
    assert max(saved(tmp_path)) == step < STEPS
    again = finish(start(home / "ability.py", tmp_path, 2))
    assert [code for code, _ in again] == [0, 0], again
    check_same_run(tmp_path, whole)


@pytest.mark.slow
def test_the_number_of_processes_may_change_with_every_start(home, whole, tmp_path):
    for num_processes, step in ((4, 5), (2, 3)):
        results = finish(start(home / "ability.py", tmp_path, num_processes, {num_processes - 1: die_in_step(step)}))
        assert results[-1][0] == -signal.SIGKILL, results
        assert [code for code, _ in results[:-1]] == [75] * (num_processes - 1), results
    again = finish(start(home / "ability.py", tmp_path, 4))
    assert [code for code, _ in again] == [0] * 4, again
    check_same_run(tmp_path, whole)


BUG = """
import satjax.train as module
def write_trained_router(*arguments):
    raise KeyError("a bug")
module.write_trained_router = write_trained_router
"""


@pytest.mark.slow
def test_a_process_that_fails_takes_the_others_with_it(home, tmp_path):
    (first, said), (second, trace) = finish(start(home / "ability.py", tmp_path, 2, {1: BUG}))
    assert (first, second) == (1, 1), said
    assert re.search(r"^satjax: process 1 \(.+\) failed: KeyError: 'a bug'$", said, re.M), said
    assert "Traceback" in trace
    assert not (tmp_path / "router").exists()


@pytest.mark.slow
def test_what_differs_between_processes_is_named(home, tmp_path):
    other = """
import satjax.config.load as module
load = module.load_config
module.load_config = lambda file, rest: load(file, [*rest, "--config.seed=5"])
"""
    for code, said in finish(start(home / "ability.py", tmp_path, 2, {1: other})):
        assert code == 2
        assert "processes 1 have another config than process 0" in said
    write_tiny_llm(tmp_path / "llm", seed=7)
    elsewhere = f"""
import satjax.assembly as module
resolve = module.resolve
module.resolve = lambda source: resolve("dir:{tmp_path / "llm"}" if source.endswith("/llm") else source)
"""
    for code, said in finish(start(home / "ability.py", tmp_path, 2, {1: elsewhere})):
        assert code == 2
        assert "processes 1 have another set of base weights than process 0" in said
    validation = """
import numpy as np
import satjax.training.job as module
open_outcomes = module.open_outcomes
def without_validation(path):
    table = open_outcomes(path)
    return table.select_items(np.array([i for i, item in enumerate(table.items) if item.split != "val"]))
module.open_outcomes = without_validation
"""
    for code, said in finish(start(home / "ability.py", tmp_path, 2, {1: validation})):
        assert code == 2
        assert "processes 1 have another set of validation outcomes than process 0" in said
    outcomes = """
import numpy as np
import satjax.training.job as module
open_outcomes = module.open_outcomes
def without_one(path):
    table = open_outcomes(path)
    first = [item.split for item in table.items].index("train")
    return table.select_items(np.delete(np.arange(len(table.items)), first))
module.open_outcomes = without_one
"""
    clusters = ["--config.aptitude.clusters=8"]
    for code, said in finish(start(home / "ability.py", tmp_path, 2, {1: outcomes}, arguments=clusters)):
        assert code == 2
        assert "processes 1 have another set of outcomes than process 0" in said
    alone = f"import os, sys\nsys.argv[sys.argv.index({str(tmp_path)!r})] = {str(tmp_path / 'elsewhere')!r}"
    wait = "\nimport satjax.training.job as module\nmodule.SECONDS_TO_SEE_A_FILE = 0"
    for code, said in finish(start(home / "ability.py", tmp_path, 2, {1: alone + wait})):
        assert code == 2
        assert re.search(r"--workdir \S+elsewhere is not shared: process 0 wrote aptitude_test.json", said), said


def test_flags_that_do_not_go_together_are_refused():
    assert find_cluster(None, 1, None) is None
    assert find_cluster("host:1", 1, 0) is None
    cluster = find_cluster("[::1]:8476", 4, 3)
    assert cluster.roster.address == ("::1", 8476)
    for flags, fault in (
        ((None, 2, 0), "--coordinator is missing"),
        (("host:1", None, 0), "--num-processes is missing"),
        (("host:1", 2, None), "--process-id is missing"),
        (("host", 2, 0), "--coordinator host: give host and port"),
        (("host:0", 2, 0), "--coordinator host:0: give host and port"),
        (("host:65536", 2, 0), "--coordinator host:65536: give host and port"),
        (("node..local:8476", 2, 1), "--coordinator node..local:8476: give host and port"),
        (("host:1", 2, 2), "--process-id 2: 2 processes are 0 to 1"),
        (("host:1", 0, 0), "--num-processes 0"),
    ):
        with pytest.raises(SatjaxError, match=fault):
            find_cluster(*flags)


def test_a_cluster_that_jax_recognises_needs_no_flags(monkeypatch):
    assert find_cluster(None, None, None) is None
    for name, value in {
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "gpu[3-4]",
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
    }.items():
        monkeypatch.setenv(name, value)
    cluster = find_cluster(None, None, None)
    assert cluster.roster.coordinator.startswith("gpu3:")
    assert (cluster.roster.num_processes, cluster.roster.process_id, cluster.local_device_ids) == (4, 3, (1,))
    assert find_cluster(None, 1, None) is None
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert find_cluster(None, None, None) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("OMPI_COMM_WORLD_SIZE", "8"), ("PMI_SIZE", "8"), ("TPU_WORKER_HOSTNAMES", "a,b,c,d,e,f,g,h")],
    ids=["Open MPI 5", "MPICH", "TPU without libtpu"],
)
def test_one_of_several_processes_that_jax_does_not_recognise_does_not_train_alone(name, value, monkeypatch):
    """Eight runs would write into one workdir."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SatjaxError, match=rf"^{name} says that this is one of 8 processes") as raised:
        find_cluster(None, None, None)
    for flag in ("--coordinator HOST:PORT", "--num-processes N", "--process-id I", "--num-processes 1 for this host"):
        assert flag in str(raised.value)
    assert find_cluster(None, 1, None) is None
    assert find_cluster("a:8476", 8, 2).roster.process_id == 2
    monkeypatch.setenv(name, value[:1].replace("8", "1"))
    assert find_cluster(None, None, None) is None
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "8")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1")
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "1531576320.0;tcp://10.96.0.1:34911")
    assert find_cluster(None, None, None).roster.num_processes == 8, "as Open MPI 4 names them"


def test_hosts_of_a_tpu_pod_have_names(monkeypatch):
    monkeypatch.setattr("jax._src.clusters.cluster.running_in_cloud_tpu_vm", True)
    monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.running_in_cloud_tpu_vm", True)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost,b")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    monkeypatch.setenv("MEGASCALE_COORDINATOR_ADDRESS", "localhost")
    monkeypatch.setenv("MEGASCALE_NUM_SLICES", "1")
    monkeypatch.setenv("MEGASCALE_SLICE_ID", "0")
    cluster = find_cluster(None, None, None)
    assert cluster.roster.name(1) == "process 1 (b)"
    assert cluster.local_device_ids is None


def test_a_cluster_that_cannot_be_read_is_one_line(monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.setenv(name, "x")
    with pytest.raises(SatjaxError, match=r"this cluster cannot be read .* --num-processes 1 for this host alone"):
        find_cluster(None, None, None)
