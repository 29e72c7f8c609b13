"""The C example of the memory-mapped core as a library, in front of a simulated core."""

import ctypes
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_uint8, c_uint32, c_uint64

from tritstream.sim.axi_build import build_axi
from tritstream.sim.axi_core import ChannelMemory, SimulatedCore

__all__ = ["run_example"]

SIZE, ADDRESS, CHANNEL = 1 << 20, 0x5_7000_0000, 1
#: Cycles after which registers read as all ones, so that the example ends with an error.
MOST_CYCLES = 5_000_000


class _Channel(ctypes.Structure):
    _fields_ = [("number", c_uint32), ("memory", POINTER(c_uint8)), ("address", c_uint64),
                ("bytes", c_uint64), ("lanes", c_uint32), ("seen", c_uint32)]


def run_example(library, config, *arguments):
    """Run ``main`` of the example, and return its exit code.

    The memory of the core is another one than that of the example, so that a missing
    synchronization fails.
    """
    here, there = (c_uint8 * SIZE)(), bytearray(SIZE)
    memory = ChannelMemory(memoryview(there), ADDRESS)
    with SimulatedCore(build_axi(config), [memory] * config.channels) as core:
        def read(offset):
            return core.read(offset) if core.cycles < MOST_CYCLES else 0xFFFF_FFFF

        def copy(give, first, size):
            if give:
                there[first:first + size] = bytes(here[first:first + size])
            else:
                here[first:first + size] = there[first:first + size]

        calls = (CFUNCTYPE(c_uint32, c_uint32)(read),
                 CFUNCTYPE(None, c_uint32, c_uint32)(core.write),
                 CFUNCTYPE(None, c_int, c_uint64, c_uint64)(copy))
        example = ctypes.CDLL(str(library))
        example.simulate(ctypes.byref(_Channel(CHANNEL, here, ADDRESS, SIZE)), *calls)
        words = [b"gemv", *(str(argument).encode() for argument in arguments)]
        code = example.example_main(len(words), (c_char_p * len(words))(*words))
        ctypes.CDLL(None).fflush(None)
        return code
