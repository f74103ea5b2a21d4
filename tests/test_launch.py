"""The launchers, as their users meet them: what a dry run prints, and whole runs against stand-ins for gcloud, srun and satjax on PATH."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

from satjax.training.run_log import read_metrics
from tests.tiny import ABILITY_ALONE, write_tiny_config

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
NASTY = (
    "two words",
    "it's",
    '"quoted"',
    "$HOME `id` $(id) $$",
    "back\\slash\\",
    "a\nb\tc",
    "*?[x]",
    "&;|<>#!~{}()",
    "ü→字",
    "",
    "--",
    "&",
)
WORKDIR = "/mnt/satjax/runs/first"
TRAIN = ("--config", "configs/smoke.py", "--workdir", WORKDIR, *NASTY)
OPTIONS = {
    "tpu_vm.sh": "--name n --zone z --accelerator v6e-16 --spot --share 10.0.0.2:/satjax",
    "gke_xpk.sh": "--name n --cluster c --tpu-type v6e-16 --image registry/satjax --storage share --zone z --project p",
    "gke_jobset.sh": "--name n --image registry/satjax --accelerator tpu-v6e-slice --topology 4x8 --share 10.0.0.2:/satjax",
    "slurm.sh": "--name n --nodes 2 --gpus-per-node 4 --partition gpu --account a",
}

STAND_INS = {
    # Every host of a slice has a home of its own; what runs there is the real launch/host.sh.
    "gcloud": r"""
