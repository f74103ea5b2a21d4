"""What does not fit a device's memory, and what there is to do about it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from satjax.config import BatchConfig
from satjax.errors import SatjaxError

SMALLER_LLM = "take a smaller LLM, set router.param_dtype to 'bfloat16', or take more devices with mesh.fsdp"
OTHER_KERNEL = "set router.attention to 'xla', whose kernels take less of a TPU's vector memory"


def smaller_step(batch: BatchConfig) -> str:
    """How a step with such batches takes less. Passes are whole groups: where each is one, there can be no more of them."""
    passes = (
        "raise config batch.accumulate, which has to divide batch.groups, or "
        if batch.accumulate < batch.groups
        else ""
    )
    return f"{passes}lower batch.instructions or batch.candidates, set router.llm.remat to 'full', or take more devices with mesh.fsdp"


def lacks_vector_memory(message: str) -> bool:
    """Whether it is that of a TPU's cores (vmem) that an error speaks of, which holds what a kernel works on: not parameters, nor activations."""
    return re.search(r"memory space vmem|vmem limit|vmem capacity", message) is not None


@contextmanager
def explain_full_memory(what: str, advice: str) -> Iterator[None]:
    """What does not fit its device is the config's to mend, as `advice` says, or by another kernel."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        advice = OTHER_KERNEL if lacks_vector_memory(str(error)) else advice
        raise SatjaxError(f"{what} does not fit in memory ({str(error).splitlines()[0]}): {advice}") from None
