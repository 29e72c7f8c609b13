"""Products on the simulated memory-mapped core, without a driver."""

import numpy as np

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.config import DeviceConfig
from tritstream.sim.axi_build import build_axi
from tritstream.sim.axi_channel import SimulatedChannel, Window
from tritstream.sim.axi_core import SimulatedCore

from support.frames import split_frame
from support.wire import ACK, DONE, RESULT

__all__ = ["CONFIG", "LANES", "WINDOW", "ask", "check", "responses", "session"]

LANES = 8
#: The core that all tests of this kind compile.
CONFIG = AxiConfig(DeviceConfig(LANES, 1, 1024), 2)
WINDOW = Window(1 << 22, 1 << 16)


def session(timing=None, skew=0):
    """Return a core and its channels, which have begun a session."""
    memories = [WINDOW.memory(0x7_0000_0000 + (number << 40))
                for number in range(CONFIG.channels)]
    core = SimulatedCore(build_axi(CONFIG), memories)
    core.skew(skew)
    for number in range(CONFIG.channels if timing else 0):
        core.set_timing(number, timing, number)
    channels = [SimulatedChannel(core, number, memory, WINDOW)
                for number, memory in enumerate(memories)]
    for channel in channels:
        channel.restart()
    return core, channels


def ask(channel, *requests):
    """Write requests to the memory, each with a descriptor."""
    place = 0
    for request in requests:
        channel.data[place:place + len(request)] = np.frombuffer(request, np.uint8)
        channel.ask(place, len(request))
        place += len(request)


def responses(channel, *payloads):
    """Return (opcode, sequence, arg0, arg1, payload) of responses with payloads of these sizes."""
    size = sum(part + -part % LANES for payload in payloads for part in (20, payload, 4))
    data = bytearray(channel.answers(size))

    def pull(size):
        part = bytes(data[:size])
        del data[:size]
        return part

    found = [split_frame(pull, LANES) for _ in payloads]
    assert not data
    return found


def check(core, channel, *jobs):
    """Run products; every row equals golden."""
    ask(channel, *(request for job in jobs
                   for request in (job.activations(), job.scales(), job.gemv())))
    found = responses(channel, *(size for job in jobs
                                 for size in (0, 0, *[40 * LANES] * job.blocks, 32)))
    for job in jobs:
        mine, found = found[:3 + job.blocks], found[3 + job.blocks:]
        assert [one[0] for one in mine] == [ACK, ACK, *[RESULT] * job.blocks, DONE]
        assert mine[2:-1] == job.results(range(job.blocks))
    assert core.breaches(channel.number) == (0, "")
