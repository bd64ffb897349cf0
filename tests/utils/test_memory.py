"""Free memory of the machine, of its containers and of devices."""

import jax

from asmjax.utils import memory


def test_free_host_memory_is_some_of_the_machine():
  free = memory.free_host_memory()
  assert 2**20 < free < 2**50
  assert 0 < memory.free_device_memory() < 1.1 * free / jax.local_device_count()


def test_free_host_memory_keeps_the_limits_of_groups(tmp_path):
  assert list(memory._free_of_groups(tmp_path)) == []
  (tmp_path / "memory.max").write_text("max\n")
  (tmp_path / "memory.current").write_text("300\n")
  assert list(memory._free_of_groups(tmp_path)) == []
  (tmp_path / "memory.max").write_text("1000\n")
  (tmp_path / "memory").mkdir()
  (tmp_path / "memory" / "memory.limit_in_bytes").write_text("500\n")
  (tmp_path / "memory" / "memory.usage_in_bytes").write_text("100\n")
  assert list(memory._free_of_groups(tmp_path)) == [700.0, 400.0]
