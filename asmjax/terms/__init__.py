"""Terms: losses on the predictor's outputs, each with the critic it needs."""

from asmjax.terms.pixel import Pixel
from asmjax.terms.structure import Structure

TERMS = {"pixel": Pixel, "structure": Structure}
