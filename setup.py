"""Packages `configs/` as `asmjax.configs`; everything else is in setup.cfg."""

import setuptools

# Files of configs are run by path or imported as asmjax.configs.NAME, so they are no package here.
setuptools.setup(
  packages=[
    *setuptools.find_packages(include=["asmjax*"]),
    "asmjax.configs",
    "asmjax.configs.sweeps",
  ],
  package_dir={"asmjax.configs": "configs"},
)
