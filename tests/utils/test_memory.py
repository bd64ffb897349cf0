"""Free memory of the machine, of its containers and of devices."""

import pathlib

import jax
import pytest

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
  stat = "anon 50\nfile 250\ninactive_file 150\nactive_file 50\n"
  (tmp_path / "memory.stat").write_text(stat)
  stat = "inactive_file 1\nactive_file 1\ntotal_inactive_file 30\ntotal_active_file 10\n"
  (tmp_path / "memory" / "memory.stat").write_text(stat)
  assert list(memory._free_of_groups(tmp_path)) == [900.0, 440.0]


def test_total_memory_is_that_of_the_machine_or_its_limit(monkeypatch):
  words = pathlib.Path("/proc/meminfo").read_text().split()
  machine = 1024 * int(words[words.index("MemTotal:") + 1])
  monkeypatch.setattr(memory, "_read_groups", lambda: iter([]))
  assert memory.total_memory() == machine
  monkeypatch.setattr(memory, "_read_groups", lambda: iter([(12345.0, 1.0), (2.0**70, 5.0)]))
  assert memory.total_memory() == 12345


@pytest.mark.parametrize(
  "count, text",
  [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (7e15, "7000 TB")],
)
def test_format_bytes_has_three_digits_and_a_unit(count, text):
  assert memory.format_bytes(count) == text
