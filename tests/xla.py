"""How XLA compiles under test: for eight simulated devices, and quickly, since tiny models are compiled often and run for a moment."""

EIGHT_DEVICES = "--xla_force_host_platform_device_count=8"

QUICK_CODE = (
    "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
)
"""Half of the time of what users get. What a test starts as a process of its own is given these too, and one device."""
