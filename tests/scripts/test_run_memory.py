import numpy as np
import pytest
from safetensors.numpy import save_file

from tritstream.golden.packed.pack import pack_checkpoint

from support.forked import COMMANDS, run_forked
from support.golden_helpers import write_json

#: Prints the peak memory that a run allocates, including numpy arrays. One thread compares rows,
#: because how many chunks of rows meet in several is chance.
MEASURE = """
import os, sys, tracemalloc
from tritstream.scripts.cli import app

os.cpu_count = lambda: 1
tracemalloc.start()
app(["run", *sys.argv[1:]], standalone_mode=False)
print(tracemalloc.get_traced_memory()[1], file=sys.stderr)
"""

ROWS, COLUMNS = 512, 1024
FEW, MANY = 4, 24


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Packed checkpoints of few and of many matrices of one size."""
    paths = {}
    for count in (FEW, MANY):
        paths[count] = tmp_path_factory.mktemp(f"model{count}")
        (paths[count] / "m").mkdir()
        write_json(paths[count] / "m" / "config.json", {})
        rng = np.random.default_rng(0)
        save_file({f"layers.{n}.weight": rng.standard_normal((ROWS, COLUMNS)).astype(np.float16)
                   for n in range(count)}, paths[count] / "m" / "model.safetensors")
        pack_checkpoint(paths[count] / "m", paths[count] / "packed", 1)
    return paths


def test_memory_does_not_grow_with_the_model(packed):
    peaks = {}
    for count, path in packed.items():
        done = run_forked(MEASURE, path / "packed", "--report", path / "report.json",
                          modules=COMMANDS)
        assert done.returncode == 0, done.stderr
        peaks[count] = int(done.stderr.splitlines()[-1])
    # A matrix is 124 KB packed, 0.5 MB as integers: 20 more that were kept would be 2.5 MB at
    # least. The peak consists of temporary arrays of some rows.
    assert peaks[MANY] < peaks[FEW] + 1e6
    assert peaks[MANY] < 40e6
