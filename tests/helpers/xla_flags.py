"""How tests run XLA: on simulated devices, with programs that compile fast rather than run fast.

Tiny networks compile for longer than they run.
"""

from importlib import metadata

_FLAGS = ["--xla_backend_optimization_level=0"]
# Half of the time to compile goes into fusions. XLA ends a process that names an unknown flag.
if metadata.version("jaxlib").startswith("0.10."):
  _FLAGS += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]


def xla_flags(devices: int) -> str:
  """What the environment's `XLA_FLAGS` is to say, for so many simulated devices."""
  return " ".join([f"--xla_force_host_platform_device_count={devices}", *_FLAGS])
