"""Where everything stands on a board's bus: one table for gateware, driver and docs.

Addresses are in bytes, registers 32 bits. What is written over a link that may repeat and reorder
has to do no harm when it comes twice or late: indices only grow, and a descriptor or a restart
counts only with the one number that is due.
"""

__all__ = ["COUNT_BITS", "CSR", "CSR_BASE", "CSR_STEP", "DESCRIPTORS", "MAGIC", "MEMORY",
           "REGISTERS", "UNIT", "register"]

#: First byte of the memory.
MEMORY = 0x4000_0000
#: First register, and distance from one peripheral's to the next's.
CSR_BASE, CSR_STEP = 0xF000_0000, 0x800
#: Peripherals in the order of their registers.
CSR = ("tritstream", "sdram", "ddrphy")
#: Addresses and lengths of descriptors count units of so many bytes, a request's alignment.
UNIT = 64
#: Descriptors that wait at most.
DESCRIPTORS = 512
#: Indices count modulo 2^32; two that are compared are less than half of that apart.
COUNT_BITS = 32
#: What the first register reads.
MAGIC = 0x3154_5354     # "TST1"

#: Registers of the peripheral, in order, and what they are.
REGISTERS = {
    "magic":   "constant",
    "ready":   "1 once the memory has been started",
    "levels":  "bytes of memory at a time whose sampling a host must set, 0 if none",
    "lanes":   "bytes of a word of the core",
    "memory":  "bytes of memory",
    "ring":    "bytes at its end that hold answers",
    "align":   "answers begin at multiples of so many bytes",
    "session": "restarts so far",
    "restart": "write session + 1: forget descriptors and core state; anything else is ignored",
    "address": "of the next descriptor, in units from the start of memory",
    "length":  "of the next descriptor, in units",
    "index":   "write tail: the descriptor is taken; anything else is ignored",
    "tail":    "descriptors taken so far",
    "head":    "descriptors whose words the core has got",
    "written": "units of `align` bytes written into the ring so far",
    "take":    "write a count above `taken`, at most `written`: the ring is free up to there",
    "taken":   "units given back so far",
}


def register(name: str) -> int:
    """Address of a register of the peripheral."""
    return CSR_BASE + CSR_STEP * CSR.index("tritstream") + 4 * list(REGISTERS).index(name)
