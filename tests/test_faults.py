"""Which errors the same command may well do without."""

import errno

import jax
import pytest

from satjax.errors import SatjaxError, TryAgain
from satjax.processes.faults import is_fault, tried_again


def of_xla(text: str) -> Exception:
    return jax.errors.JaxRuntimeError(text)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


FAULTS = [
    of_xla("INTERNAL: Core halted unexpectedly: INTERNAL: Accelerator device halted prematurely\nHLO: compiled step"),
    of_xla("UNAVAILABLE: Socket closed"),
    of_xla("FAILED_PRECONDITION: The program continuator has halted unexpectedly."),
    of_xla("FAILED_PRECONDITION: Buffer Definition Event: Gloo all-reduce failed: Connection closed by peer"),
    of_xla("INTERNAL: NCCL operation ncclGroupEnd() failed: unhandled system error"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.ENOTCONN, "Transport endpoint is not connected"),
    ValueError("UNKNOWN: Error writing \"d/1\": Input/output error [os_error_code='5']"),
    caused(Exception("Encountered error while reading array"), ValueError("Input/output error [os_error_code='5']")),
]
OTHERS = [
    of_xla("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes"),
    of_xla("INTERNAL: Failed to allocate 7 bytes: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    of_xla("INVALID_ARGUMENT: Executable expected shape f32[2]"),
    of_xla("INTERNAL: Mosaic failed to compile TPU kernel: unsupported shape"),
    of_xla("INTERNAL: CpuCallback error calling callback: Traceback (most recent call last)"),
    of_xla("FAILED_PRECONDITION: something else"),
    RuntimeError("Array has been deleted."),
    OSError(errno.ENOSPC, "No space left on device"),
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    ValueError("NOT_FOUND: Error opening \"zarr\" driver [os_error_code='2']"),
    KeyError("a bug"),
]


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: str(error)[:40])
def test_a_fault_is_tried_again_where_it_worked_before(error):
    with pytest.raises(TryAgain, match=r"^a device, the network or the storage") as raised, tried_again(lambda: True):
        raise error
    assert raised.value.exit_code == 75
    assert "\n" not in str(raised.value)
    assert "Traceback" in raised.value.details, "it may be a bug after all"
    with pytest.raises(type(error)), tried_again(lambda: False):
        raise error


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: str(error)[:40])
def test_a_bug_stays_one(error):
    assert not is_fault(error)
    with pytest.raises(type(error)), tried_again(lambda: True):
        raise error


def test_what_is_for_people_to_mend_stays_theirs():
    with pytest.raises(SatjaxError) as raised, tried_again(lambda: True):
        raise SatjaxError("the file cannot be read") from OSError(errno.EIO, "Input/output error")
    assert raised.value.exit_code == 2
