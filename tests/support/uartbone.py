"""Model of LiteX's UARTBone: commands from a serial line become accesses of a bus."""

import time
from collections.abc import Callable

__all__ = ["Bridge"]

WRITES, READS, HEAD, GIVES_UP = (1, 3), (2, 4), 6, 0.1
#: The bus has 2^30 words.
WORDS = 1 << 30


class Bridge:
    """The bridge as `litex.soc.cores.uart.UARTBone` is: its test compares the two.

    Parameters
    ----------
    write : callable
        Writes a word of 32 bits: index of the word on the bus, value.
    read : callable
        Returns the word with an index.
    now : callable
        Time in seconds.
    """

    def __init__(self, write: Callable[[int, int], None], read: Callable[[int], int],
                 now: Callable[[], float] = time.monotonic):
        self._write, self._read, self._now = write, read, now
        self._command, self._words, self._began = bytearray(), 0, 0.0

    def feed(self, data: bytes) -> bytes:
        """Take bytes that come together, and return the response to the first read among them.

        Bytes behind a read are lost, because the bridge has no room for them while it responds.
        """
        for byte in data:
            if not self._command:
                self._began = self._now()
            elif self._now() - self._began > GIVES_UP:
                self._command.clear()
                self._began = self._now()
            self._command.append(byte)
            response = self._step()
            if response is not None:
                return response
        return b""

    def _step(self) -> bytes | None:
        command = self._command
        if len(command) < HEAD:
            return None
        opcode, count = command[:2]
        address, step = int.from_bytes(command[2:HEAD], "big"), opcode < 3
        if opcode in WRITES:
            done, rest = divmod(len(command) - HEAD, 4)
            if done and not rest:
                index = (address + step * (done - 1)) % WORDS
                self._write(index, int.from_bytes(command[-4:], "big"))
            if rest or done < count:
                return None
        self._command = bytearray()
        if opcode not in READS:
            return None
        return b"".join(self._read((address + step * place) % WORDS).to_bytes(4, "big")
                        for place in range(count))
