"""Sizes, costs and receptive fields of networks."""
