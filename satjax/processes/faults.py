"""Faults of devices, network and storage: nobody's mistake, and often gone when the same command runs again, here or on other hosts."""

import contextlib
import errno
import re
import traceback
from collections.abc import Callable, Iterator

import jax

from satjax.errors import SatjaxError, TryAgain

OF_THE_RUNTIME = re.compile(
    r"(ABORTED|CANCELLED|DATA_LOSS|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN)\b|.*(halted unexpectedly|Gloo|NCCL)"
)
"""Begins what XLA says of a device that stopped or a peer that does not answer."""
OF_THE_PROGRAM = re.compile(
    r"RESOURCE_EXHAUSTED|INVALID_ARGUMENT|UNIMPLEMENTED|out.of.memory|compil|callback", re.IGNORECASE
)
"""In such a line: it is the program, which ends so every time."""
OF_STORAGE = frozenset(
    getattr(errno, name)
    for name in ("EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "ESHUTDOWN", "EREMOTEIO", "ECONNRESET", "ECONNABORTED")
    if hasattr(errno, name)
)
"""What a disk or a share answers that is failing or gone."""
OS_ERROR = re.compile(r"os_error_code='(\d+)'")
"""In what TensorStore says, which raises ValueError for everything."""


def is_fault(error: BaseException) -> bool:
    """Whether it is one of device, network or storage, by what it says; so may some bugs, which come again however often they are tried."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        line = (str(error).splitlines() or [""])[0]
        return OF_THE_RUNTIME.match(line) is not None and OF_THE_PROGRAM.search(line) is None
    if isinstance(error, OSError):
        return error.errno in OF_STORAGE
    said = OS_ERROR.search(str(error))
    # Orbax raises errors of its own from TensorStore's.
    return int(said[1]) in OF_STORAGE if said else error.__cause__ is not None and is_fault(error.__cause__)


@contextlib.contextmanager
def tried_again(has_worked: Callable[[], bool]) -> Iterator[None]:
    """Raises TryAgain for a fault in what `has_worked` before, and so may well work again; where it has not, any error is as good as a bug's.

    Its traceback is in the details, for those that come at every try.
    """
    try:
        yield
    except SatjaxError:
        raise
    except Exception as error:
        if not is_fault(error) or not has_worked():
            raise
        line = " ".join(str(error).split())[:300]
        again = TryAgain(
            f"a device, the network or the storage failed ({type(error).__name__}: {line}); run the same command again: "
            "it goes on from the last checkpoint; where it ends so every time, look into the log above"
        )
        again.details = traceback.format_exc()
        raise again from error
