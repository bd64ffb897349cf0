"""Lists published weights to start from: `asmjax weights [--network=resnet]`.

Prints where they are, the first digits of their SHA-256 where those are published, their license,
and the flags with which a training starts from them. Downloads nothing.
"""

from absl import flags

flags.disclaim_key_flags()

_HINT = """PREFIX.ckpt is the path before .index in an unpacked archive. A .pth file needs PyTorch,
or is converted once where that is, and starts with --config.init.format=safetensors:"""


def define_flags() -> None:
  """Defines the flags of `weights`."""
  flags.DEFINE_string("network", "", "part of a network's name, as resnet; all by default")


def main(_: list[str]) -> None:
  """Prints the list, and how to unpack, check and convert what was downloaded."""
  from asmjax.pretrained.published import CONVERSION, PUBLISHED_WEIGHTS

  wanted = flags.FLAGS.network.lower()
  chosen = [weights for weights in PUBLISHED_WEIGHTS if wanted in weights.network.lower()]
  if not chosen:
    known = "; ".join(dict.fromkeys(weights.network for weights in PUBLISHED_WEIGHTS))
    raise ValueError(f"no weights of {flags.FLAGS.network!r}; known: {known}")
  for weights in chosen:
    checksum = f", SHA-256 {weights.checksum}..." if weights.checksum else ""
    print(
      f"{weights.network}\n  {weights.address}{checksum}\n  {weights.license}\n  {weights.flags}"
    )
  print(f"\n{_HINT}\n  {CONVERSION}")
