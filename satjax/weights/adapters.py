"""LoRA adapters that serve all tokens, added to the kernels beside them: the same LLM in half as many products."""

from collections.abc import Mapping

import numpy as np

from satjax.models.linear import Linear
from satjax.weights.lazy import Index, LazyTensor


def merged(params: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Parameters of a decoder without adapters; each adapter is added to the kernel beside it (`satjax.models.linear.Linear`)."""
    merged = {}
    for path, tensor in params.items():
        at, _, leaf = path.rpartition("/")
        if leaf in ("lora_a", "lora_b"):
            continue
        adapted = leaf == "kernel" and f"{at}/lora_a" in params
        merged[path] = _adapted(tensor, params[f"{at}/lora_a"], params[f"{at}/lora_b"]) if adapted else tensor
    return merged


def _adapted(kernel: LazyTensor, lora_a: LazyTensor, lora_b: LazyTensor) -> LazyTensor:
    def read(index: Index) -> np.ndarray:
        layers, rows, columns = index
        down_NIR, up_NRO = lora_a[layers, rows].astype(np.float32), lora_b[layers, :, columns].astype(np.float32)
        return kernel.read(index).astype(np.float32) + Linear.LORA_SCALE * (down_NIR @ up_NRO)

    return LazyTensor(kernel.shape, np.dtype(np.float32), read)