printf '%s\n' "$*" >>"$FAKE/gcloud"
case "$*" in
  *" create "*)
    [[ ! -e $FAKE/refuse ]] || exit 1
    cp "$FAKE/granted" "$FAKE/state" ;;
  *" describe "*)
    [[ ! -e $FAKE/offline ]] || { rm "$FAKE/offline"; echo "ERROR: no route to the service" >&2; exit 1; }
    cat "$FAKE/state" 2>/dev/null || { echo "ERROR: NOT_FOUND: there is no $5" >&2; exit 1; } ;;
  *" delete "*) rm -rf "$FAKE/state" "$FAKE"/host[01]/* ;;
  *" scp "*) for host in 0 1; do cp "$5" "$FAKE/host$host/"; done ;;
  *" ssh "*)
    line=${!#} code=0
    for host in 0 1; do (cd "$FAKE/host$host" && HOME=$PWD HOST=$host exec bash -c "$line") & pids[host]=$!; done
    for host in 0 1; do wait "${pids[host]}" || code=$?; done
    exit $code ;;
esac""",
    # Writes down its arguments, and ends as the next line of $FAKE/codes for its host says.
    "satjax": r"""
printf '%s\0' "$@" >"$FAKE/argv$HOST"
trap 'echo saved; exit 75' TERM
[[ ! -e $FAKE/endless ]] || { touch "$FAKE/started$HOST"; for _ in {1..3000}; do sleep 0.02; done; }
code=0
[[ ! -s $FAKE/codes$HOST ]] || { code=$(head -n 1 "$FAKE/codes$HOST"); sed -i 1d "$FAKE/codes$HOST"; }
[[ $code != offline ]] || { touch "$FAKE/offline"; code=75; }
[[ $code != preempted ]] || { echo SUSPENDED >"$FAKE/state"; code=137; }
exit "$code" """,
    "git": r"""
case $3 in
  archive) tar -czf "$7" -C "$2" launch ;;
  cat-file) [[ -f $2/${5#HEAD:} ]] ;;
esac""",
    "python3": r"""
printf '%s\n' "$*" >>"$FAKE/python3"
[[ "$*" != *venv* ]] || { mkdir -p "${!#}/bin"; cp "$FAKE/bin/satjax" "${!#}/bin/"; cp "$FAKE/bin/python3" "${!#}/bin/python"; }
[[ "$*" != *--target* ]] || { all=$* target=${all#*--target }; target=${target%% *}; mkdir -p "$target/bin"; cp "$FAKE/bin/satjax" "$target/bin/"; }""",
    "sudo": r"""printf '%s\n' "$*" >>"$FAKE/sudo" """,
    "mountpoint": "exit 1",
    "sleep": "exec /bin/sleep 0.02",
    # Kubernetes makes one dollar of two in what is to run.
    "xpk": r"""[[ $5$6 == --clusterc ]] && line=${!#} && exec bash -c "${line//\$\$/\$}" """,
    "sbatch": r"""
printf '%s\n' "$*" >>"$FAKE/sbatch"
while [[ $1 != *.sh ]]; do
  [[ $1 != --chdir ]] || cd "$2"
  [[ $1 != --cpus-per-task ]] || export SLURM_CPUS_PER_TASK=$2
  shift
done
cp "$1" "$FAKE/spooled"; shift
echo $$ >"$FAKE/job"
SLURM_JOB_ID=7 exec bash "$FAKE/spooled" "$@" """,
    "srun": r"""
code=0
while [[ $1 == --* ]]; do printf '%s\n' "$1" >>"$FAKE/srun"; shift; done
for host in 0 1; do HOST=$host setsid "$@" & echo $! >"$FAKE/task$host"; done
wait "$(<"$FAKE/task0")" || code=$?
wait "$(<"$FAKE/task1")" || code=$?
exit $code""",
    "scancel": r"""printf '%s\n' "$*" >>"$FAKE/scancel"; [[ ! -e $FAKE/busy ]] || { rm "$FAKE/busy"; exit 1; }; for host in 0 1; do kill -TERM -- "-$(<"$FAKE/task$host")"; done""",
    "scontrol": r"""printf '%s\n' "$*" >>"$FAKE/scontrol" """,
    "kubectl": r"""cat >"$FAKE/kubectl" """,
}


class World:
    """A folder with stand-ins on PATH, and what they wrote down."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name, body in STAND_INS.items():
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!/usr/bin/env bash\n{body}\n")
            program.chmod(0o755)
        for host in (0, 1):
            (folder / f"host{host}").mkdir()
        (folder / "granted").write_text("ACTIVE\n")
        self.environment = {
            "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin", "FAKE": str(folder), "HOME": str(folder), "HOST": "0", "LC_ALL": "C.UTF-8",
        }  # fmt: skip

    def start(self, script: str, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [LAUNCH / script, *arguments], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, script: str, *arguments: str) -> tuple[int, str]:
        process = self.start(script, *arguments)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def codes(self, *rounds: tuple[object, object]) -> None:
        for host in (0, 1):
            (self.folder / f"codes{host}").write_text("".join(f"{codes[host]}\n" for codes in rounds))

    def said(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def argv(self, host: int = 0) -> list[str]:
        return (self.folder / f"argv{host}").read_text().split("\0")[:-1]

    def verbs(self) -> list[str]:
        """The calls of gcloud, without the waiting."""
        known = ("create", "delete", "scp", "host.sh install", "host.sh train", "host.sh stop")
        return [verb for line in self.said("gcloud") for verb in known if f" {verb}" in line or f"/{verb}" in line]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def shellcheck(*arguments: str | Path) -> None:
    result = subprocess.run([SHELLCHECK, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout


def dry_run(script: str, *train: str, options: str | None = None) -> str:
    arguments = shlex.split(OPTIONS[script] if options is None else options)
    result = subprocess.run([LAUNCH / script, *arguments, "--dry-run", "--", *train], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_scripts_are_clean():
    shellcheck(*SCRIPTS)


@pytest.mark.parametrize("script", [*OPTIONS, "one_gpu.sh"])
def test_help_is_the_comment_at_the_top(script):
    result = subprocess.run([LAUNCH / script, "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stdout.startswith(f"launch/{script} ")
    assert "--dry-run" in result.stdout
    assert "parse_arguments" not in result.stdout


@pytest.mark.parametrize("script", OPTIONS)
def test_a_dry_run_prints_a_script_that_gives_satjax_the_same_arguments(script, world):
    printed = dry_run(script, *TRAIN)
    path = world.folder / "printed.sh"
    path.write_text(f"#!/usr/bin/env bash\n{printed}")
    shellcheck("--severity", "warning", path)
    assert not world.said("gcloud")
    # The host of the slice answers only once it is there, so what is printed runs from its first line to its last.
    result = subprocess.run(
        ["bash", "-e", path], env=world.environment, cwd=world.folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    if script == "gke_jobset.sh":
        container = jobset_of(printed)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
            "containers"
        ][0]
        assert [word.replace("$$", "$") for word in container["args"]] == list(TRAIN)
        assert container["command"] == ["satjax", "train"]
        assert yaml.safe_load("\n".join(world.said("kubectl"))) == jobset_of(printed)
    else:
        assert world.argv() == ["train", *TRAIN]


@settings(max_examples=15)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8), min_size=1, max_size=30
    )
)
def test_quoted_words_are_read_back_as_they_were(words):
    code = f'. {LAUNCH}/common.sh; line=$(quoted "$@"); eval "printf %s\\\\\\\\0 $line"'
    result = subprocess.run(["bash", "-c", code, "_", *words], capture_output=True, check=True)
    assert result.stdout.decode().split("\0")[:-1] == words


def test_hosts_are_judged_together(tmp_path):
    hosts_own_verdict = [
        ((0, 0), 0, 0), ((75, 0), 75, 75), ((0, 134), 134, 134), ((134, 2), 134, 2), ((2, 135), 2, 2), ((135, 2), 135, 2), ((1, 75), 1, 1), ((75, 137, 1, 75), 137, 1),
        ((), 1, 255), ((0,), 255, 255), ((), 0, 0),
    ]  # fmt: skip
    code, logs = f". {LAUNCH}/common.sh; cd {tmp_path}", ""
    for i, (hosts, own, _) in enumerate(hosts_own_verdict):
        (tmp_path / f"{i}").write_text("step 1\n" + "".join(f"loss 0.1 satjax-launch: exit {host}\n" for host in hosts))
        logs += f"; verdict {i} {own}"
    said = subprocess.run(["bash", "-c", code + logs], capture_output=True, text=True, check=True).stdout
    assert [int(line) for line in said.split()] == [verdict for *_, verdict in hosts_own_verdict]


def test_a_host_that_is_told_nothing_makes_nothing(world):
    code, output = world.run("host.sh")
    assert code == 2
    assert "launch/host.sh install SHARE" in output
    assert not (world.folder / "satjax-run").exists()


@pytest.mark.parametrize(
    ("script", "options", "train", "said"),
    [
        ("tpu_vm.sh", "--name n", TRAIN, "--zone is missing"),
        ("tpu_vm.sh", f"{OPTIONS['tpu_vm.sh']} --retries x", TRAIN, "--retries x: give a whole number"),
        ("gke_jobset.sh", f"{OPTIONS['gke_jobset.sh']} --retries 08", TRAIN, "--retries 08: give a whole number"),
        ("tpu_vm.sh", f"{OPTIONS['tpu_vm.sh']} --nmae n", TRAIN, "unknown option --nmae"),
        ("tpu_vm.sh", f"{OPTIONS['tpu_vm.sh']} --spot=no", TRAIN, "--spot takes no value"),
        ("tpu_vm.sh", f"{OPTIONS['tpu_vm.sh']} --zone", TRAIN, "--zone needs a value"),
        ("tpu_vm.sh", f"{OPTIONS['tpu_vm.sh']} stray", TRAIN, "unknown argument 'stray'"),
        ("tpu_vm.sh", "--name n --zone z --accelerator v9-8 --share h:/x", TRAIN, "name its software with --runtime"),
        ("tpu_vm.sh", "--name n --zone z --accelerator v6e-8 --share bucket", TRAIN, "--share bucket: give HOST:/PATH"),
        ("tpu_vm.sh", OPTIONS["tpu_vm.sh"], ("--config", "c", "--workdir", "runs/x"), "goes with it: name one under /mnt/satjax"),
        ("tpu_vm.sh", OPTIONS["tpu_vm.sh"], (*TRAIN, "--workdir=runs/x"), "--workdir runs/x lies on one host's disk"),
        ("tpu_vm.sh", OPTIONS["tpu_vm.sh"], ("--config", "configs/mine.py:large", "--workdir", WORKDIR), "--config configs/mine.py:large is not committed"),
        *(
            (script, OPTIONS[script], ("--config", "configs/qwen25.py:1.5b", "--workdir", WORKDIR, *more), f"outcomes {said} are on no host")
            for script in ("tpu_vm.sh", "gke_xpk.sh", "gke_jobset.sh")
            for more, said in (((), "outcomes"), (("--config.data.outcomes=/home/me/outcomes",), "/home/me/outcomes"))
        ),
        *(
            ("gke_jobset.sh", OPTIONS["gke_jobset.sh"], ("--config", f"configs/{config}", "--workdir", WORKDIR), f"--config configs/{said} does not say itself which outcomes it takes: give --config.data.outcomes=")
            for config, said in (("qwen25_coder.py", "qwen25_coder.py"), ("tuned.py:large", "tuned.py"))
        ),
        ("gke_xpk.sh", OPTIONS["gke_xpk.sh"], ("--config", "c", "--workdir=gs://b/x"), "satjax reads files; mount the bucket"),
        ("gke_jobset.sh", OPTIONS["gke_jobset.sh"], ("--config", "c"), "with --config and --workdir"),
        ("gke_jobset.sh", OPTIONS["gke_jobset.sh"].replace("4x8", "4by8"), TRAIN, "--topology 4by8: give it as 4x4"),
        ("gke_jobset.sh", OPTIONS["gke_jobset.sh"] + " --chips-per-host 5", TRAIN, "32 chips are no multiple"),
        ("gke_jobset.sh", OPTIONS["gke_jobset.sh"], (*TRAIN, "\x1b"), "control characters cannot be passed on"),
        ("gke_jobset.sh", OPTIONS["gke_jobset.sh"] + " --slices 0", TRAIN, "--slices 0: give a number above 0"),
        ("gke_jobset.sh", OPTIONS["gke_jobset.sh"] + " --chips-per-host 0", TRAIN, "--chips-per-host 0: give a number above 0"),
        ("gke_xpk.sh", OPTIONS["gke_xpk.sh"] + " --slices 0", TRAIN, "--slices 0: give a number above 0"),
        ("slurm.sh", OPTIONS["slurm.sh"] + " --nodes 0", TRAIN, "--nodes 0: give a number above 0"),
        ("slurm.sh", OPTIONS["slurm.sh"] + " --save-seconds 2m", TRAIN, "--save-seconds 2m: give a whole number"),
        ("one_gpu.sh", "pack --out parts --mib 0", (), "--mib 0: give a number above 0"),
        ("slurm.sh", OPTIONS["slurm.sh"], (), "after -- stand the arguments of satjax train"),
        ("one_gpu.sh", "trian", (), "'trian' is no step"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_before_anything_runs(script, options, train, said, world):
    code, output = world.run(script, *shlex.split(options), "--", *train)
    assert code == 2
    assert said in output
    assert len(output.splitlines()) == 1
    assert not world.said("gcloud")


@pytest.mark.parametrize(("more", "seconds"), [("", 120), ("--save-seconds 600", 600)])
def test_a_large_checkpoint_is_given_the_time_to_be_saved(more, seconds):
    """On a share that takes minutes for it."""
    printed = {
        s: dry_run(s, *TRAIN, options=f"{OPTIONS[s]} {more}") for s in ("slurm.sh", "gke_jobset.sh", "gke_xpk.sh")
    }
    assert f"--signal B:TERM@{seconds + 60} " in printed["slurm.sh"]
    assert f"--termination-grace-period-seconds {seconds} " in printed["gke_xpk.sh"]
    pod = jobset_of(printed["gke_jobset.sh"])["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == seconds


@pytest.mark.parametrize("outcomes", ["/mnt/satjax/outcomes", "synthetic", "synthetic:7"])
@pytest.mark.parametrize("script", ["tpu_vm.sh", "gke_xpk.sh", "gke_jobset.sh"])
def test_outcomes_that_all_hosts_find_are_no_mistake(script, outcomes):
    for config in ("configs/qwen25.py:1.5b", "configs/tuned.py"):
        dry_run(script, "--config", config, "--workdir", WORKDIR, "--config.data.outcomes", outcomes)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('"data": {"outcomes": "outcomes", "held_out_candidates": ()},', "outcomes"),
        ("config.data.outcomes = '/mnt/satjax/outcomes'", ""),
        ('config["data"]["outcomes"] = "synthetic:7"', ""),
        ('data = ConfigDict(dict(outcomes="/home/me/o"))', "/home/me/o"),
    ],
)
def test_a_config_may_say_in_any_way_where_its_outcomes_are(line, found, tmp_path):
    (tmp_path / "c.py").write_text(f"{line}\n")
    (tmp_path / "launch").mkdir()
    shutil.copy(LAUNCH / "common.sh", tmp_path / "launch")  # beside its folder lies the checkout
    code = ". launch/common.sh; REST=(--config c.py); check_shared_outcomes"
    result = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == (2 if found else 0), result.stderr
    assert not found or f"outcomes {found} are on no host" in result.stderr


# --- TPU VMs


def tpu(world: World, *more: str) -> tuple[int, str]:
    return world.run("tpu_vm.sh", *shlex.split(OPTIONS["tpu_vm.sh"]), *more, "--", *TRAIN)


def test_a_slice_is_made_used_and_deleted(world):
    code, output = tpu(world)
    assert code == 0, output
    assert world.verbs() == ["create", "scp", "host.sh install", "host.sh train", "delete"]
    assert world.argv(0) == world.argv(1) == ["train", *TRAIN]
    assert "mount -t nfs 10.0.0.2:/satjax /mnt/satjax" in world.said("sudo")
    assert any(line.endswith("/satjax[tpu]") for line in world.said("python3"))


def test_a_connection_that_died_in_silence_is_noticed(world):
    assert tpu(world)[0] == 0
    for call, flag in (("tpu-vm ssh", "--ssh-flag="), ("tpu-vm scp", "--scp-flag=")):
        lines = [line for line in world.said("gcloud") if f" {call} " in line]
        assert lines
        for line in lines:
            assert {f"{flag}-oServerAliveInterval=30", f"{flag}-oServerAliveCountMax=6"} <= set(line.split())


def test_a_command_that_is_given_again_starts_no_second_run(world):
    """As gcloud gives it after a connection that broke: when the run has ended, or when the host has restarted and lost its share."""
    install, train, ready = (
        ("host.sh", "install", "h:/x"),
        ("host.sh", "train", *TRAIN),
        world.folder / "satjax-run" / "ready",
    )
    satjax = world.folder / "bin" / "satjax"
    satjax.write_text(satjax.read_text().replace("code=0", 'code=0; echo start >>"$FAKE/starts"'))
    world.codes((75, 0), (0, 0), (134, 0))
    assert world.run(*install)[0] == 0
    assert [world.run(*train)[0] for _ in range(2)] == [75, 75]
    assert len(world.said("starts")) == 1
    assert world.run("host.sh", "train", *TRAIN, "--more")[0] == 75  # what another run ended with is not theirs
    assert world.run(*install)[0] == 0
    assert [world.run(*train)[0] for _ in range(2)] == [0, 0]
    assert len(world.said("starts")) == 2
    assert world.run(*install)[0] == 0
    ready.write_text("the start before\n")
    (world.folder / "satjax-run" / "exit").unlink()
    assert world.run(*train)[0] == 137
    assert len(world.said("starts")) == 2


@pytest.mark.parametrize(("failures", "ends"), [(2, 0), (99, 75)])
def test_a_network_that_fails_while_satjax_is_installed_is_no_mistake(failures, ends, world):
    pip = world.folder / "bin" / "python3"
    flaky = f"""[[ "$*" != *"uv pip install"* || $HOST != 1 || $(wc -l <"$FAKE/failed") -ge {failures} ]] || {{ echo >>"$FAKE/failed"; exit 2; }}"""
    pip.write_text(pip.read_text().replace("\n", f"\n{flaky}\n", 1))
    (world.folder / "failed").touch()
    code, output = tpu(world, "--retries", "1")
    assert code == ends, output
    once = ["scp", "host.sh install"]
    assert world.verbs() == ["create", *once, *(["host.sh train"] if ends == 0 else once), "delete"]


def test_a_saved_run_goes_on_in_the_same_slice_and_a_preempted_one_in_a_new_one(world):
    world.codes((75, 75), ("preempted", 134), (0, 0))
    code, output = tpu(world)
    assert code == 0, output
    once = ["scp", "host.sh install", "host.sh train"]
    assert world.verbs() == ["create", *once, *once, "delete", "create", *once, "delete"]


def test_a_slice_outlasts_a_connection_that_is_lost(world):
    world.codes(("offline", 75), (0, 0))
    code, output = tpu(world)
    assert code == 0, output
    assert "no route" in output
    once = ["scp", "host.sh install", "host.sh train"]
    assert world.verbs() == ["create", *once, *once, "delete"]


def test_a_service_that_never_answered_is_asked_for_nothing(world):
    (world.folder / "offline").touch()
    code, output = tpu(world)
    assert (code, output) == (1, "launch: ERROR: no route to the service\n")
    assert world.verbs() == []


def test_retries_end(world):
    world.codes(*[(75, 75)] * 9)
    code, output = tpu(world, "--retries", "2")
    assert code == 75
    assert world.verbs().count("host.sh train") == 3
    assert "given up after 2" in output
    assert world.verbs()[-1] == "delete"


@pytest.mark.parametrize(("step", "ends"), [(100, 0), (0, 75)])
def test_interruptions_count_only_where_nothing_was_done_between_them(step, ends, world):
    """Five slices are taken away, each after some steps or after none."""
    (world.folder / "steps").write_text("100\n")
    find = world.folder / "bin" / "find"
    find.write_text('#!/usr/bin/env bash\n[[ $1 != */checkpoints ]] || cat "$FAKE/steps"\n')
    find.chmod(0o755)
    satjax = world.folder / "bin" / "satjax"
    more = f'[[ $HOST != 0 ]] || echo $(($(tail -n 1 "$FAKE/steps") + {step})) >>"$FAKE/steps"'
    satjax.write_text(satjax.read_text().replace("code=0", f"code=0\n{more}"))
    world.codes(*[("preempted", "preempted")] * 5, (0, 0))
    code, output = tpu(world)
    assert code == ends, output
    assert world.verbs().count("create") == (6 if ends == 0 else 4)
    assert ("given up after 3" in output) == (ends == 75)


