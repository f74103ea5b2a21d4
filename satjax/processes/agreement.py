"""What the processes of a run decide as one. Each function here is called by all of them, in the same order."""

import hashlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from satjax.errors import SatjaxError
from satjax.sharding import place, replicated

Stop = Callable[[], bool]
"""Asked after every step: whether to save and stop now."""


def is_first() -> bool:
    """Whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def check_same(what: str, value: bytes) -> None:
    """Raises SatjaxError, on every process, where one of them has another value."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(value).digest(), np.uint8)
    differs = (multihost_utils.process_allgather(digest) != from_first(digest)).any(axis=1)
    if differs.any():
        others = ", ".join(map(str, np.flatnonzero(differs)))
        raise SatjaxError(f"processes {others} have another {what} than process 0; give all of them the same")


def from_first(value: np.ndarray) -> np.ndarray:
    """The first process's array; the others give one of the same shape and dtype."""
    return value if jax.process_count() == 1 else np.asarray(multihost_utils.broadcast_one_to_all(value))


def on_any(found: bool) -> bool:
    """Whether any process found it, the same on all."""
    return found if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(found)).any())


def wait_for_all(name: str) -> None:
    """Returns when every process has come to the place of that name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


class StopVote:
    """Whether any process was asked to stop, and the same answer in the same step on all of them.

    `received` holds the signals that this process got. An answer is that of the vote before, so that no step waits for it.
    """

    def __init__(self, received: list[int], mesh: Mesh):
        self.received, self.alone = received, jax.process_count() == 1
        self.sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self.any = jax.jit(jnp.max, out_shardings=replicated(mesh))
        self.size = mesh.size
        self.last: jax.Array | None = None

    def __call__(self) -> bool:
        """Casts this process's vote; all processes call it equally often."""
        if self.alone:
            return bool(self.received)
        votes = np.full(self.size, bool(self.received), np.int32)
        cast = self.any(place(votes, self.sharding))
        before, self.last = (cast if self.last is None else self.last), cast
        return bool(before)
