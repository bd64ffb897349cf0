"""Sweeps: configs x seeds, run side by side, resumed where they stopped, and compared."""