def test_a_mistake_is_not_tried_again_whatever_the_other_hosts_died_of(world):
    world.codes((134, 2))
    assert tpu(world)[0] == 2
    assert world.verbs() == ["create", "scp", "host.sh install", "host.sh train", "delete"]


def test_a_slice_that_cannot_be_had_is_given_up(world):
    (world.folder / "granted").write_text("FAILED\n")
    code, output = tpu(world, "--retries", "1")
    assert code == 255, output
    assert world.verbs() == ["create", "delete", "create", "delete"]


def test_a_refused_request_is_no_reason_to_retry(world):
    (world.folder / "refuse").touch()
    assert tpu(world)[0] == 1
    assert world.verbs() == ["create"]


def test_ctrl_c_saves_a_checkpoint_before_the_slice_goes(world):
    (world.folder / "endless").touch()
    process = world.start("tpu_vm.sh", *shlex.split(OPTIONS["tpu_vm.sh"]), "--", *TRAIN)
    wait_for(world.folder / "started0")
    wait_for(world.folder / "started1")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 75
    assert output.count("saved") >= 2
    assert world.verbs()[-2:] == ["host.sh stop", "delete"]


def test_files_that_cannot_be_removed_keep_no_slice_from_being_deleted(world):
    """A host's last words may arrive while the folder that they are written to is removed."""
    (world.folder / "endless").touch()
    (world.folder / "bin" / "rm").write_text('#!/usr/bin/env bash\n[[ $2 != */tmp.* ]] || exit 1\nexec /bin/rm "$@"\n')
    (world.folder / "bin" / "rm").chmod(0o755)
    process = world.start("tpu_vm.sh", *shlex.split(OPTIONS["tpu_vm.sh"]), "--", *TRAIN)
    wait_for(world.folder / "started0")
    wait_for(world.folder / "started1")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 75, output
    assert world.verbs()[-1] == "delete"


