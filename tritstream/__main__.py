"""Runs the command line: ``python -m tritstream``."""

from tritstream.scripts.cli import main

main()
