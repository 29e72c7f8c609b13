"""Device servers that are killed (SIGKILL) during generations, and a count of the outcomes.

    PYTHONPATH=tests python -m support.killed_servers --runs 100
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from itertools import count
from pathlib import Path

import numpy as np

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.device import Device
from tritstream.host.errors import HostError
from tritstream.host.failover import FailoverGroup, FailoverWarning
from tritstream.host.model.backends import DeviceBackend
from tritstream.host.model.load import load_model
from tritstream.host.own_loop import OwnLoop
from tritstream.host.transports.tcp import SocketTransport
from tritstream.hw.config import DeviceConfig
from tritstream.sim.build import build_native, device_rtl

from support.model_helpers import MODEL, prompt_ids

__all__ = ["Trial"]

LANES, PROMPT, TOKENS = 16, 2, 3


class Server(SocketTransport):
    """Transport to a server of its own, which is killed at a given call.

    Members
    -------
    calls : int
        Buffers sent and responses awaited so far.
    doomed : int
        Call before which the server is killed; 0 means never.
    """

    def __init__(self, library):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.device_server", str(library)], stdout=subprocess.PIPE,
            text=True)
        super().__init__("127.0.0.1", int(self._process.stdout.readline()))
        self.calls = self.doomed = 0

    async def send(self, data):
        self._count()
        await super().send(data)

    async def recv(self, count):
        self._count()
        return await super().recv(count)

    def _count(self):
        self.calls += 1
        if self.calls == self.doomed:
            os.kill(self._process.pid, signal.SIGKILL)

    def close(self):
        super().close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Trial:
    """The shipped model on two servers, and a new one as a spare for each that was killed.

    Parameters
    ----------
    folder : path
        Directory for the packed model.
    """

    def __init__(self, folder):
        pack_checkpoint(MODEL, folder / "d3", 3)
        self._library = build_native(LANES, device_rtl(DeviceConfig(lanes=LANES))).library
        self._servers, self._count, self._loop = {}, 0, OwnLoop()
        self._group = FailoverGroup([self._start(), self._start()])
        self._model = load_model(folder / "d3", backend=DeviceBackend(self._group, self._loop.run))
        self._tokens = self._generate(load_model(folder / "d3", backend="golden"))
        before = self._calls()
        assert self._generate(self._model) == self._tokens
        self._usual = min(after - calls for after, calls in zip(self._calls(), before, strict=True))

    def run(self, seed, spare=True):
        """``survived``, ``refused``, ``wrong`` or ``missed``; and the warning or error."""
        rng = np.random.default_rng(seed)
        if spare:
            self._group.spares.append(self._start())
        victim = self._servers[self._group.devices[rng.integers(len(self._group.devices))]]
        victim.doomed = victim.calls + int(rng.integers(1, self._usual))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always", FailoverWarning)
            try:
                tokens = self._generate(self._model)
            except HostError as error:
                return "refused", str(error)
        text = "; ".join(str(one.message) for one in seen)
        if tokens != self._tokens:
            return "wrong", str(tokens)
        return ("survived" if text else "missed"), text

    def close(self):
        with self._loop:
            self._loop.run(self._group.close)

    def _start(self):
        self._count += 1
        server = Server(self._library)
        device = Device(server, name=f"server {self._count}")
        self._servers[device] = server
        return device

    def _calls(self):
        return [self._servers[device].calls for device in self._group.devices]

    def _generate(self, model):
        ids = prompt_ids()[:, :PROMPT]
        return model.generate(ids, attention_mask=ids.new_ones(ids.shape), do_sample=False,
                              max_new_tokens=TOKENS, min_new_tokens=TOKENS)[0, PROMPT:].tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="servers to kill, one per generation")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        outcomes = Counter()
        for seed in count():
            if outcomes.total() - outcomes["missed"] == runs:
                break
            outcome, text = trial.run(seed)
            outcomes[outcome] += 1
            print(f"{seed:4} {outcome}: {text}", flush=True)
        print(", ".join(f"{outcomes[outcome]} {outcome}" for outcome in
                        ("survived", "refused", "wrong", "missed")))
        trial.close()


if __name__ == "__main__":
    main()
