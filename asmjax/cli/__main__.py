"""Runs `python -m asmjax.cli COMMAND ...`."""

from asmjax.cli import main

if __name__ == "__main__":
  main()
