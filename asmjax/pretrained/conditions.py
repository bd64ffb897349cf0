"""Conditions on a network under which published weights mean the same in it."""

from typing import Any

from asmjax.models.layers import ConvNet


def epsilon_shift(network: ConvNet, published: float) -> float:
  """Computes what to add to running variances so that another epsilon gives the same result.

  Args:
    network: Network that takes the weights.
    published: Epsilon of the published network's batch norm.

  Raises:
    ValueError: The network has no batch norm.
  """
  if network.norm.kind not in ("batch", "sync_batch"):
    raise ValueError(
      f"the published {type(network).__name__} has batch norm; found norm {network.norm.kind!r}, "
      "expected 'batch' or 'sync_batch'"
    )
  return published - network.norm.epsilon


def check_layer_norm(network: ConvNet, source: str, epsilon: float) -> None:
  """Checks that a network has the layer norm of the published one.

  Args:
    network: Network that takes the weights.
    source: Name of whoever published the weights, for the message.
    epsilon: Epsilon of the published network's layer norm.

  Raises:
    ValueError: The network has another norm, or another epsilon.
  """
  kind, actual = network.norm.kind, network.norm.epsilon
  if (kind, actual) != ("layer", epsilon):
    raise ValueError(
      f"{source}'s {type(network).__name__} has norm 'layer' with epsilon={epsilon:g}; found "
      f"{kind!r} with epsilon={actual:g}"
    )


def check_fields(network: ConvNet, source: str, **expected: Any) -> None:
  """Checks that a network has the fields of the published one.

  Args:
    network: Network that takes the weights.
    source: Name of whoever published the weights, for the message.
    **expected: Fields of the published network.

  Raises:
    ValueError: A field differs.
  """
  for field, value in expected.items():
    actual = getattr(network, field)
    if actual != value:
      expects, found = (getattr(x, "__name__", repr(x)) for x in (value, actual))
      raise ValueError(
        f"{source}'s {type(network).__name__} has {field}={expects}; found {field}={found}"
      )
