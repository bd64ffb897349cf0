"""Operations written out in forms that XLA runs faster on CPUs; see `asmjax.ops.dispatch`."""
