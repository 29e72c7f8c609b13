"""The far end of a simulated board's Ethernet cable: datagrams to frames, and back."""

from struct import Struct
from zlib import crc32

from tritstream.sim.board import SimulatedBoard

__all__ = ["Cable"]

#: Addresses of the board, as in tritstream.hw.soc.simulated, and of this end.
BOARD_IP, BOARD_MAC, PORT = bytes([192, 168, 1, 50]), bytes.fromhex("10e2d5000000"), 1234
_IP, _MAC = bytes([192, 168, 1, 100]), bytes.fromhex("020000000001")

_PREAMBLE = b"\x55" * 7 + b"\xd5"
_ETHERNET = Struct(">6s6sH")
_IPV4     = Struct(">BBHHHBBH4s4s")
_UDP      = Struct(">HHHH")
_ARP      = Struct(">HHBBH6s4s6s4s")
_TYPE_IPV4, _TYPE_ARP, _REQUEST, _REPLY, _PROTOCOL_UDP = 0x0800, 0x0806, 1, 2, 17


class Cable:
    """Carries datagrams to and from a simulated board.

    The board sees complete Ethernet frames: preamble, ARP, IPv4, UDP, padding, checksum.

    Parameters
    ----------
    board : SimulatedBoard
    """

    def __init__(self, board: SimulatedBoard):
        self._board = board

    def send(self, datagram: bytes) -> None:
        """Send a datagram to the board's port."""
        udp = _UDP.pack(PORT, PORT, _UDP.size + len(datagram), 0) + datagram
        head = _IPV4.pack(0x45, 0, _IPV4.size + len(udp), 0, 0, 64, _PROTOCOL_UDP, 0, _IP, BOARD_IP)
        head = head[:10] + _checksum(head).to_bytes(2, "big") + head[12:]
        self._board.frame_in(_framed(_TYPE_IPV4, BOARD_MAC, head + udp))

    def run(self, cycles: int) -> list[bytes]:
        """Simulate a number of cycles; return the datagrams from the board."""
        self._board.run(cycles)
        found = []
        while frame := self._board.frame_out():
            datagram = self._take(_unframed(frame))
            if datagram is not None:
                found.append(datagram)
        return found

    def _take(self, frame: bytes) -> bytes | None:
        *_, kind = _ETHERNET.unpack_from(frame)
        body = frame[_ETHERNET.size:]
        if kind == _TYPE_ARP:
            self._answer(body)
        if kind != _TYPE_IPV4 or body[9] != _PROTOCOL_UDP:
            return None
        _, _, size, _ = _UDP.unpack_from(body, _IPV4.size)
        return body[_IPV4.size + _UDP.size:_IPV4.size + size]

    def _answer(self, body: bytes) -> None:
        *kinds, operation, mac, ip, _, wanted = _ARP.unpack_from(body)
        if operation == _REQUEST and wanted == _IP:
            reply = _ARP.pack(*kinds, _REPLY, _MAC, _IP, mac, ip)
            self._board.frame_in(_framed(_TYPE_ARP, mac, reply))


def _framed(kind: int, to: bytes, body: bytes) -> bytes:
    """Frame with preamble, padding and checksum."""
    frame = (_ETHERNET.pack(to, _MAC, kind) + body).ljust(60, b"\0")
    return _PREAMBLE + frame + crc32(frame).to_bytes(4, "little")


def _unframed(frame: bytes) -> bytes:
    """Bytes between preamble and checksum; raise ValueError if the checksum is wrong."""
    body, check = frame[len(_PREAMBLE):-4], frame[-4:]
    if frame[:len(_PREAMBLE)] != _PREAMBLE or crc32(body).to_bytes(4, "little") != check:
        raise ValueError(f"the board sent a damaged frame: {frame.hex()}")
    return body


def _checksum(head: bytes) -> int:
    total = sum(int.from_bytes(head[at:at + 2], "big") for at in range(0, len(head), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
