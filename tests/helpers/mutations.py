"""Damaged and hostile contents, drawn from intact ones by a seeded generator."""

import contextlib
import signal
import struct

# Numbers that lengths, sizes and offsets are replaced by.
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# Texts that parsers trip over.
_TOKENS = (
  b"-1",
  b"99999999999999999999999",
  b"1e400",
  b"NaN",
  b"Infinity",
  b"null",
  b"true",
  b"{}",
  b"[]",
  b"[" * 3000,
  b'{"a":' * 3000,
  b'"',
  b"'",
  b"\\u0000",
  b"\x00",
  b"\xff\xfe",
  b"\xed\xb2\x80",
  b"\n",
  b"\r",
  b": ",
  b"&a ",
  b"*a",
  b"!!python/object/apply:os.system ['true']",
  b"../../etc/passwd",
  b"%s%n$(true)`true`",
  b"9" * 5000,
)


def mutate(content: bytes, rng) -> bytes:
  """Damages a content in one to three ways."""
  for _ in range(rng.integers(1, 4)):
    content = _MUTATIONS[rng.integers(len(_MUTATIONS))](content, rng)
  return content


@contextlib.contextmanager
def deadline(seconds: int):
  """Raises TimeoutError, which no reader expects, in what takes unboundedly long."""

  def stop(*_):
    raise AssertionError(f"not done after {seconds} s")

  before = signal.signal(signal.SIGALRM, stop)
  signal.alarm(seconds)
  try:
    yield
  finally:
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _place(content, rng, *, head=False):
  """A position; in half of the cases among the first bytes, where headers are."""
  size = len(content) + 1
  return int(rng.integers(min(size, 64) if head or rng.random() < 0.5 else size))


def _truncate(content, rng):
  return content[: _place(content, rng)]


def _flip_bits(content, rng):
  damaged = bytearray(content)
  for _ in range(min(len(damaged), rng.integers(1, 9))):
    place = min(_place(content, rng), len(damaged) - 1)
    damaged[place] ^= 1 << int(rng.integers(8))
  return bytes(damaged)


def _set_number(content, rng):
  """Replaces 1, 2, 4 or 8 bytes by a number in either byte order."""
  place, (code, size) = (
    _place(content, rng),
    (("B", 1), ("H", 2), ("I", 4), ("Q", 8))[rng.integers(4)],
  )
  number = _NUMBERS[rng.integers(len(_NUMBERS))] & (256**size - 1)
  packed = struct.pack("<>"[rng.integers(2)] + code, number)
  return content[:place] + packed + content[place + size :]


def _insert_token(content, rng):
  place, token = _place(content, rng), _TOKENS[rng.integers(len(_TOKENS))]
  overwritten = int(rng.integers(0, 8)) if rng.random() < 0.5 else 0
  return content[:place] + token + content[place + overwritten :]


def _insert_noise(content, rng):
  place = _place(content, rng)
  return content[:place] + rng.bytes(int(rng.integers(1, 40))) + content[place:]


def _remove(content, rng):
  place = _place(content, rng)
  return content[:place] + content[place + int(rng.integers(1, 64)) :]


def _repeat(content, rng):
  place = _place(content, rng)
  part = content[place : place + int(rng.integers(1, 64))]
  return content[:place] + part * int(rng.integers(2, 40)) + content[place:]


def _zero(content, rng):
  place, size = _place(content, rng), int(rng.integers(1, 64))
  return content[:place] + bytes(len(content[place : place + size])) + content[place + size :]


_MUTATIONS = (
  _truncate,
  _flip_bits,
  _set_number,
  _set_number,
  _insert_token,
  _insert_noise,
  _remove,
  _repeat,
  _zero,
)