def test_the_slice_of_somebody_elses_run_is_left_alone(world):
    (world.folder / "endless").touch()
    process = world.start("tpu_vm.sh", *shlex.split(OPTIONS["tpu_vm.sh"]), "--", *TRAIN)
    wait_for(world.folder / "started0")
    wait_for(world.folder / "started1")
    code, output = world.run("tpu_vm.sh", *shlex.split(OPTIONS["tpu_vm.sh"]), "--", *TRAIN, "--more")
    assert code == 2
    assert "another run is on this host: satjax train" in output
    assert "n is not deleted" in output
    assert process.poll() is None
    assert "delete" not in world.verbs()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 75
    assert world.verbs()[-2:] == ["host.sh stop", "delete"]


def test_ctrl_c_while_it_is_installed_again_saves_a_checkpoint_too(world):
    (world.folder / "endless").touch()
    options = (*shlex.split(OPTIONS["tpu_vm.sh"]), "--")
    process = world.start("tpu_vm.sh", *options, *TRAIN)
    wait_for(world.folder / "started0")
    wait_for(world.folder / "started1")
    process.kill()
    process.wait()
    process.stdout.close()
    copying = world.folder / "copying"
    (world.folder / "bin" / "git").write_text(
        f"#!/usr/bin/env bash\n[[ $3 != archive ]] || {{ touch {copying}; exec /bin/sleep 1; }}\n"
    )
    process = world.start("tpu_vm.sh", *options, *TRAIN)
    wait_for(copying)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 75, output
    assert world.verbs()[-2:] == ["host.sh stop", "delete"]
    assert not [host for host in (0, 1) if not (world.folder / f"started{host}").exists()]


