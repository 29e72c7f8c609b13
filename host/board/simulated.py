"""Simulated memory-mapped core: ``axi-sim:channels=4,lanes=32``."""

import asyncio
import mmap
from pathlib import Path

from tritstream.host.board.axi_bus import LEAST_BYTES, AxiBus
from tritstream.host.board.core import Buffer, Core, Waiter, Window
from tritstream.host.board.transport import BoardTransport
from tritstream.hw.axi.config import AxiConfig
from tritstream.sim.axi_build import build_axi
from tritstream.sim.axi_core import ChannelMemory, SimulatedCore

__all__ = ["SimulatedWaiter", "SimulatedWindow", "open_simulated"]

#: Clock by which cycles become seconds.
_CLOCK = 250e6
#: Cycles that are simulated before other channels get their turn.
_STEP = 2000
#: Seconds without progress, 1.25 million cycles, after which the driver retries, and seconds of a
#: restart.
_TIMEOUT, _DRAIN = 0.005, 0.001


class SimulatedWindow(Window):
    """Registers of a simulated core. Time passes while they are read and written."""

    def __init__(self, core: SimulatedCore):
        self._core = core

    def read(self, offset: int) -> int:
        """Read a register: :meth:`.Window.read`."""
        return self._core.read(offset)

    def write(self, offset: int, value: int) -> None:
        """Write a register: :meth:`.Window.write`."""
        self._core.write(offset, value)

    def close(self) -> None:
        """Free the simulation."""
        self._core.close()


class SimulatedWaiter(Waiter):
    """Waits for a simulated core by simulating it, with its interrupt or by polling."""

    def __init__(self, core: SimulatedCore, interrupts: bool = True):
        self._core, self.interrupts = core, interrupts

    async def wait(self, seconds: float) -> None:
        """Simulate until an interrupt is requested, or a time has passed: :meth:`.Waiter.wait`."""
        end = self._core.cycles + max(1, round(seconds * _CLOCK))
        while (left := end - self._core.cycles) > 0:
            requested = self._core.wait(min(_STEP, left))
            await asyncio.sleep(0)
            if requested:
                break

    def now(self) -> float:
        """Return the simulated time."""
        return self._core.cycles / _CLOCK


def open_simulated(
    config: AxiConfig, memory: int = 256, file: str | None = None, latency: int = 64,
    stalls: float = 0.0, seed: int = 1, interrupts: bool = True,
) -> list[BoardTransport]:
    """Open a simulated core; return the transport to each channel.

    Parameters
    ----------
    config : AxiConfig
        Build parameters of the core.
    memory : int
        MB of 2^20 bytes per channel.
    file : str, optional
        File that is the memory of the channels, one after the other, and keeps its contents. It is
        created if it does not exist. By default, the memory is forgotten with the transports.
    latency, stalls, seed
        Timing of the memories: :class:`.SimulatedCore`.
    interrupts : bool
        Whether the driver uses the interrupt.

    Raises :class:`ValueError` for a memory that is too small or a file of another size,
    :class:`OSError` for a file that cannot be used, :class:`.BuildError` if the core cannot be
    built.
    """
    size = memory << 20
    if size < LEAST_BYTES:
        raise ValueError(f"memory={memory} is too small: a channel needs "
                         f"{-(-LEAST_BYTES >> 20)} MB or more")
    build = build_axi(config)
    data = memoryview(_mapped(config.channels * size, file))
    # Every channel has a memory of its own, beyond 32 bits.
    buffers = [Buffer(data[channel * size:(channel + 1) * size], (1 + channel) << 36)
               for channel in range(config.channels)]
    simulated = SimulatedCore(build, [ChannelMemory(each.data, each.address) for each in buffers],
                              latency, stalls, seed)
    core = Core(SimulatedWindow(simulated), SimulatedWaiter(simulated, interrupts), buffers,
                "axi-sim")
    about = {"engine": build.engine, "rtl_sha256": build.rtl_sha256}
    return [BoardTransport(AxiBus(core, channel, buffer, 0, size, _DRAIN), _TIMEOUT, about)
            for channel, buffer in enumerate(buffers)]


def _mapped(size: int, file: str | None) -> mmap.mmap:
    """Return memory that is zero, or that is a file."""
    if file is None:
        return mmap.mmap(-1, size)
    path = Path(file)
    path.touch()
    with path.open("r+b") as opened:
        found = opened.seek(0, 2)
        if found not in (0, size):
            raise ValueError(f"{file}: has {found} bytes, and the channels have {size}; give "
                             "another file, or the same channels and memory as before")
        opened.truncate(size)
        return mmap.mmap(opened.fileno(), size)
