"""How XLA compiles under test: for eight simulated devices, and quickly, since tiny models are compiled often and run for a moment; and what it compiled."""

import contextlib
from collections.abc import Iterator
from typing import Any

EIGHT_DEVICES = "--xla_force_host_platform_device_count=8"

QUICK_CODE = (
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
)
"""Half of the time of what users get. What a test starts as a process of its own is given these too, and one device."""


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """The programs that are compiled meanwhile, by the names of their functions: once each, also where the cache on disk has them."""
    from jax import monitoring  # not before `tests/conftest.py` has said how it compiles

    names: list[str] = []

    def heard(event: str, seconds: float, **given: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(given["fun_name"].removeprefix("jit(").removesuffix(")"))

    monitoring.register_event_duration_secs_listener(heard)
    try:
        yield names
    finally:
        monitoring.unregister_event_duration_listener(heard)
