"""Backbones and predictors in PyTorch, for `predictors.py` and for the tests of name maps.

They are written from the papers, the backbones under the names of torchvision's state dicts, so
that weights move through the name maps of `asmjax.pretrained`, or of `torch_maps.py` where
torchvision has no names.
"""
