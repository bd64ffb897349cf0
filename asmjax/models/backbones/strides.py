"""Strides that a backbone gives up for dilation."""


def next_stride(nominal: int, stride: int, output_stride: int) -> tuple[int, int, int]:
  """What a layer with a stride becomes in a backbone that ends at `output_stride`.

  A layer whose stride is given up has the dilation of those before it, since it sees the same
  map as they do; those after it are dilated more. So features at the places that the stride
  would have kept are the same, and released weights mean the same.

  Args:
    nominal: the stride of the layer's input, had none been given up.
    stride: of the layer as published.
    output_stride: of the backbone.

  Returns:
    The nominal stride of the layer's output, and the layer's stride and dilation.
  """
  after = nominal * stride
  return after, stride if after <= output_stride else 1, max(nominal // output_stride, 1)
