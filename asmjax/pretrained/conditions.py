"""What a network must be like for published weights to mean the same in it."""

from typing import Any

from asmjax.models.layers import ConvNet


def epsilon_shift(network: ConvNet, theirs: float) -> float:
  """What to add to running variances: their epsilon less the network's own.

  Raises:
    ValueError: the network has no batch norm.
  """
  if network.norm.kind not in ("batch", "sync_batch"):
    raise ValueError(
      f"the published {type(network).__name__} has batch norm; found norm {network.norm.kind!r}, "
      "expected 'batch' or 'sync_batch'"
    )
  return theirs - network.norm.epsilon


def require(network: ConvNet, source: str, **expected: Any) -> None:
  """Checks fields of the network.

  Args:
    network: to check.
    source: of the weights, for the message.
    **expected: the fields that the source's network has.

  Raises:
    ValueError: a field differs.
  """
  for field, value in expected.items():
    found = getattr(network, field)
    if found != value:
      raise ValueError(
        f"{source}'s {type(network).__name__} has {field}={value!r}; found {field}={found!r}"
      )
