"""The same operations written out in forms that XLA runs faster on CPUs."""
