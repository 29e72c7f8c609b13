import numpy as np
import pytest
from safetensors.numpy import save_file

from tritstream.golden.packed.pack import pack_checkpoint

from support.golden_helpers import run_python, write_json

#: Prints the peak memory that a call allocates, including numpy arrays.
MEASURE = """
import sys, tracemalloc
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.kernels import load
from tritstream.golden.packed.verify import verify

load()
name, model, packed, out = sys.argv[1:]
tracemalloc.start()
if name == "pack":
    pack_checkpoint(model, out, 3)
elif name == "export":
    export(packed, out)
else:
    assert verify(packed, model) == []
print(tracemalloc.get_traced_memory()[1])
"""

ROWS, COLUMNS = 256, 1024
#: Of few the threads have met in every way already.
FEW, MANY = 8, 24


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Checkpoints of few and of many matrices of one size, packed too."""
    paths = {}
    for count in (FEW, MANY):
        paths[count] = tmp_path_factory.mktemp(f"model{count}")
        (paths[count] / "m").mkdir()
        write_json(paths[count] / "m" / "config.json", {})
        rng = np.random.default_rng(0)
        tensors = {f"layers.{n}.weight": rng.standard_normal((ROWS, COLUMNS)).astype(np.float16)
                   for n in range(count)}
        # Kept; far larger than a matrix, and than all that any step may hold.
        tensors["embed.weight"] = np.zeros((25_000, COLUMNS), np.float16)
        save_file(tensors, paths[count] / "m" / "model.safetensors")
        pack_checkpoint(paths[count] / "m", paths[count] / "packed", 3)
    return paths


@pytest.mark.parametrize("name", ["pack", "verify", "export"])
def test_memory_does_not_grow_with_the_model(models, tmp_path, name):
    peaks = {}
    for count, path in models.items():
        finished = run_python(MEASURE, name, path / "m", path / "packed", tmp_path / str(count))
        assert finished.returncode == 0, finished.stderr
        peaks[count] = int(finished.stdout)
    # It is less than the further matrices in float16.
    assert peaks[MANY] - peaks[FEW] < 0.75 * 2 * ROWS * COLUMNS * (MANY - FEW)
    # Matrices in float16 (or their integers, scales and tiles), temporaries of some rows for each
    # thread, and errors of a sample of groups at many scales for each tensor in flight.
    sample = 100e6 if name == "pack" else 0
    assert peaks[MANY] < 4 * ROWS * COLUMNS + 40e6 + sample
