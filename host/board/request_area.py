"""Memory of a board for requests: where they are written, and in what pieces."""

from collections import deque
from collections.abc import Iterable, Iterator

from tritstream.host.transports.base import Stored
from tritstream.hw.soc.registers import UNIT

__all__ = ["REQUEST_BYTES", "RequestArea", "byte_count", "runs"]

#: Bytes of memory, before the ring of responses, for requests on their way to the core.
REQUEST_BYTES = 1 << 18


class RequestArea:
    """Allocator of memory for requests, used as a ring; reading a descriptor frees its bytes.

    An address is reused as late as possible. A write that the network delivers late then hits
    bytes that are no longer needed, or it damages a frame, whose CRC reveals the damage.

    Parameters
    ----------
    start : int
        Address of the first byte.
    session : int
        Number of the session. Each of eight sessions in a row begins at another place. A late write
        of an earlier session would otherwise put a valid frame in place of one of this session,
        with the same sequence number.
    """

    def __init__(self, start: int, session: int = 0):
        self._start, self._at = start, session * (REQUEST_BYTES // 8) % REQUEST_BYTES
        self._used: deque[tuple[int, int, int]] = deque()

    def take(self, size: int, index: int) -> tuple[int, int | None]:
        """Return an address for ``size`` bytes, and the descriptor to wait for before, if any.

        The bytes are free again when the board has read descriptor ``index``.
        """
        before = None
        if self._at + size > REQUEST_BYTES:
            while self._used and self._used[0][1] > self._at:      # left over from the last round
                before = self._used.popleft()[2]
            self._at = 0
        first, last = self._at, self._at + size
        while self._used and first <= self._used[0][0] < last:
            before = self._used.popleft()[2]
        self._used.append((first, last, index))
        self._at = last
        return self._start + first, before


def runs(buffers: Iterable[bytes | memoryview | Stored]) -> Iterator[bytes | memoryview | Stored]:
    """Yield stored payloads as they are, and bytes in runs of a size that suits the area.

    Short buffers are joined, long ones are split.
    """
    joined = b""
    for buffer in [*buffers, None]:
        if isinstance(buffer, bytes | memoryview) and len(buffer) < UNIT * 64:
            joined += buffer
            continue
        if joined:
            yield joined
            joined = b""
        if isinstance(buffer, Stored):
            yield buffer
        elif buffer is not None:
            for at in range(0, len(buffer), REQUEST_BYTES // 8):
                yield buffer[at:at + REQUEST_BYTES // 8]


def byte_count(buffer: bytes | memoryview | Stored) -> int:
    """Return the bytes that have to be written to memory for a buffer: none if it is stored."""
    return 0 if isinstance(buffer, Stored) else len(buffer)
