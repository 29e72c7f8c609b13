"""Device that fails during a generation, and a table of the outcomes.

    PYTHONPATH=tests python -m support.generation_faults --runs 100
"""

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.device import Device
from tritstream.host.errors import HostError, TransportClosed, TransportTimeout
from tritstream.host.model.backends import DeviceBackend
from tritstream.host.model.load import load_model
from tritstream.host.transports.base import Transport
from tritstream.host.transports.native import NativeTransport
from tritstream.hw.config import DeviceConfig
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

from support.model_helpers import MODEL, prompt_ids

__all__ = ["FAULTS", "FaultyTransport", "Trial"]

LANES, PROMPT, TOKENS = 16, 2, 3


def flip(rng, data):
    """Flip one bit of some bytes."""
    data[0] ^= 1 << int(rng.integers(8))
    return data


def scramble(rng, data):
    """Up to 64 bytes are any others."""
    return bytearray(rng.bytes(min(64, len(data)))) + data[64:]


def lose(rng, data):
    """Up to 64 bytes are missing."""
    return data[int(rng.integers(1, 65)):]


def repeat(rng, data):
    """Up to 64 bytes come twice."""
    return data[:int(rng.integers(1, 65))] + data


def insert(rng, data):
    """Insert up to 300 random bytes."""
    return bytearray(rng.bytes(int(rng.integers(1, 301)))) + data


#: Where each fault acts, and how: on bytes of requests or of answers, or on the device.
FAULTS = {
    "request: a bit flipped":        ("requests", flip),
    "request: 64 bytes scrambled":   ("requests", scramble),
    "answer: a bit flipped":         ("answers", flip),
    "answer: 64 bytes scrambled":    ("answers", scramble),
    "answer: bytes lost":            ("answers", lose),
    "answer: bytes repeated":        ("answers", repeat),
    "answer: garbage inserted":      ("answers", insert),
    "device: reset in between":      ("device", "reset"),
    "device: silent once":           ("device", "pause"),
    "device: silent from then on":   ("device", "hang"),
    "device: gone":                  ("device", "die"),
    "device: garbage from then on":  ("device", "rave"),
}


class FaultyTransport(Transport):
    """Transport with one fault after a number of bytes.

    Parameters
    ----------
    native : NativeTransport
    fault : str or None
        Name of one of :data:`FAULTS`.
    at : int
        Number of bytes of requests, or of responses, before the fault.
    rng : numpy.random.Generator
    """

    def __init__(self, native, fault=None, at=0, rng=None):
        self._native, self._rng = native, rng
        self._place, self._what = FAULTS[fault] if fault else ("", None)
        self._at = at
        self._held = bytearray()
        self.passed = {"requests": 0, "answers": 0}
        self.happened = False

    async def send(self, data):
        await self._native.send(self._damaged("requests", bytes(data)))

    async def recv(self, count):
        while len(self._held) < count:
            self._fail()
            self._held += self._damaged("answers", await self._native.recv(
                count - len(self._held)))
        data = bytes(self._held[:count])
        del self._held[:count]
        return data

    def ready(self):
        data = bytes(self._held) + self._damaged("answers", self._native.ready())
        self._held.clear()
        return data

    def close(self):
        self._native.close()

    def _damaged(self, place, data):
        before = self.passed[place]
        self.passed[place] += len(data)
        if self._what == "rave" and self.happened and place == "answers":
            return self._rng.bytes(len(data))
        if self.happened or place != self._place or self.passed[place] <= self._at:
            return data
        self.happened = True
        there = max(0, self._at - before)
        return data[:there] + bytes(self._what(self._rng, bytearray(data[there:])))

    def _fail(self):
        reached = self._place == "device" and self.passed["answers"] >= self._at
        first, self.happened = reached and not self.happened, self.happened or reached
        if first and self._what == "reset":
            self._native.reset()
        if (first and self._what == "pause") or (reached and self._what == "hang"):
            raise TransportTimeout("silent")
        if reached and self._what == "die":
            raise TransportClosed("the device is gone")


class Trial:
    """The shipped model on the compiled RTL, for several generations.

    Parameters
    ----------
    folder : path
        Directory for the packed model.
    """

    def __init__(self, folder):
        pack_checkpoint(MODEL, folder / "d3", 3)
        self._library = build_native(LANES, device_rtl(DeviceConfig(lanes=LANES))).library
        self._device = None
        self._use(FaultyTransport(NativeTransport(NativeDevice(self._library))))
        self._model = load_model(folder / "d3", backend=DeviceBackend(
            self, lambda work, *arguments: asyncio.run(work(*arguments))))
        golden = load_model(folder / "d3", backend="golden")
        self.tokens = self._generate(golden)
        self._loaded = dict(self._transport.passed)
        assert self._generate(self._model) == self.tokens
        self._whole = dict(self._transport.passed)

    async def prepare(self, tiles, name):
        return await self._device.prepare(tiles, name)

    async def gemv_all(self, matrices, x):
        return await self._device.gemv_all(matrices, x)

    def run(self, fault, seed):
        """``survived``, ``refused``, ``wrong`` or ``missed``; and the error, where there is one."""
        rng = np.random.default_rng([seed, *fault.encode()])
        place = "requests" if FAULTS[fault][0] == "requests" else "answers"
        at = int(rng.integers(self._loaded[place], self._whole[place]))
        self._use(FaultyTransport(
            NativeTransport(NativeDevice(self._library)), fault, at, rng))
        try:
            tokens = self._generate(self._model)
        except HostError as error:
            return "refused", str(error)
        if tokens != self.tokens:
            return "wrong", str(tokens)
        return ("survived" if self._transport.happened else "missed"), ""

    def close(self):
        self._transport.close()

    def _use(self, transport):
        if self._device:
            self.close()
        self._transport = transport
        self._device = Device(transport, name="board")

    def _generate(self, model):
        ids = prompt_ids()[:, :PROMPT]
        return model.generate(ids, attention_mask=ids.new_ones(ids.shape), do_sample=False,
                              max_new_tokens=TOKENS, min_new_tokens=TOKENS)[0, PROMPT:].tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="generations for each fault")
    runs = parser.parse_args().runs
    outcomes = ("survived", "refused", "wrong", "missed")
    print("fault".ljust(30), *(outcome.rjust(9) for outcome in outcomes))
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        total = Counter()
        for fault in FAULTS:
            count = Counter(trial.run(fault, seed)[0] for seed in range(runs))
            total += count
            print(fault.ljust(30), *(f"{count[outcome]:9}" for outcome in outcomes), flush=True)
        print("all".ljust(30), *(f"{total[outcome]:9}" for outcome in outcomes))
        trial.close()


if __name__ == "__main__":
    main()
