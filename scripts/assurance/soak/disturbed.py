"""Transport to a simulated device, with link errors at chosen bytes."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from tritstream.host.errors import TransportTimeout
from tritstream.host.transports.base import FOLD_WORDS, Stored, Transport
from tritstream.hw.protocol import HEADER_BYTES, MAGIC, REQUEST_ALIGN, Opcode
from tritstream.scripts.assurance.frames import frame
from tritstream.sim.native import NativeDevice, SimulationIdle

__all__ = ["ANSWER_FAULTS", "REQUEST_FAULTS", "Disturbance", "DisturbedTransport"]

#: Kinds of errors in requests, and in responses.
REQUEST_FAULTS = ("flip", "lose", "repeat", "garbage", "reset pin", "abandon pin", "RESET frame")
ANSWER_FAULTS  = ("flip answer", "lose answer", "repeat answer")

_MAGIC = MAGIC.to_bytes(2, "little")
# No request of the driver has this sequence number.
_RESET = frame(Opcode.RESET, 0)


@dataclass(frozen=True)
class Disturbance:
    """Error of the link.

    Members
    -------
    kind : str
        One of :data:`REQUEST_FAULTS` or :data:`ANSWER_FAULTS`.
    at : int
        Offset in bytes, in all requests or in all responses, at which it happens.
    size : int
        Number of bits that are flipped; of words that are lost, repeated or inserted; or of cycles
        before a reset.
    """

    kind: str
    at:   int
    size: int


class DisturbedTransport(Transport):
    """Transport to a device of this process over a bad link: :class:`.Transport`.

    Parameters
    ----------
    device : NativeDevice
        The device, which is closed with the transport.
    disturbances : sequence of Disturbance
    rng : numpy.random.Generator
        Generator for inserted words and for the bits to flip.
    fold_words : int or None
        Words that folding must save.

    Members
    -------
    done : Counter
        Number of errors so far, by kind.
    """

    def __init__(self, device: NativeDevice, disturbances, rng: np.random.Generator,
                 fold_words: int | None = FOLD_WORDS):
        self._device, self._rng, self.fold_words = device, rng, fold_words
        self._coming = {way: sorted((one for one in disturbances if one.kind in way),
                                    key=lambda one: one.at)
                        for way in (REQUEST_FAULTS, ANSWER_FAULTS)}
        self._sent = self._come = 0
        self._answers = bytearray()
        self.done: Counter = Counter()

    async def send(self, data: bytes | memoryview | Stored) -> None:
        """Queue ``data`` after the errors that fall into it."""
        view = memoryview(self._bytes_only(data)).cast("B")
        starts = bytes(view[:2]) == _MAGIC and len(view) >= REQUEST_ALIGN
        for one in self._now(REQUEST_FAULTS, self._sent + len(view)):
            at = max(0, one.at - self._sent)
            at -= at % self._device.lanes
            if one.kind == "RESET frame" and not starts:
                self._put_off(one, self._sent + len(view))
                continue
            self.done[one.kind] += 1
            view = getattr(self, "_" + one.kind.replace(" ", "_"))(view, at, one.size)
        self._sent += len(view)
        self._device.push(view)

    async def recv(self, count: int) -> bytes:
        """Run the device until ``count`` bytes have arrived."""
        while len(self._answers) < count:
            try:
                come = self._device.pull(count - len(self._answers))
            except SimulationIdle as error:
                raise TransportTimeout(str(error)) from error
            self._take(come)
        data = bytes(self._answers[:count])
        del self._answers[:count]
        return data

    def ready(self) -> bytes:
        """Return bytes that came together with others: :meth:`.Transport.ready`."""
        self._take(self._device.ready())
        data = bytes(self._answers)
        self._answers.clear()
        return data

    def close(self) -> None:
        """Delete the device."""
        self._device.close()

    def _take(self, come):
        """Keep bytes that came from the device, after the errors that fall into them."""
        for one in self._now(ANSWER_FAULTS, self._come + len(come)):
            self.done[one.kind] += 1
            come = getattr(self, "_" + one.kind.replace(" ", "_"))(
                come, max(0, one.at - self._come), one.size)
        self._come += len(come)
        self._answers += come

    def _now(self, way, end):
        """Remove and return the errors before byte ``end``."""
        coming = self._coming[way]
        now = [one for one in coming if one.at < end]
        del coming[:len(now)]
        return now

    def _put_off(self, one, at):
        self._coming[REQUEST_FAULTS].insert(0, Disturbance(one.kind, at, one.size))

    def _flip(self, view, at, size):
        data = bytearray(view)
        for _ in range(size):
            place = min(at + int(self._rng.integers(HEADER_BYTES)), len(data) - 1)
            data[place] ^= 1 << int(self._rng.integers(8))
        return memoryview(bytes(data))

    def _lose(self, view, at, size):
        return memoryview(bytes(view[:at]) + bytes(view[at + size * self._device.lanes:]))

    def _repeat(self, view, at, size):
        return memoryview(bytes(view[:at + size * self._device.lanes]) + bytes(view[at:]))

    def _garbage(self, view, at, size):
        words = self._rng.bytes(size * self._device.lanes)
        return memoryview(bytes(view[:at]) + words + bytes(view[at:]))

    def _reset_pin(self, view, at, size):
        """Reset the device within a frame, so that it receives only the rest of the frame."""
        self._device.push(view[:at])
        self._device.idle(size)
        self._answers += self._device.ready()
        self._device.reset()
        return view[at:]

    def _abandon_pin(self, view, at, size):
        self._device.push(view[:at])
        self._device.abandon()
        return view[at:]

    def _RESET_frame(self, view, at, size):
        """Insert a RESET from another sender, which discards activations and scales."""
        return memoryview(_RESET + bytes(view))

    def _flip_answer(self, come, at, size):
        return bytes(self._flip(come, at, size))

    def _lose_answer(self, come, at, size):
        return come[:at] + come[at + size:]

    def _repeat_answer(self, come, at, size):
        return come[:at + size] + come[at:]