def test_a_host_that_does_not_answer_is_given_time(world):
    waited = world.folder / "waited"
    (world.folder / "bin" / "sleep").write_text(f'#!/usr/bin/env bash\necho "$1" >>{waited}\nexec /bin/sleep 0.02\n')
    world.codes(("offline", 75), (0, 0))
    scp = world.folder / "bin" / "gcloud"
    scp.write_text(
        scp.read_text().replace('*" scp "*)', '*" scp "*) [[ -e $FAKE/up ]] || { touch "$FAKE/up"; exit 255; };')
    )
    code, output = tpu(world)
    assert code == 0, output
    assert waited.read_text().split().count("30") >= 1
    assert world.verbs()[:3] == ["create", "scp", "scp"]


def test_a_run_survives_its_launcher_and_is_found_again(world):
    (world.folder / "endless").touch()
    process = world.start("tpu_vm.sh", *shlex.split(OPTIONS["tpu_vm.sh"]), "--keep", "--", *TRAIN)
    wait_for(world.folder / "started0")
    wait_for(world.folder / "started1")
    process.kill()
    process.wait()
    process.stdout.close()
    (world.folder / "endless").unlink()  # the run that is there has begun
    again = world.start("tpu_vm.sh", *shlex.split(OPTIONS["tpu_vm.sh"]), "--keep", "--", *TRAIN)
    while world.verbs().count("host.sh train") < 2:
        assert again.poll() is None
        time.sleep(0.02)
    for host in (0, 1):
        subprocess.run(
            ["bash", LAUNCH / "host.sh", "stop"],
            env={**world.environment, "HOME": str(world.folder / f"host{host}")},
            check=True,
        )
    output, _ = again.communicate(timeout=30)
    assert output.count("a run is on this host") == 2
    assert again.returncode == 0, output  # it ended with 75, and the attempt after it with 0
    assert world.verbs().count("create") == 1
    assert "delete" not in world.verbs()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.01)


# --- GKE


def jobset_of(printed: str) -> dict:
    lines = printed.splitlines()
    assert lines[0] == "kubectl create --filename - <<'JOBSET'"
    assert lines[-1] == "JOBSET"
    return yaml.safe_load("\n".join(lines[1:-1]))


def check_schema(jobset: dict) -> None:
    """Unknown fields are dropped by the models, wrong types refused: what comes back must be what went in."""
    read = JobsetV1alpha2JobSet.from_dict(jobset)
    assert read is not None
    assert read.to_dict() == jobset


@pytest.mark.parametrize(
    "more", ["", "--spot --slices 2 --chips-per-host 8 --share gs://bucket --service-account writer"]
)
def test_the_jobset_fits_its_schema(more):
    jobset = jobset_of(dry_run("gke_jobset.sh", *TRAIN, options=f"{OPTIONS['gke_jobset.sh']} {more}"))
    check_schema(jobset)
    slices = jobset["spec"]["replicatedJobs"][0]
    pod = slices["template"]["spec"]["template"]["spec"]
    hosts = 4 if more else 8  # 32 chips
    assert slices["replicas"] == (2 if more else 1)
    assert slices["template"]["spec"]["completions"] == slices["template"]["spec"]["parallelism"] == hosts
    assert pod["containers"][0]["resources"]["limits"]["google.com/tpu"] * hosts == 32
    assert ("cloud.google.com/gke-spot" in pod["nodeSelector"]) == bool(more)
    assert [next(iter(set(volume) - {"name"})) for volume in pod["volumes"]] == ["csi" if more else "nfs"]
    assert pod["volumes"][0]["name"] == pod["containers"][0]["volumeMounts"][0]["name"]
    limits = {f"gke-gcsfuse/{what}-limit": "0" for what in ("cpu", "memory", "ephemeral-storage")}
    annotations = slices["template"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == ({"gke-gcsfuse/volumes": "true"} | limits if more else {})


def test_what_was_read_of_instructions_outlives_a_pod(world):
    jobset = jobset_of(dry_run("gke_jobset.sh", *TRAIN))
    [container] = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "SATJAX_FEATURES", "value": "/mnt/satjax/features"}]
    satjax = world.folder / "bin" / "satjax"
    satjax.write_text('#!/usr/bin/env bash\necho "$SATJAX_FEATURES" >"$FAKE/features"\n')
    assert world.run("gke_xpk.sh", *shlex.split(OPTIONS["gke_xpk.sh"]), "--", *TRAIN)[0] == 0
    assert world.said("features") == ["/mnt/satjax/features"]


