"""Compiled code of numba in the cache."""

import os
import subprocess
import sys

import pytest

from support.golden_helpers import ROOT

#: Quantizes with numba, whose cache is in the folder argv[1], and prints a sum.
QUANTIZE = """
import sys
import numpy as np
from tritstream.golden.kernels.numba_jit import compiled

@compiled
def double(x):
    return 2 * x

print(double(np.float64(21)), double.stats.cache_hits.total())
"""


def test_damaged_code_of_numba_is_compiled_again(cache, tmp_path):
    """Numba itself fails at a damaged index in every run, and executes damaged code."""
    pytest.importorskip("numba")
    (tmp_path / "program.py").write_text(QUANTIZE)

    def run():
        finished = subprocess.run(
            [sys.executable, tmp_path / "program.py"], capture_output=True, text=True, timeout=300,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "n")})
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.split()

    assert run() == ["42.0", "0"] and run() == ["42.0", "1"]
    for ending, damage in (("nbi", lambda data: data[:-5]),
                           ("nbc", lambda data: data[:-9] + b"xxxx" + data[-5:])):
        path, = (tmp_path / "n").rglob(f"*.{ending}")
        path.write_bytes(damage(path.read_bytes()))
        assert run() == ["42.0", "0"]
    assert run() == ["42.0", "1"]
