"""`satjax train` as several real processes on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.xla import QUICK_CODE

SLOWLY = """
import time
import satjax.training.stage_loop as module
place_batch = module.place_batch
def slowly(*arguments):
    time.sleep(0.1)
    return place_batch(*arguments)
module.place_batch = slowly
"""
"""A prelude: steps long enough for a signal to come between them."""


def die_in_step(number: int) -> str:
    """A prelude: SIGKILL in the midst of the process's n-th step, which the other processes have begun."""
    return f"""
import os, signal
import satjax.training.stage_loop as module
place_batch, calls = module.place_batch, []
def dying(*arguments):
    calls.append(0)
    if len(calls) == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return place_batch(*arguments)
module.place_batch = dying
"""


def die_in_save(step: int) -> str:
    """A prelude: SIGKILL in the midst of the save of a step, while its directory has not its name yet."""
    return f"""
import os, signal, sys
def hook(event, arguments):
    if event == "open" and "/checkpoints/{step}.orbax-checkpoint-tmp/state" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def start(
    config: Path,
    workdir: Path,
    num_processes: int = 1,
    preludes: Mapping[int, str] | None = None,
    ids: Sequence[int] | None = None,
    arguments: Sequence[str] = (),
) -> list[subprocess.Popen]:
    """`launch` of `satjax train`."""
    train = ["train", "--config", str(config), "--workdir", str(workdir), *arguments]
    return launch(train, config.parent / "cache", num_processes, preludes, ids)


def launch(
    arguments: Sequence[str],
    cache: Path,
    num_processes: int = 1,
    preludes: Mapping[int, str] | None = None,
    ids: Sequence[int] | None = None,
) -> list[subprocess.Popen]:
    """Starts the processes of a verb (those of `ids` only, if given); `preludes` is code that a process runs before anything else."""
    port = free_port()
    processes = []
    for process_id in range(num_processes) if ids is None else ids:
        code = (preludes or {}).get(
            process_id, ""
        ) + "\nimport sys\nfrom satjax.cli import main\nsys.exit(main(sys.argv[1:]))"
        command = [sys.executable, "-c", code, *arguments]
        if num_processes > 1:
            command += ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(num_processes)]
            command += ["--process-id", str(process_id)]
        environment = {**os.environ, "XLA_FLAGS": QUICK_CODE, "JAX_PLATFORMS": "cpu", "SATJAX_CACHE": str(cache)}
        environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # what a tiny model gains by them is less than they cost
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        )
    return processes


def finish(processes: Sequence[subprocess.Popen], seconds: float = 400) -> list[tuple[int, str]]:
    """Waits for all of them; exit code and stderr of each. Leaves none behind."""
    deadline = time.monotonic() + seconds
    try:
        return [
            (process.returncode, error)
            for process in processes
            for _, error in [process.communicate(timeout=max(1.0, deadline - time.monotonic()))]
        ]
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