def test_a_spot_node_is_not_said_to_wait_for_a_checkpoint(world):
    options = shlex.split(OPTIONS["gke_jobset.sh"])
    for more, warned in (
        (("--spot",), False),
        (("--save-seconds", "600"), False),
        (("--spot", "--save-seconds", "600"), True),
        (("--spot", "--save-seconds", "15"), False),
    ):
        code, output = world.run("gke_jobset.sh", *options, *more, "--dry-run", "--", *TRAIN)
        assert code == 0
        assert ("--save-seconds 600 is more than a preempted spot node gives" in output) == warned
        assert ("is more than a preempted spot node gives" in output) == warned


@pytest.mark.parametrize("script", ["gke_jobset.sh", "gke_xpk.sh"])
def test_slices_that_come_apart_wait_for_each_other(script):
    """Each start that is given up costs a restart, of which there are three."""

    def given(slices: int, *more: str) -> list[str]:
        train = ("--config", "c", "--workdir", WORKDIR)
        printed = dry_run(script, *train, *more, options=f"{OPTIONS[script]} --slices {slices}")
        if script == "gke_xpk.sh":
            words = shlex.split(printed)
            words = shlex.split(words[words.index("--command") + 1])
            return words[words.index("train") + 1 + len(train) :]
        job = jobset_of(printed)["spec"]["replicatedJobs"][0]["template"]["spec"]
        return job["template"]["spec"]["containers"][0]["args"][len(train) :]

    assert given(1) == []
    assert given(2) == ["--join-timeout", "3600"]
    assert given(2, "--join-timeout=60") == ["--join-timeout=60"]


def test_the_schema_refuses_a_field_that_is_misspelt():
    jobset = jobset_of(dry_run("gke_jobset.sh", *TRAIN))
    jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["restartPolicies"] = "Never"
    with pytest.raises(AssertionError):
        check_schema(jobset)


