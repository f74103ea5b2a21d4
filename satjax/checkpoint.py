"""Training checkpoints with Orbax: asynchronous, atomic, a few kept, restored onto whatever mesh is there.

Every process of a run saves the shards that it holds, into a directory that all of them see, and the first one makes and renames directories.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from satjax.errors import SatjaxError, first_line
from satjax.files import check_space, explain_full_disk
from satjax.processes.agreement import on_any
from satjax.processes.faults import is_fault

OVERHEAD = 2**20
"""Bytes on disk beyond the arrays themselves, at most: names, shapes, shardings."""

UNREADABLE = (ValueError, KeyError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""What Orbax raises where files are missing or cut short; where it is an array's own, as the cause of a bare Exception."""

CHECKPOINTS = "checkpoints"
"""Their directory in the workdir of a run."""


class Damaged(SatjaxError):
    """A checkpoint that some process of the run cannot read; all of them raise it."""


class Checkpoints:
    """The checkpoints of one training run: `state` (arrays) and `run` (what the run is, as JSON)."""

    def __init__(self, directory: Path, keep: int):
        self.directory = directory.absolute()
        with explain_full_disk(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            self.manager = ocp.CheckpointManager(
                self.directory,
                item_names=("state", "run"),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep,
                    cleanup_tmp_directories=True,
                    enable_async_checkpointing=True,
                    single_host_load_and_broadcast=jax.process_count() > 1,
                ),
            )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes, unless an exception leaves other processes, who may not have it, with nobody to meet."""
        if error is None or jax.process_count() == 1:
            self.close()

    def latest_step(self) -> int | None:
        """Steps done at the newest complete checkpoint, if there is one."""
        return self.manager.latest_step()

    def steps(self) -> list[int]:
        """Steps done at every complete checkpoint, the newest first."""
        return sorted(self.manager.all_steps(), reverse=True)

    def save(self, step: int, state: Any, run: dict[str, Any]) -> None:
        """Starts saving in the background; a kill from here on leaves the previous checkpoint as the latest."""
        if step == self.manager.latest_step():
            return
        with explain_full_disk(self.directory):
            self.manager.wait_until_finished()
            check_space(self.directory, _size(state))
            self.manager.save(
                step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), run=ocp.args.JsonSave(run))
            )

    def run_of(self, step: int) -> dict[str, Any]:
        """What `save` was given as `run`; raises Damaged where that cannot be read."""
        handler = ocp.JsonCheckpointHandler(multiprocessing_options=_alone("run"))
        return self._read(step, "run", handler, ocp.args.JsonRestore(), "is damaged")

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state at a step, laid out as `abstract_state` (shapes, dtypes and shardings of the present mesh) says.

        Raises Damaged where it cannot be read, or is that of another model.
        """
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=_alone("state"))
        wanted = ocp.args.StandardRestore(abstract_state)
        return self._read(step, "state", handler, wanted, "is damaged, or cannot be read with this config")

    def _read(
        self, step: int, item: str, handler: ocp.CheckpointHandler, wanted: ocp.args.CheckpointArgs, what: str
    ) -> Any:
        """One item of a checkpoint, read by each process for itself: Orbax's manager would let those who can read it wait for the others."""
        path, read, failed = self.directory / str(step), None, None
        try:
            with ocp.Checkpointer(handler, multiprocessing_options=_alone(item)) as checkpointer:
                read = checkpointer.restore(path / item, args=wanted)
        except Exception as error:
            if is_fault(error) or not isinstance(_cause(error), UNREADABLE):
                raise
            failed = error
        if on_any(failed is not None):
            why = "on another host" if failed is None else first_line(_cause(failed))
            raise Damaged(f"checkpoint {path} {what} ({why})") from failed
        return read

    def remove(self, step: int) -> None:
        """Removes a checkpoint; all processes call it."""
        self.manager.delete(step)

    def wait(self) -> None:
        """Blocks until the save under way is on disk."""
        with explain_full_disk(self.directory):
            self.manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then lets go of the threads."""
        self.wait()
        self.manager.close()


def is_saved(directory: Path) -> bool:
    """Whether there is a complete checkpoint in a directory of them, which need not be there."""
    return directory.is_dir() and any(entry.name.isdecimal() for entry in directory.iterdir())


def _cause(error: Exception) -> BaseException:
    return error.__cause__ if type(error) is Exception and error.__cause__ else error


def _alone(what: str) -> ocp.options.MultiprocessingOptions:
    """For something that a process does without the others."""
    number = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=number, active_processes={number}, barrier_sync_key_prefix=what
    )


def save_params(directory: Path, params: Mapping[str, np.ndarray | jax.Array]) -> None:
    """Writes parameters by path as one Orbax tree, by this process alone; the directory must not exist."""
    with explain_full_disk(directory):
        check_space(directory.parent, _size(params))
        with ocp.StandardCheckpointer(multiprocessing_options=_alone("params")) as checkpointer:
            # In a run of several processes Orbax refuses JAX arrays that one of them holds.
            checkpointer.save(directory.absolute(), jax.device_get(dict(params)))


def load_arrays(directory: Path, shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, np.ndarray]:
    """Reads what `save_params` wrote, or some of it, into the memory of the host: parameters by path, with their shapes and dtypes."""
    if not shapes:
        return {}
    like = {path: np.broadcast_to(np.zeros((), jnp.dtype(dtype)), shape) for path, (shape, dtype) in shapes.items()}
    arrays = {path: ocp.RestoreArgs(restore_type=np.ndarray) for path in like}
    some = ocp.args.PyTreeRestore(item=like, restore_args=arrays, partial_restore=True)
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            return checkpointer.restore(directory.absolute(), args=some)
    except Exception as error:
        raise SatjaxError(
            f"{directory} cannot be read as this router's parameters ({first_line(error)}); copy the router again"
        ) from error


def _size(arrays: Any) -> int:
    return OVERHEAD + sum(array.nbytes for array in jax.tree.leaves(arrays))
