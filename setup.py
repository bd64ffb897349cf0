"""Packages `configs/` as `asmjax.configs`; everything else is in setup.cfg."""

import setuptools

# `configs/` stays at the top level, where a checkout has its files, and is no package there.
setuptools.setup(
  packages=[
    *setuptools.find_packages(include=["asmjax*"]),
    "asmjax.configs",
    "asmjax.configs.sweeps",
  ],
  package_dir={"asmjax.configs": "configs"},
)