def test_the_jobset_restarts_what_was_saved_and_fails_on_mistakes():
    jobset = jobset_of(dry_run("gke_jobset.sh", *TRAIN, options=f"{OPTIONS['gke_jobset.sh']} --retries 7"))
    policy, job = jobset["spec"]["failurePolicy"], jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert policy["maxRestarts"] == 7
    [mistake] = policy["rules"]
    assert (mistake["action"], mistake["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["operator"] == "NotIn"
    assert {75, 135} <= set(rule["onExitCodes"]["values"])  # 135: weights on a share that went away
    assert not {0, 1, 2} & set(rule["onExitCodes"]["values"])
    pod = job["template"]["spec"]
    assert rule["onExitCodes"]["containerName"] == pod["containers"][0]["name"]
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")


def test_xpk_restarts_on_the_same_codes():
    codes = jobset_of(dry_run("gke_jobset.sh", *TRAIN))["spec"]["replicatedJobs"][0]["template"]["spec"][
        "podFailurePolicy"
    ]["rules"][0]
    words = shlex.split(dry_run("gke_xpk.sh", "--config", "c", "--workdir", WORKDIR))
    assert words[words.index("--restart-on-exit-codes") + 1] == ",".join(map(str, codes["onExitCodes"]["values"]))


# --- SLURM


def slurm(world: World, *more: str) -> tuple[int, str]:
    return world.run("slurm.sh", *shlex.split(OPTIONS["slurm.sh"]), *more, "--", *TRAIN)


def test_a_slurm_job_gives_every_task_the_arguments(world):
    assert slurm(world) == (0, "satjax-launch: exit 0\n" * 2)
    assert world.argv(0) == world.argv(1) == ["train", *TRAIN]
    [submitted] = world.said("sbatch")[:1]
    assert "--ntasks-per-node 4 --gpus-per-node 4" in submitted
    assert "--gpus-per-task" not in submitted  # JAX gives the process of local number i the GPU i


@pytest.mark.parametrize(
    ("more", "cores", "memory"),
    [
        ("", 8, None),
        ("--cpus-per-task 16 --mem 200G", 16, "200G"),
        ("--gpus-per-node 8", 8, "0"),
        ("--gpus-per-node 8 --mem 1T", 8, "1T"),
    ],
)
def test_a_slurm_task_has_its_cores_and_memory(more, cores, memory, world):
    assert slurm(world, *more.split())[0] == 0
    [submitted] = [line.split() for line in world.said("sbatch") if line.startswith("--job-name")]
    assert submitted[submitted.index("--cpus-per-task") + 1] == str(cores)
    assert ([submitted[submitted.index("--mem") + 1]] if "--mem" in submitted else []) == ([memory] if memory else [])
    assert f"--cpus-per-task={cores}" in world.said("srun")


@pytest.mark.parametrize(
    ("codes", "restarts", "code", "requeued"),
    [
        ((75, 75), 0, 75, True),
        ((137, 134), 2, 134, True),
        ((75, 75), 3, 75, False),
        ((137, 137), 3, 75, False),
        ((2, 134), 0, 2, False),
        ((0, 0), 0, 0, False),
    ],
)
def test_a_slurm_job_is_requeued_where_that_helps(codes, restarts, code, requeued, world):
    world.codes(codes)
    world.environment["SLURM_RESTART_COUNT"] = str(restarts)
    ended, output = slurm(world)
    assert ended in (code, codes[0]), output
    assert world.said("scontrol") == (["requeue 7"] if requeued else [])


@pytest.mark.parametrize(("step", "requeued"), [(100, 6), (0, 3)])
def test_a_slurm_job_counts_restarts_since_the_newest_checkpoint(step, requeued, world):
    workdir = world.folder / "run"
    (workdir / "checkpoints" / "100").mkdir(parents=True)
    (workdir / ".slurm").write_text("6 700 2\n")  # another job's
    world.codes(*[(75, 75)] * 6)
    satjax = world.folder / "bin" / "satjax"
    more = f"mkdir -p {workdir}/checkpoints/$((100 + {step} * (${{SLURM_RESTART_COUNT:-0}} + 1)))"
    satjax.write_text(satjax.read_text().replace("code=0", f"code=0\n{more}"))
    for restarts in range(6):
        world.environment["SLURM_RESTART_COUNT"] = str(restarts)
        options = shlex.split(OPTIONS["slurm.sh"])
        code, output = world.run("slurm.sh", *options, "--", "--config", "c", "--workdir", str(workdir))
        assert code == 75
        assert ("given up after 3" in output) == (restarts >= requeued)
    assert len(world.said("scontrol")) == requeued


@pytest.mark.parametrize(("refusals", "asked"), [(1, 2), (99, 5)])
def test_a_controller_that_is_busy_is_asked_again_for_the_way_back(refusals, asked, world):
    scontrol = world.folder / "bin" / "scontrol"
    scontrol.write_text(f'{scontrol.read_text()}[[ $(wc -l <"$FAKE/scontrol") -gt {refusals} ]]\n')
    world.codes((137, 137))
    code, output = slurm(world)
    assert code == (137 if refusals == 1 else 75), output
    assert world.said("scontrol") == ["requeue 7"] * asked
    assert ("run the same command again" in output) == (refusals == 99)


@pytest.mark.parametrize("busy", [False, True])
def test_a_slurm_job_saves_before_its_time_is_over(busy, world):
    (world.folder / "endless").touch()
    if busy:
        (world.folder / "busy").touch()
    process = world.start("slurm.sh", *shlex.split(OPTIONS["slurm.sh"]), "--", *TRAIN)
    wait_for(world.folder / "started0")
    wait_for(world.folder / "started1")
    os.kill(int((world.folder / "job").read_text()), signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 75, output
    assert output.count("satjax-launch: exit 75") == 2
    assert world.said("scancel") == ["--signal TERM 7"] * (1 + busy)
    assert world.said("scontrol") == ["requeue 7"]


# --- one GPU box


def test_one_gpu_trains_from_parts_that_were_carried_there(world, tmp_path):
    home = tmp_path / "home"
    stage = {**ABILITY_ALONE["stages"][0], "steps": 4}
    changes = {**ABILITY_ALONE, "stages": (stage,), "calibration_instructions": 0}
    config = write_tiny_config(tmp_path / "config.py", home, **changes)
    (tmp_path / "filler").write_bytes(os.urandom(1_200_000))
    world.environment |= {"SATJAX_CACHE": str(home), "JAX_PLATFORMS": "cpu"}
    world.environment |= {key: value for key, value in os.environ.items() if key.startswith(("JAX_", "PYTHONPATH"))}
    code, output = world.run(
        "one_gpu.sh", "pack", "--out", "parts", "--mib", "1", "--", str(home / "outcomes"), "filler"
    )
    assert code == 0, output
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["1", "2"]
    for part in (tmp_path / "parts").iterdir():
        assert sum(file.stat().st_size for file in part.iterdir()) <= 2**20
    home.rename(tmp_path / "gone")

    flags = (
        "data.outcomes=box/outcomes",
        "router.llm.weights=dir:box/cache/llm",
        "router.encoder.weights=dir:box/cache/encoder",
    )
    train = ("--", "--config", str(config), *(f"--config.{flag}" for flag in flags), "--workdir", "box/run")
    code, output = world.run("one_gpu.sh", "train", "--inputs", "parts/1", *train)
    assert (code, "not all parts have come" in output) == (2, True)
    (world.folder / "bin" / "satjax").write_text(
        f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c 'import sys; from satjax.cli import main; sys.exit(main())' \"$@\"\n"
    )
    code, output = world.run("one_gpu.sh", "train", "--inputs", "parts/2", *train)
    assert code == 0, output
    assert (tmp_path / "box/run/router/config.json").is_file()
    assert read_metrics(tmp_path / "box/run/metrics.jsonl")[-1]["step"] == 4
    events = [json.loads(line) for line in (tmp_path / "box/progress.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["unpack", "unpack", "train_start", "train_end"]
    assert (events[-1]["exit"], events[-1]["steps"]) == (0, 4)


def test_a_host_on_which_nothing_starts_says_so(world):
    for name, body in (("setsid", "exit 1"), ("sleep", ":")):
        (world.folder / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (world.folder / "bin" / name).chmod(0o755)
    assert world.run("host.sh", "install", "h:/x")[0] == 0
    code, output = world.run("host.sh", "train", *TRAIN)
    assert code == 2
    assert "satjax did not start on this host" in output
    assert "satjax-launch: exit 2" in output


@pytest.fixture
def box(world: World) -> World:
    """A box on which all parts have come."""
    (world.folder / "wheels").mkdir()
    (world.folder / "wheels" / "satjax.whl").touch()
    assert world.run("one_gpu.sh", "pack", "--out", "parts", "--", "wheels") == (0, "launch: 1 folders in parts\n")
    assert world.run("one_gpu.sh", "unpack", "--inputs", "parts/1") == (0, "launch: 1 of 1 parts are here\n")
    return world


def one_gpu(box: World, *more: str) -> int:
    return box.run("one_gpu.sh", "train", *more, "--", *TRAIN)[0]


def test_one_gpu_installs_the_wheels_once_and_without_network(box):
    assert (one_gpu(box), one_gpu(box)) == (0, 0)
    site = box.folder / "box" / "site"
    assert box.said("python3") == [
        f"-m pip install --quiet --no-index --no-deps --target {site}.coming box/wheels/satjax.whl"
    ]
    assert (site / "bin" / "satjax").exists()
    assert box.argv() == ["train", *TRAIN]


def test_one_gpu_runs_what_the_newest_inputs_hold(box):
    assert one_gpu(box) == 0
    (box.folder / "wheels" / "satjax.whl").rename(box.folder / "wheels" / "satjax-2.whl")
    features, weights = box.folder / "box" / "cache" / "features", box.folder / ".cache" / "satjax" / "llm"
    for path in (features, weights, box.folder / "box" / "cache" / "llm", box.folder / "box" / "run"):
        path.mkdir(parents=True)
    (weights / "model.gguf").touch()
    (box.folder / "box" / "cache" / "llm" / "model-of-before.gguf").touch()
    assert box.run("one_gpu.sh", "pack", "--out", "again", "--", "wheels")[0] == 0
    code, output = box.run("one_gpu.sh", "train", "--inputs", "again/1", "--", *TRAIN)
    assert code == 0, output
    first, second = box.said("python3")
    assert second == first.replace("satjax.whl", "satjax-2.whl")
    assert features.is_dir()
    assert (box.folder / "box" / "run").is_dir()
    assert [path.name for path in (box.folder / "box" / "cache" / "llm").iterdir()] == ["model.gguf"]
    (before,) = (box.folder / "box").glob("before-*")
    assert f"what was there of other inputs is in box/{before.name}" in output
    assert [path.name for path in before.rglob("*")] == ["wheels", "satjax.whl"]


def test_one_gpu_ends_in_time_with_what_it_saved(box):
    (box.folder / "endless").touch()
    started = time.monotonic()
    assert one_gpu(box, "--seconds", "1") == 75
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("code", "ends"), [(2, 2), (1, 1), (137, 75), (75, 75)])
def test_one_gpu_says_whether_to_run_it_again(code, ends, box):
    box.codes((code, code))
    assert one_gpu(box) == ends


def test_one_gpu_knows_how_a_command_ended_that_was_faster_than_it(box):
    """Bash, kept waiting before it looks whether the command is still there."""
    (box.folder / "slow").write_text(
        "set -o functrace; trap '[[ $BASH_COMMAND != \"kill -0\"* ]] || sleep 0.5' DEBUG\n"
    )
    box.environment["BASH_ENV"] = str(box.folder / "slow")
    (box.folder / "bin" / "timeout").write_text("#!/bin/sh\nexit 2\n")
    (box.folder / "bin" / "timeout").chmod(0o755)
    assert one_gpu(box) == 2


def test_one_gpu_measures_each_benchmark_once(world):
    (world.folder / "benchmarks").mkdir()
    script = (
        "import json, sys, time\nout = sys.argv[sys.argv.index('--out') + 1]\njson.dump(sys.argv[1:], open(out, 'w'))\n"
    )
    (world.folder / "benchmarks" / "rank.py").write_text(script)
    (world.folder / "benchmarks" / "scale.py").write_text(script + "time.sleep(60)\n")
    (world.folder / "bin" / "satjax").write_text("#!/bin/sh\n")
    (world.folder / "bin" / "python3").unlink()
    (world.folder / "bin" / "python3").symlink_to(sys.executable)
    results = world.folder / "box" / "results"
    assert world.run("one_gpu.sh", "pack", "--out", "parts", "--", "benchmarks")[0] == 0
    bench = (
        "one_gpu.sh",
        "bench",
        "--inputs",
        "parts/1",
        "--only",
        "rank,scale",
        "--seconds",
        "2",
        "--",
        "--runs",
        "3",
    )
    assert world.run(*bench)[0] == 75
    assert sorted(path.name for path in results.iterdir()) == ["rank.json", "scale.partial.json"]
    assert json.loads((results / "rank.json").read_text())[2:] == ["--runs", "3"]
    (world.folder / "box" / "benchmarks" / "scale.py").write_text(script)
    (world.folder / "box" / "benchmarks" / "rank.py").write_text("raise SystemExit(1)")
    assert world.run(*bench)[0] == 0
    assert sorted(path.name for path in results.iterdir()) == ["rank.json", "scale.json"]
    (results / "rank.json").unlink()
    assert world.run(*bench)[0] == 1
    (world.folder / "benchmarks" / "rank.py").write_text(script + "# another\n")
    (world.folder / "benchmarks" / "scale.py").unlink()
    assert world.run("one_gpu.sh", "pack", "--out", "again", "--", "benchmarks")[0] == 0
    assert world.run("one_gpu.sh", "bench", "--inputs", "again/1", "--only", "rank", "--", "--runs", "4")[0] == 0
    assert [path.name for path in results.iterdir()] == ["rank.json"]
    assert json.loads((results / "rank.json").read_text())[2:] == ["--runs", "4"]
    assert not (world.folder / "box" / "benchmarks" / "scale.py").exists()
    (before,) = (world.folder / "box").glob("before-*")
    assert [path.name for path in (before / "results").iterdir()] == ["scale.json"]


def test_a_damaged_part_is_named(box):
    part = box.folder / "parts" / "1" / "part-001"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    code, output = box.run("one_gpu.sh", "unpack", "--inputs", "parts/1", "--box", "other")
    assert code == 2
    assert "a part is damaged" in output
    assert not (box.folder / "other" / "wheels").exists()


# --- the image


def test_the_dockerfile_runs_as_a_user_and_copies_what_is_there():
    lines = (LAUNCH / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert steps[0] == ["FROM", "python:3.12-slim"]
    arguments = dict(text.split("=", 1) for verb, text in steps if verb == "ARG")
    assert arguments["RUN_AS"] != "0"
    assert [text for verb, text in steps if verb == "USER"][-1] == "$RUN_AS"
    for verb, text in steps:
        if verb == "COPY":
            *sources, _ = text.split()
            assert all((ROOT / source).exists() for source in sources), text
    assert json.loads(next(text for verb, text in steps if verb == "ENTRYPOINT")) == ["satjax"]
    from satjax.weights.packages import PACKAGES

    # A gigabyte that only the large router needs comes when it is asked for.
    assert {f"package:{name}" for name, spec in PACKAGES.items() if not spec.pieces} == set(
        arguments["WEIGHTS"].strip('"').split()
    )
