"""Packing in a process that kills itself, and what it leaves."""

import json
import os
import signal

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint

from support.forked import run_forked
from support.golden_helpers import make_checkpoint

__all__ = ["everything", "journal", "kill", "packed_of", "sharded_model", "spy_on_writes"]

#: Packs argv[1] into argv[2] and kills itself: after the n-th report, or in the midst of the
#: n-th write, of which half has gone out.
KILL = """
import os, signal, sys
from threading import Lock
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.export import export
from tritstream.golden.quantizers.registry import method_of

seen, lock, last = 0, Lock(), int(sys.argv[5])

def is_last():
    global seen
    with lock:
        seen += 1
        return seen == last

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def half(file, data, place, pwrite=os.pwrite):
    if is_last():
        pwrite(file, data[:len(data) // 2], place)
        die()
    return pwrite(file, data, place)

def report(_):
    if sys.argv[4] == "report" and is_last():
        die()

if sys.argv[4] == "write":
    os.pwrite = half
if sys.argv[3] == "export":
    export(sys.argv[1], sys.argv[2], report)
else:
    # Without numba, which takes longer to import than all of this.
    pack_checkpoint(sys.argv[1], sys.argv[2], int(sys.argv[3]), progress=report,
                    method=method_of("search", "numpy"))
"""


def sharded_model(tmp_path_factory):
    """A checkpoint in two files, in a directory of its own."""
    path = tmp_path_factory.mktemp("model") / "m"
    make_checkpoint(path, sharded=True)
    return path


def packed_of(model):
    """Return the output of an undisturbed run at depth 2, next to the model."""
    pack_checkpoint(model, model.parent / "packed", 2)
    return model.parent / "packed"


def kill(*arguments):
    """Run :data:`KILL` until it is dead."""
    finished = run_forked(KILL, *arguments)
    assert finished.returncode == -signal.SIGKILL, finished.stderr


def journal(partial):
    """Parameters and names in the journal."""
    lines = (partial / ".journal.jsonl").read_bytes().splitlines()
    parameters, *records = [json.loads(line) for line in lines]
    return parameters, [name for name, _, _ in records]


def everything(path):
    """Tensors of a packed checkpoint, with their names."""
    checkpoint = PackedCheckpoint(path)
    return [(name, tensor) for shard in checkpoint.shards.values()
            for name, tensor in shard.tensors.items()]


def spy_on_writes(monkeypatch):
    """Sizes of the writes of this process to shards, from now on."""
    sizes = []
    pwrite = os.pwrite

    def spy(file, data, place):
        sizes.append(len(data))
        return pwrite(file, data, place)

    monkeypatch.setattr(os, "pwrite", spy)
    return sizes
