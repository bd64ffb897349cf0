"""Sweeps: configs with several seeds, run in parallel, resumable, and compared in a table."""
