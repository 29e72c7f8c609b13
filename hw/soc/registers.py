"""Address map and registers of a board with memory, shared by gateware, driver and docs.

Addresses are in bytes, registers have 32 bits. The link may duplicate and reorder writes, so a
write that arrives twice or late must have no effect. For this purpose indices only increase, and a
descriptor or a restart is accepted only with the expected number.
"""

__all__ = ["COUNT_BITS", "CSR", "CSR_BASE", "CSR_STEP", "DESCRIPTORS", "MAGIC", "MEMORY",
           "REGISTERS", "UNIT", "register"]

#: Address of the memory.
MEMORY = 0x4000_0000
#: Address of the first register, and distance in bytes between the registers of two peripherals.
CSR_BASE, CSR_STEP = 0xF000_0000, 0x800
#: Peripherals in the order of their registers.
CSR = ("tritstream", "sdram", "ddrphy")
#: Unit in bytes of addresses and lengths in descriptors: the alignment of requests.
UNIT = 64
#: Largest number of descriptors that wait.
DESCRIPTORS = 512
#: Bits of indices, which wrap around. Two indices that are compared differ by less than 2^31.
COUNT_BITS = 32
#: Value of the first register.
MAGIC = 0x3154_5354     # "TST1"

#: Registers of the peripheral in address order, with a description.
REGISTERS = {
    "magic":   "constant",
    "ready":   "1 when the memory has been initialized",
    "levels":  "bytes of memory per sampling setting that a host must make, 0 if none is needed",
    "lanes":   "bytes per word of the core",
    "memory":  "bytes of memory",
    "ring":    "bytes at the end of the memory that hold responses",
    "align":   "alignment of responses, in bytes",
    "session": "restarts so far",
    "restart": "write session + 1: discard descriptors and core state; other values are ignored",
    "address": "address of the next descriptor, in units from the start of memory",
    "length":  "length of the next descriptor, in units",
    "index":   "write tail: the descriptor is taken; other values are ignored",
    "tail":    "descriptors taken so far",
    "head":    "descriptors whose words the core has received",
    "written": "units of `align` bytes written into the ring so far",
    "take":    "write a count above `taken`, at most `written`: the ring is free up to that count",
    "taken":   "units released so far",
}


def register(name: str) -> int:
    """Return the address in bytes of a register of the peripheral."""
    return CSR_BASE + CSR_STEP * CSR.index("tritstream") + 4 * list(REGISTERS).index(name)
