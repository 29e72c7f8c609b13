import numpy as np
import pytest
from safetensors.numpy import save_file

from support.golden_helpers import run_python, write_json

#: Prints the peak memory that each call allocates, including numpy arrays.
MEASURE = """
import gc, sys, tracemalloc
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.kernels import load
from tritstream.golden.packed.verify import verify

def check():
    assert verify(packed, model) == []

load()
model, packed, out = sys.argv[1:]
tracemalloc.start()
for call in (lambda: pack_checkpoint(model, packed, 3), check, lambda: export(packed, out)):
    gc.collect()
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    call()
    print(tracemalloc.get_traced_memory()[1] - held)
"""

ROWS, COLUMNS = 256, 1024
#: Of few the threads have met in every way already.
FEW, MANY = 8, 24


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
    finished = run_python(MEASURE, path / "m", path / "packed", path / "exported")
    assert finished.returncode == 0, finished.stderr
    return dict(zip(("pack", "verify", "export"), map(int, finished.stdout.split()), strict=True))


@pytest.mark.parametrize("name", ["pack", "verify", "export"])
def test_memory_does_not_grow_with_the_model(peaks, name):
    few, many = peaks[FEW][name], peaks[MANY][name]
    # Matrices in float16 (or their integers, scales and tiles), temporaries of some rows for each
    # thread, and errors of a sample of groups at many scales for each tensor in flight. How many of
    # these samples meet is chance. The further matrices in float16 have 8 MB.
    if name == "pack":
        assert many < 4 * ROWS * COLUMNS + 134e6
    else:
        assert many < 1.1 * few
        assert many < 4 * ROWS * COLUMNS + 40e6
