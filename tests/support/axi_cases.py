"""Simulated memory-mapped cores for tests of the driver."""

import asyncio

from tritstream.host.open_device import open_device

__all__ = ["CORE", "core_of", "use"]

#: One build for all short tests, and a memory that pauses in a tenth of the cycles.
CORE = "axi-sim:channels=4,lanes=8,max_k=1024,memory=2,stalls=0.1"


def core_of(device):
    """The simulated core behind a channel."""
    return device._transport._bus._core._window._core


def use(work, spec=CORE):
    """The result of ``await work(device)``; no master has broken a rule of AXI."""
    async def within():
        async with opened as device:
            core = core_of(device.devices[0])
            found = await work(device)
            assert core.violations == 0
            return found

    opened = open_device(spec)
    return asyncio.run(within())
