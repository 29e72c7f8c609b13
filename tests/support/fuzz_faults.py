"""Readers with a fault each, for tests of what must find them."""

import os
import pickle
import signal
import time
import warnings
from pathlib import Path

import numpy as np

from tritstream.golden.checkpoints.safetensors_reader import Shard
from tritstream.golden.errors import CheckpointError
from tritstream.scripts.assurance.fuzz.mutation import changed_bytes
from tritstream.scripts.assurance.fuzz.target import Broken, Target

__all__ = ["FAULTS", "GOOD", "KEY", "KILLS", "MET", "SLEEPS"]


def _reader(run, **how):
    """A target of which every input after the first is read by ``run``."""
    def read(data, folder):
        if data != b"good":
            run(data, folder)

    return Target("planted", lambda: [b"good"], read, changed_bytes, **how)


def _loop(data, folder):
    while True:
        pass


def _allocate(data, folder):
    np.ones(int.from_bytes(data.ljust(4, b"\1"), "little") | 1 << 29)


def _key(data, folder):
    return {}[data]


def _outside(data, folder):
    (folder / ".." / "outside").read_bytes()


def _link(data, folder):
    (folder / "link").symlink_to(folder.parent / "outside")
    (folder / "link").open().close()


def _absolute(data, folder):
    Path("/etc/hostname").open().close()


def _swallowed(data, folder):
    try:
        _outside(data, folder)
    except OSError:
        raise CheckpointError("no such file") from None


def _pickled(data, folder):
    pickle.loads(pickle.dumps(Path("x")))


def _deep(data, folder):
    return _deep(data, folder)


def _warn(data, folder):
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


def _two_lines(data, folder):
    raise ValueError("first\nsecond")


def _unintended(data, folder):
    return int("x")


def _long(data, folder):
    raise ValueError("x" * 5000)


def _wrong(data, folder):
    raise Broken("two and two are five")


def _documented(data, folder):
    (folder / "x").write_bytes(data)
    Shard(folder / "x")


#: By the start of their report.
FAULTS = {
    "hang": _reader(_loop, seconds=0.2), "memory": _reader(_allocate, memory=1 << 26),
    "KeyError": _reader(_key), "elsewhere: opened": _reader(_outside),
    "elsewhere: opened ": _reader(_absolute), "elsewhere: opened  ": _reader(_link),
    "elsewhere": _reader(_swallowed), "elsewhere: pickle.find_class": _reader(_pickled),
    "RecursionError": _reader(_deep), "RuntimeWarning": _reader(_warn),
    "message": _reader(_two_lines), "message ": _reader(_long),
    "ValueError": _reader(_unintended), "wrong: two and two are five": _reader(_wrong),
}
GOOD = _reader(lambda data, folder: None)
MET = _reader(_documented)
SLEEPS = _reader(lambda data, folder: time.sleep(3600))
KILLS = _reader(lambda data, folder: os.kill(os.getpid(), signal.SIGKILL))
KEY = FAULTS["KeyError"]
