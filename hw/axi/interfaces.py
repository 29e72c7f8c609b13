"""Signatures of AXI4 and AXI4-Lite, as seen from the master, and the layout of descriptors."""

from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["ADDRESS_BITS", "ID", "LITE_ADDRESS_BITS", "AxiLite", "AxiRead", "AxiWrite",
           "Descriptor", "attributes"]

#: Bits of an address of memory, and of a register.
ADDRESS_BITS, LITE_ADDRESS_BITS = 64, 16
#: The only transaction ID. Responses of equal ID arrive in order.
ID = 0

#: Segment of memory, in units of :data:`tritstream.hw.soc.registers.UNIT` bytes.
Descriptor = StructLayout({"address": 32, "length": 32})


def AxiRead(lanes: int) -> Signature:
    """Return the signature of the read channels of AXI4, ``8 * lanes`` data bits wide.

    Signals that never change are left out: :func:`attributes`.
    """
    return Signature({
        "araddr":  Out(ADDRESS_BITS),
        "arlen":   Out(8),
        "arvalid": Out(1),
        "arready": In(1),
        "rdata":   In(8 * lanes),
        "rresp":   In(2),
        "rlast":   In(1),
        "rvalid":  In(1),
        "rready":  Out(1),
    })


def AxiWrite(lanes: int) -> Signature:
    """Return the signature of the write channels of AXI4, ``8 * lanes`` data bits wide.

    Signals that never change are left out: :func:`attributes`.
    """
    return Signature({
        "awaddr":  Out(ADDRESS_BITS),
        "awlen":   Out(8),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata":   Out(8 * lanes),
        "wlast":   Out(1),
        "wvalid":  Out(1),
        "wready":  In(1),
        "bresp":   In(2),
        "bvalid":  In(1),
        "bready":  Out(1),
    })


def attributes(lanes: int) -> dict[str, tuple[int, int]]:
    """Return bits and value of the signals of AXI4 that never change, without ``ar`` and ``aw``.

    Bursts are incrementing and as wide as the bus. Caches may modify and buffer, but not allocate.
    """
    return {
        "id":    (1, ID),
        "size":  (3, lanes.bit_length() - 1),
        "burst": (2, 0b01),
        "lock":  (1, 0),
        "cache": (4, 0b0011),
        "prot":  (3, 0b000),
        "qos":   (4, 0),
    }


#: AXI4-Lite with data of 32 bits.
AxiLite = Signature({
    "awaddr":  Out(LITE_ADDRESS_BITS),
    "awprot":  Out(3),
    "awvalid": Out(1),
    "awready": In(1),
    "wdata":   Out(32),
    "wstrb":   Out(4),
    "wvalid":  Out(1),
    "wready":  In(1),
    "bresp":   In(2),
    "bvalid":  In(1),
    "bready":  Out(1),
    "araddr":  Out(LITE_ADDRESS_BITS),
    "arprot":  Out(3),
    "arvalid": Out(1),
    "arready": In(1),
    "rdata":   In(32),
    "rresp":   In(2),
    "rvalid":  In(1),
    "rready":  Out(1),
})
