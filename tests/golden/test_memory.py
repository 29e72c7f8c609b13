import numpy as np
import pytest
from safetensors.numpy import save_file

from support.forked import run_forked
from support.golden_helpers import write_json

#: Prints the peak memory that each call allocates, including numpy arrays.
MEASURE = """
import gc, sys, tracemalloc
from tritstream.golden.jobs.step import one_by_one
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.kernels import load
from tritstream.golden.packed.verify import verify

def check():
    assert verify(packed, model) == []

load()
model, packed, out = sys.argv[1:]
tracemalloc.start()
for call in (lambda: pack_checkpoint(model, packed, 3, run=one_by_one), check,
             lambda: export(packed, out), lambda: pack_checkpoint(model, packed + "-2", 3)):
    gc.collect()
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    call()
    print(tracemalloc.get_traced_memory()[1] - held)
"""

ROWS, COLUMNS = 256, 1024
FEW, MANY = 2, 6
#: Matrices that are packed at the same time.
IN_FLIGHT = 4


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """Peak memory of each call in bytes, on few and on many matrices of one size."""
    return {count: measured(tmp_path_factory.mktemp(f"model{count}"), count)
            for count in (FEW, MANY)}


def measured(path, count):
    (path / "m").mkdir()
    write_json(path / "m" / "config.json", {})
    rng = np.random.default_rng(0)
    tensors = {f"layers.{n}.weight": rng.standard_normal((ROWS, COLUMNS)).astype(np.float16)
               for n in range(count)}
    # Kept; far larger than a matrix, and than all that any step may hold.
    tensors["embed.weight"] = np.zeros((25_000, COLUMNS), np.float16)
    save_file(tensors, path / "m" / "model.safetensors")
    finished = run_forked(MEASURE, path / "m", path / "packed", path / "exported")
    assert finished.returncode == 0, finished.stderr
    names = "pack one by one", "verify", "export", "pack"
    return dict(zip(names, map(int, finished.stdout.split()), strict=True))


@pytest.mark.parametrize("name", ["pack one by one", "verify", "export"])
def test_memory_does_not_grow_with_the_model(peaks, name):
    few, many = peaks[FEW][name], peaks[MANY][name]
    # The integers alone of the further matrices have 1 MB, as float16 they have 2 MB.
    assert many < few + 0.5e6
    # A matrix in float16 (or its integers, scales and tiles), temporaries of some rows, and errors
    # of a sample of groups at many scales; the kept tensor has 51 MB.
    assert many < 50e6


def test_matrices_in_flight_take_no_more_than_so_many_alone(peaks):
    """How many of them meet is chance."""
    assert peaks[MANY]["pack"] < IN_FLIGHT * peaks[MANY]["pack one by one"] + 1e6
