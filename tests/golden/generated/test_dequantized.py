"""Random trits times scales, complete models of them, and files that are made on demand."""

import signal

import numpy as np
import pytest

from tritstream.golden.checkpoints.convert import convert
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.generated.dequantized import DequantizedTensor
from tritstream.golden.generated.made_files import MadeFiles
from tritstream.golden.generated.source import GeneratedSource
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import check
from tritstream.golden.recover import recover
from tritstream.golden.recover.import_checkpoint import import_checkpoint

from support.forked import run_forked
from support.golden_helpers import contents, message

#: A narrow 32B in files of one or two layers.
SMALL = {"vocabulary": 64, "shrink": 128, "dtype": "F16", "depth": 3, "shard_size": 100_000}
#: Imports argv[4] layers made in argv[1] into argv[2], and kills itself when it has consumed
#: argv[3] files.
KILL = f"""
import os, signal, sys
from pathlib import Path
from tritstream.golden.generated.source import GeneratedSource
from tritstream.golden.generated.made_files import MadeFiles
from tritstream.golden.jobs.directory_job import Job
from tritstream.golden.recover.import_checkpoint import import_checkpoint

left, record = int(sys.argv[3]), Job.record

def counted(job, name, values):
    global left
    record(job, name, values)
    left -= name.startswith("consumed")
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

Job.record = counted
source = GeneratedSource("32B", layers=int(sys.argv[4]), **{SMALL})
import_checkpoint(MadeFiles(source, Path(sys.argv[1])), sys.argv[2], consume=True)
"""


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_is_recovered_at_its_depth(depth, dtype):
    weights = DequantizedTensor("a.weight", dtype, (96, 88), 0, depth).read()
    found = recover(weights)
    assert (found.depth, found.form) == (depth, "s*q/h")
    assert 9 < found.scales <= 27


def test_depends_on_name_and_seed_only():
    first = DequantizedTensor("a.weight", "F16", (300, 1100), 0, 3)
    assert first.read().tobytes() == b"".join(first.pieces())
    assert len({DequantizedTensor(name, "F16", (48, 32), seed, 3).read().tobytes()
                for name, seed in (("a", 0), ("b", 0), ("a", 1), ("a", 0))}) == 3
    # Weights of two matrices have tables of their own.
    one, two = (np.unique(np.abs(DequantizedTensor(name, "F16", (200, 160), 0, 1).read()))
                for name in ("a", "b"))
    assert min(len(one), len(two)) > 20
    assert np.intersect1d(one, two).size < 5


def test_shrunk_sizes():
    source = GeneratedSource("32B", **SMALL)
    assert source.config["num_hidden_layers"] == 64
    assert source.tensors["model.layers.63.mlp.gate_proj.weight"].shape == (216, 40)
    with pytest.raises(ValueError, match=message(
            "the hidden size 5120 cannot be divided by 3; give a divisor of 128")):
        GeneratedSource("32B", shrink=3)
    with pytest.raises(ValueError, match=message("depth must be 1..4, not 5")):
        GeneratedSource("32B", depth=5)


def test_made_files_are_those_of_a_conversion(tmp_path):
    source = GeneratedSource("32B", layers=2, **SMALL | {"shard_size": 60_000})
    convert(source, tmp_path / "m")
    made = MadeFiles(source, tmp_path / "w")
    assert len(made.shards) == 3
    for file in made.shards:
        (tmp_path / "w" / f"{file}.part").write_bytes(b"left by a kill")
        made.provide(file)
        assert (tmp_path / "w" / file).read_bytes() == (tmp_path / "m" / file).read_bytes()
    stored = DirectorySource(tmp_path / "m")
    assert {name: (tensor.offset, tensor.size) for name, tensor in made.tensors.items()} == {
        name: (tensor.offset, tensor.size) for name, tensor in stored.tensors.items()}
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == sorted(made.shards)


@pytest.mark.parametrize("layers", [4, pytest.param(64, marks=pytest.mark.long)])
def test_import_of_files_made_one_by_one_with_kills(tmp_path, layers):
    """Every value is compared with the rule afterwards, whatever the kills did."""
    source = GeneratedSource("32B", layers=layers, **SMALL)
    assert len(source.shards) > layers / 2
    for files in (1, 1):
        finished = run_forked(KILL, tmp_path / "w", tmp_path / "o", files, layers)
        assert finished.returncode == -signal.SIGKILL, finished.stderr
    most = []
    report = import_checkpoint(
        MadeFiles(source, tmp_path / "w"), tmp_path / "o", consume=True,
        progress=lambda *_: most.append(len(list((tmp_path / "w").glob("*.safetensors")))))
    assert max(most) == 1 and contents(tmp_path / "w") == {}
    assert len(report.packed.matrices) == 7 * layers
    assert report.consumed == tuple(source.shards)
    packed = PackedCheckpoint(tmp_path / "o")
    assert [found for found in check(packed, source) if found.kind == "error"] == []
