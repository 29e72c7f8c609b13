"""Elements of the stream that a device is fed with, each a list of steps."""

from collections.abc import Iterator
from struct import pack
from zlib import crc32

import numpy as np

from tritstream.hw.config import DeviceConfig
from tritstream.hw.protocol import HEADER_BYTES, HEADER_CRC_OFFSET, MAGIC, REQUEST_ALIGN, Opcode
from tritstream.scripts.assurance.device_model import DeviceModel
from tritstream.scripts.assurance.frames import frame, padded
from tritstream.scripts.assurance.rtl_fuzz.requests import Requests

__all__ = ["Step", "elements"]

#: ``("push", bytes)``, ``("wait", cycles)``, ``("abandon",)``, ``("reset",)``, ``("check",)``, and
#: ``("stall", seed, source, sink)``.
Step = tuple

#: A frame that takes more bytes than this is ended early.
_MOST = 1 << 13
#: Shares of cycles in which source or sink pause.
_SHARES = (0, 0, 0, 0, 0.1, 0.1, 0.3, 0.3, 0.5, 0.5, 0.8, 0.97)


class _Elements:
    """Makers of elements; a report names an element after its method."""

    def __init__(self, config: DeviceConfig, rng: np.random.Generator, model: DeviceModel):
        self._rng, self._lanes = rng, config.lanes
        self.requests = Requests(config, rng, lambda: model.groups)

    def good_frame(self) -> bytes:
        return self.requests.any()

    def good_product(self) -> bytes:
        return self.requests.product()

    def good_frames(self) -> bytes:
        return b"".join(self.requests.any() for _ in range(int(self._rng.integers(2, 6))))

    def bits_flipped(self) -> bytes:
        data = bytearray(self.requests.any())
        for _ in range(int(self._rng.integers(1, 6))):
            data[self._rng.integers(len(data))] ^= 1 << int(self._rng.integers(8))
        return bytes(data)

    def bit_of_product_flipped(self) -> bytes:
        data = bytearray(self.requests.product())
        data[self._rng.integers(len(data))] ^= 1 << int(self._rng.integers(8))
        return bytes(data)

    def truncated(self) -> bytes:
        data = self.requests.any()
        return data[:self._cut(len(data))]

    def run_on(self) -> bytes:
        return self.requests.any() + self._words(int(self._rng.integers(1, 40)))

    def words_lost(self) -> bytes:
        data = self.requests.any()
        at, count = self._cut(len(data)), self._lanes * int(self._rng.integers(1, 20))
        return data[:at] + data[at + count:]

    def words_repeated(self) -> bytes:
        data = self.requests.any()
        at, count = self._cut(len(data)), self._lanes * int(self._rng.integers(1, 20))
        return data[:at] + data[max(0, at - count):]

    def wrong_length(self) -> bytes:
        return self.requests.wrong_length()

    def wrong_arguments(self) -> bytes:
        return self.requests.odd()

    def wrong_trailer(self) -> bytes:
        return self.requests.any(trailer_fault=self._bit())

    def wrong_header_crc(self) -> bytes:
        return self.requests.any(header_fault=self._bit())

    def wrong_stated_length(self) -> bytes:
        """Frame whose stated length is wrong, so that its trailer is at another offset."""
        return self.requests.any(length=int(self._rng.integers(0, 1500)))

    def huge_length(self) -> bytes:
        length = int(self._rng.choice([1 << 20, (1 << 31) + 64, (1 << 32) - 1, (1 << 32) - 64]))
        return self.requests.any(length=length)

    def padding_not_zero(self) -> bytes:
        """Frame that is valid although its padding is not zero."""
        fields = self.requests.identify()[:HEADER_BYTES]
        covered = fields + self._rng.bytes(REQUEST_ALIGN - HEADER_BYTES)
        return covered + pack("<I", crc32(covered)) + self._rng.bytes(REQUEST_ALIGN - 4)

    def gemv_after_a_damaged_load(self) -> bytes:
        """GEMV after a damaged load; it must not use the load before that one."""
        groups = self.requests.some_groups()
        damaged = (self.requests.scales(trailer_fault=self._bit()) if self._rng.random() < 0.5
                   else self.requests.activations(0, groups, trailer_fault=self._bit()))
        return b"".join([self.requests.activations(0, groups), self.requests.scales(), damaged,
                         self.requests.gemv(columns=1, groups=groups)])

    def codes_after_mantissas(self) -> bytes:
        """Two GEMVs, of which the first has direct mantissas and must not touch the table."""
        groups = self.requests.some_groups()
        return b"".join([self.requests.activations(0, groups), self.requests.scales(), *(
            self.requests.gemv(columns=1, groups=groups, direct=direct)
            for direct in (True, False))])

    def mantissas_without_scales(self) -> bytes:
        """GEMV with direct mantissas where no scales are loaded, and one with codes."""
        groups = self.requests.some_groups()
        return b"".join([self.requests.reset(), self.requests.activations(0, groups), *(
            self.requests.gemv(columns=1, groups=groups, direct=direct)
            for direct in (True, False))])

    def garbage(self) -> bytes:
        return self._words(int(self._rng.integers(1, 60)))

    def zeros(self) -> bytes:
        return bytes(self._lanes * int(self._rng.integers(1, 200)))

    def magic_in_garbage(self) -> bytes:
        """Header candidates, some of which are wrong in one bit, and parts of headers."""
        parts = []
        for _ in range(int(self._rng.integers(1, 6))):
            head = bytearray(self.requests.any()[:HEADER_BYTES])
            head[self._rng.integers(HEADER_BYTES)] ^= self._rng.choice([0, 1, 0x80], p=[.2, .4, .4])
            parts += [padded(bytes(head[:int(self._rng.integers(1, 21))]), self._lanes),
                      self._words(int(self._rng.integers(0, 4)))]
        return b"".join(parts)

    def header_in_candidate(self) -> bytes:
        """Candidate that is dropped completely, although a header starts in it."""
        fields = pack("<HBBI", MAGIC, Opcode.STATUS, 1, 0).ljust(HEADER_CRC_OFFSET, b"\x33")
        head = padded(fields + bytes(4), self._lanes)
        at = self._cut(len(head)) % len(head)
        return head[:at] + self.requests.any()

    def reset_in_payload(self) -> bytes:
        """Complete RESET in the payload of another frame."""
        inner = frame(Opcode.RESET, self.requests.sequence())
        return frame(int(self._rng.choice([Opcode.SCALES, 9, Opcode.GEMV])),
                     self.requests.sequence(), 1 | 1 << 8 | 1 << 24, 1, inner * 3)

    def reset_in_frame(self) -> bytes:
        data = self.requests.any()
        at = self._cut(len(data))
        return data[:at] + frame(Opcode.RESET, self.requests.sequence()) + data[at:]

    def off_by_bytes(self) -> bytes:
        """Frame that starts within a word, where a word has several bytes."""
        off = self._rng.bytes(int(self._rng.integers(1, self._lanes))) if self._lanes > 1 else b""
        return padded(off + self.requests.any(), self._lanes)

    def _cut(self, size: int) -> int:
        """Random offset between two words, in bytes."""
        return self._lanes * int(self._rng.integers(1, max(2, size // self._lanes)))

    def _words(self, count: int) -> bytes:
        return self._rng.bytes(self._lanes * count)

    def _bit(self) -> int:
        return 1 << int(self._rng.integers(32))


_MAKERS = [name for name in vars(_Elements) if not name.startswith("_")]
#: Weights of elements: wrong arguments and lengths are of many kinds.
_OFTEN = {"wrong_arguments": 4, "wrong_length": 2}
_WEIGHTS = np.array([6 if name.startswith("good") else _OFTEN.get(name, 1) for name in _MAKERS])


def elements(config: DeviceConfig, rng: np.random.Generator, model: DeviceModel, count: int
             ) -> Iterator[tuple[str, list[Step]]]:
    """Yield (kind, steps) of a session, which ends with a product that must be computed.

    The steps of an element must be taken before the next element is requested, because an element
    depends on what the model has loaded.
    """
    made = _Elements(config, rng, model)
    for _ in range(count):
        kind = str(rng.choice(_MAKERS, p=_WEIGHTS / _WEIGHTS.sum()))
        yield kind, list(_steps(rng, config.lanes, getattr(made, kind)()))
        if model.missing > _MOST or (model.missing and rng.random() < 0.4):
            yield _ending(rng, model)
        if rng.random() < 0.3:
            yield "check", [("check",)]
    if model.missing:
        yield _ending(rng, model)
    yield "good_product", [("push", made.good_product()), ("check",)]
    yield "good_frame", [("push", made.requests.status()), ("check",)]


def _steps(rng: np.random.Generator, lanes: int, data: bytes) -> Iterator[Step]:
    """Yield steps that feed an element: at once, or with a pause, a reset or an end inside."""
    if rng.random() < 0.1:
        yield "stall", int(rng.integers(1 << 32)), *(
            float(rng.choice(_SHARES)) for _ in range(2))
    cut = lanes * int(rng.integers(0, len(data) // lanes + 1))
    event = rng.choice(["none", "wait", "abandon", "reset"], p=[0.8, 0.12, 0.05, 0.03])
    if event == "none":
        yield "push", data
        return
    yield "push", data[:cut]
    if event != "abandon" or rng.random() < 0.5:
        yield "wait", int(rng.integers(1, 400))
    if event != "wait":
        yield (str(event),)
    yield "push", data[cut:]


def _ending(rng: np.random.Generator, model: DeviceModel) -> tuple[str, list[Step]]:
    """Return steps that end the current frame: its missing words, an abandon, or a reset."""
    if model.missing <= _MOST and rng.random() < 0.6:
        kind = rng.choice(["rest of random words", "rest of zeros"])
        size = model.missing
        return str(kind), [("push", bytes(size) if kind == "rest of zeros" else rng.bytes(size))]
    kind = str(rng.choice(["abandon", "reset"]))
    return f"ended by {kind}", [(kind,)]
