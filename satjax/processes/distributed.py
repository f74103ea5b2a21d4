"""Several processes as one run: who takes part, and how all of them begin and end together.

Everything of a run is the same on every process but its `process_id`; what they agree on while it lasts is in `agreement`.
"""

import contextlib
import os
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from satjax.errors import BUG, SatjaxError, TryAgain
from satjax.processes.roll_call import Roster, answer

JOIN_TIMEOUT = 300.0
"""Seconds for all processes to come."""
SERVICE_TIMEOUT = 120
"""Seconds for JAX's own service to start when all have come."""
HOSTS = "TPU_WORKER_HOSTNAMES"
"""The variable that names a slice's hosts, with commas."""
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Variables in which Open MPI, and MPICH and its like, say how many processes they started."""


@dataclass(frozen=True)
class Cluster:
    """The processes of a run; `local_device_ids` are this one's where several share a host, None = all that it sees."""

    roster: Roster
    local_device_ids: tuple[int, ...] | None = None


def find_cluster(
    coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: float = JOIN_TIMEOUT
) -> Cluster | None:
    """The cluster that the flags name or, where they name none, the one that JAX recognises; None for a run of one process.

    Raises SatjaxError for flags that do not go together.
    """
    if (coordinator, num_processes, process_id) == (None, None, None):
        return _recognised(timeout)
    if num_processes == 1 and process_id in (None, 0):
        return None
    if coordinator is None or num_processes is None or process_id is None:
        flags = {"--coordinator": coordinator, "--num-processes": num_processes, "--process-id": process_id}
        absent = next(name for name, value in flags.items() if value is None)
        raise SatjaxError(
            f"{absent} is missing: give --coordinator HOST:PORT, --num-processes N and --process-id I together, none of them "
            "where the cluster is recognised, or --num-processes 1 for this host alone"
        )
    host, _, port = coordinator.rpartition(":")
    if not _is_host(host) or not port.isdecimal() or not 0 < int(port[:6]) < 2**16:
        raise SatjaxError(f"--coordinator {coordinator}: give host and port of process 0, such as 10.0.0.2:8476")
    if num_processes < 1:
        raise SatjaxError(f"--num-processes {num_processes} must be at least 1")
    if not 0 <= process_id < num_processes:
        raise SatjaxError(f"--process-id {process_id}: {num_processes} processes are 0 to {num_processes - 1}")
    return Cluster(Roster(coordinator, num_processes, process_id))


def _is_host(name: str) -> bool:
    """Whether a name server could be asked for it."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def _recognised(timeout: float) -> Cluster | None:
    # Private, but without it JAX tells neither who takes part nor that nobody does: it connects at once, and aborts where a host is missing.
    from jax._src.clusters import ClusterEnv

    try:
        found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, int(timeout))
    except Exception as error:
        # A name or metadata server that is not up yet looks no different from a cluster that JAX cannot read.
        raise TryAgain(
            f"this cluster cannot be read ({_line(str(error))[:300]}): give --coordinator, --num-processes and --process-id, "
            "or --num-processes 1 for this host alone"
        ) from error
    coordinator, num_processes, process_id, local_devices = found
    if coordinator is None or num_processes is None or process_id is None:
        _check_alone()
        return None
    if num_processes == 1:
        return None
    names = os.environ.get(HOSTS, "").split(",")
    hosts = tuple(names) if len(names) == num_processes else ()
    return Cluster(Roster(coordinator, num_processes, process_id, hosts), tuple(local_devices or ()) or None)


def _check_alone() -> None:
    """Raises SatjaxError where this is one of several processes that would each train alone, into one workdir."""
    sizes = {name: os.environ.get(name, "") for name in SIZES}
    sizes[HOSTS] = str(len(os.environ.get(HOSTS, "").split(",")))
    for name, size in sizes.items():
        if size.isdecimal() and int(size) > 1:
            raise SatjaxError(
                f"{name} says that this is one of {size} processes, and jax does not recognise what started them: give --coordinator HOST:PORT, "
                "--num-processes N and --process-id I, or --num-processes 1 for this host alone"
            )


@contextlib.contextmanager
def together(cluster: Cluster | None, timeout: float) -> Iterator[None]:
    """Joins the run; its body ends on all processes, or on none.

    Raises TryAgain where processes do not come, naming them. When a process is lost in the body, or leaves it with an exception, every
    process ends at once, with one line of the reason: no collective is waited for that cannot come about.
    """
    if cluster is None:
        yield
        return
    import jax

    roster = cluster.roster
    roll_call = answer(roster, timeout)
    roll_call.watch()
    # Its handler would keep SIGTERM from ours; and a run that goes on after step 500 never reaches the step that it agrees on
    # where the signal came before the first one.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            roster.coordinator,
            roster.num_processes,
            roster.process_id,
            local_device_ids=cluster.local_device_ids,
            cluster_detection_method="deactivate",
            initialization_timeout=SERVICE_TIMEOUT,
        )
        yield
    except SatjaxError as error:
        line = _line(str(error))
        # Not before another process that was lost is given as the reason.
        roll_call.fail(error.exit_code, line, f"{error.details}satjax: {line}" if error.details else "")
    except KeyboardInterrupt:
        roll_call.fail(130, "interrupted")
    except BaseException as error:
        roll_call.fail(BUG, _line(f"{type(error).__name__}: {error}")[:300], traceback.format_exc())
    roll_call.leave()
    jax.distributed.shutdown()


def _line(text: str) -> str:
    return " ".join(text.split())
