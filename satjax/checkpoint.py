"""Training checkpoints with Orbax: asynchronous, atomic, a few kept, restored onto whatever mesh is there.

Every process of a run saves the shards that it holds, into a directory that all of them see, and the first one makes and renames directories.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from satjax.errors import SatjaxError
from satjax.files import check_space, explain_full_disk

OVERHEAD = 2**20
"""Bytes on disk beyond the arrays themselves, at most: names, shapes, shardings."""

CHECKPOINTS = "checkpoints"
"""Their directory in the workdir of a run."""


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
        """What `save` was given as `run`; raises SatjaxError where it is damaged."""
        with self._explained(step, "is damaged"):
            return self.manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state at a step, laid out as `abstract_state` (shapes, dtypes and shardings of the present mesh) says.

        Raises SatjaxError where it is damaged, or that of another model.
        """
        restore = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
        with self._explained(step, "is damaged, or cannot be read with this config"):
            return self.manager.restore(step, args=restore)["state"]

    @contextlib.contextmanager
    def _explained(self, step: int, what: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, KeyError, FileNotFoundError) as error:
            path = self.directory / str(step)
            older = max((other for other in self.manager.all_steps() if other < step), default=None)
            raise SatjaxError(
                f"checkpoint {path} {what} ({(str(error).splitlines() or [''])[0][:160]}); "
                + (f"remove {path} to go on from step {older}, " if older is not None else "remove it to start over, ")
                + "or use another --workdir"
            ) from error

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


def save_params(directory: Path, params: Mapping[str, np.ndarray | jax.Array]) -> None:
    """Writes parameters by path as one Orbax tree, by this process alone; the directory must not exist."""
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="params"
    )
    with explain_full_disk(directory):
        check_space(directory.parent, _size(params))
        with ocp.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
            # In a run of several processes Orbax refuses JAX arrays that one of them holds.
            checkpointer.save(directory.absolute(), jax.device_get(dict(params)))


def load_arrays(directory: Path, shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, np.ndarray]:
    """Reads what `save_params` wrote, or some of it, into the memory of the host: parameters by path, with their shapes and dtypes."""
    if not shapes:
        return {}
    like = {path: np.broadcast_to(np.zeros((), jnp.dtype(dtype)), shape) for path, (shape, dtype) in shapes.items()}
    arrays = {path: ocp.RestoreArgs(restore_type=np.ndarray) for path in like}
    some = ocp.args.PyTreeRestore(item=like, restore_args=arrays, partial_restore=True)
    with _explained(directory), ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(directory.absolute(), args=some)


@contextlib.contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise SatjaxError(
            f"{directory} cannot be read as this router's parameters ({str(error).splitlines()[0][:160]}); copy the router again"
        ) from error


def _size(arrays: Any) -> int:
    return OVERHEAD + sum(array.nbytes for array in jax.tree.leaves(arrays))
